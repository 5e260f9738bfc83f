"""What the outcome of a slot changes."""

from __future__ import annotations

from taskiq_flow.events import EventType
from taskiq_flow.model.records import (
    Aborted,
    Done,
    DoneSequence,
    Expanded,
    Failed,
    Items,
    Outcome,
    Parked,
    Retry,
    RunStatus,
    StepKind,
    StepStatus,
)
from taskiq_flow.model.state import Effects, RunState, SlotState, SlotStatus, StepState
from taskiq_flow.model.transitions.pace import Pace
from taskiq_flow.model.transitions.slots import make_slot_ready
from taskiq_flow.model.transitions.steps import complete_step, end_run, fail_step, open_items


def apply_outcome(
    run: RunState,
    at: tuple[int, int],
    slot: SlotState,
    step: StepState,
    outcome: Outcome,
    now: float,
    pace: Pace,
    effects: Effects,
) -> None:
    index = at[0]
    match outcome:
        case Done():
            effects.values[index] = outcome.value
            complete_step(run, index, StepStatus.COMPLETED, now, pace, effects, skip=outcome.skip)
        case DoneSequence():
            step.out_length = outcome.length
            complete_step(run, index, StepStatus.COMPLETED, now, pace, effects)
        case Expanded():
            step.length = outcome.length
            if _open_expanded(run, at, slot, step, now, pace, effects):
                complete_step(run, index, StepStatus.COMPLETED, now, pace, effects)
        case Items():
            _record_items(run, at, slot, step, outcome, now, pace, effects)
        case Retry():
            slot.attempt += 1
            slot.lost = 0
            step.attempt += 1
            step.error = outcome.error
            _back_off(step, slot, now + outcome.delay_seconds, at, effects)
        case Failed():
            slot.attempt += 1
            step.attempt += 1
            fail_step(run, index, outcome, now, pace, effects)
        case Aborted():
            end_run(run, RunStatus.CANCELLED, now, effects, reason=outcome.reason)
        case Parked():
            timeout = outcome.timeout_seconds
            slot.status = SlotStatus.PARKED
            slot.due = None if timeout is None else now + timeout
            effects.events.append((EventType.STEP_PARKED, index, at[1], slot.attempt + 1, ""))


def _open_expanded(
    run: RunState,
    at: tuple[int, int],
    slot: SlotState,
    step: StepState,
    now: float,
    pace: Pace,
    effects: Effects,
) -> bool:
    """Open a map whose items are now known; its first slot lives on with its memory."""
    if open_items(run, step, now, pace, effects):
        return True
    fresh = run.slots[at]
    slot.status, slot.due, slot.ready_at = fresh.status, fresh.due, fresh.ready_at
    run.slots[at] = slot
    return False


def _record_items(
    run: RunState,
    at: tuple[int, int],
    slot: SlotState,
    step: StepState,
    outcome: Items,
    now: float,
    pace: Pace,
    effects: Effects,
) -> None:
    index = at[0]
    ended = {item.number for item in outcome.done}
    effects.items = {item.number: item.value for item in outcome.done}
    if step.attempts:
        for number in ended:
            step.attempts.pop(number, None)
    step.left -= len(ended)
    step.failed += outcome.errors
    run.failures += outcome.errors
    for retry in outcome.retries:
        step.note_attempt(retry.number, step.attempt_of(retry.number) + 1)
        step.error = retry.error
        step.retry_item(retry.number, now + retry.delay_seconds)
        ended.add(retry.number)
    slot.items = tuple([number for number in slot.items if number not in ended])
    slot.lost = 0
    retry_at = step.next_retry
    if outcome.failed is not None:
        step.failed += 1
        fail_step(run, index, outcome.failed, now, pace, effects)
    elif step.left == 0:
        complete_step(run, index, StepStatus.COMPLETED, now, pace, effects)
    elif (
        slot.items or step.cursor < (step.length or 0) or (retry_at is not None and retry_at <= now)
    ):
        make_slot_ready(slot, now, pace)
        effects.ready.insert(0, at)
    elif retry_at is not None:
        _back_off(step, slot, retry_at, at, effects)


def _back_off(
    step: StepState, slot: SlotState, until: float, at: tuple[int, int], effects: Effects
) -> None:
    slot.status, slot.due, slot.ready_at = SlotStatus.TIMER, until, until
    if step.record.kind is not StepKind.MAP:
        step.status, step.retry_at = StepStatus.RETRYING, until
    effects.retry_at = until
    effects.events.append((EventType.STEP_RETRYING, at[0], at[1], slot.attempt, f"{until:.3f}"))
