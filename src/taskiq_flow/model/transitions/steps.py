"""Steps: opened, ended, and what follows from that."""

from __future__ import annotations

from collections import deque
from typing import Final

from taskiq_flow.events import EventType
from taskiq_flow.model.records import (
    NONE_VALUE,
    Failed,
    Join,
    OnFailure,
    RunStatus,
    StepKind,
    StepStatus,
)
from taskiq_flow.model.state import Effects, RunState, SlotState, SlotStatus, StepState
from taskiq_flow.model.transitions.pace import Pace
from taskiq_flow.model.transitions.slots import open_slot

_STEP_ENDS: Final = {
    StepStatus.COMPLETED: EventType.STEP_COMPLETED,
    StepStatus.FAILED: EventType.STEP_FAILED,
    StepStatus.SKIPPED: EventType.STEP_SKIPPED,
}
_RUN_ENDS: Final = {
    RunStatus.COMPLETED: EventType.RUN_COMPLETED,
    RunStatus.FAILED: EventType.RUN_FAILED,
    RunStatus.CANCELLED: EventType.RUN_CANCELLED,
}


def open_step(run: RunState, step: StepState, now: float, pace: Pace, effects: Effects) -> bool:
    """Make a step ready; True when that alone completes it."""
    record = step.record
    index = record.index
    step.status = StepStatus.READY
    if record.kind is StepKind.TIMER:
        run.slots[index, 0] = SlotState(
            status=SlotStatus.TIMER, due=now + (record.delay_seconds or 0.0), ready_at=now
        )
        note_sleep(effects, (index, 0), run.slots[index, 0].due)
        return False
    if record.kind is StepKind.EVENT:
        payload = run.inbox.get(record.event or "")
        if payload is not None:
            effects.values[index] = payload
            return True
        until = None if record.delay_seconds is None else now + record.delay_seconds
        run.slots[index, 0] = SlotState(status=SlotStatus.PARKED, due=until, ready_at=now)
        note_sleep(effects, (index, 0), until)
        effects.events.append((EventType.STEP_PARKED, index, 0, 0, record.event or ""))
        return False
    if record.kind is StepKind.MAP:
        if step.length is None and record.items_from is not None:
            step.length = run.steps[record.items_from].out_length
        if step.length is not None:
            return open_items(run, step, now, pace, effects)
    open_slot(run, (index, 0), now, pace, effects)
    return False


def open_items(run: RunState, step: StepState, now: float, pace: Pace, effects: Effects) -> bool:
    """Open the slots of a map step; True when it has no items and so is complete."""
    length = step.length or 0
    step.left = step.out_length = length
    for number in range(min(step.record.slots, length)):
        open_slot(run, (step.record.index, number), now, pace, effects)
    return length == 0


def note_sleep(effects: Effects, at: tuple[int, int], due: float | None) -> None:
    effects.sleeping.append(at)
    if due is not None and (effects.retry_at is None or due < effects.retry_at):
        effects.retry_at = due


def complete_step(
    run: RunState,
    index: int,
    status: StepStatus,
    now: float,
    pace: Pace,
    effects: Effects,
    *,
    skip: tuple[int, ...] = (),
) -> None:
    """End a step; open, skip or complete what follows from it, and end the run with the last."""
    settle_steps(run, deque([(index, status)]), now, pace, effects, not_taken=frozenset(skip))


def settle_steps(
    run: RunState,
    todo: deque[tuple[int, StepStatus | None]],
    now: float,
    pace: Pace,
    effects: Effects,
    *,
    not_taken: frozenset[int] = frozenset(),
) -> None:
    """Work off (step, how it ended); None opens a step. A queue: skips may cascade for long."""
    while todo:
        index, status = todo.popleft()
        step = run.steps[index]
        if status is None:
            if not open_step(run, step, now, pace, effects):
                continue
            status = StepStatus.COMPLETED
        step.status, step.ended_at, step.retry_at = status, now, None
        run.remaining -= 1
        skips = status is StepStatus.SKIPPED
        tries = 0 if skips else step.attempt + (status is StepStatus.COMPLETED)
        effects.events.append((_STEP_ENDS[status], index, None, tries, ""))
        for successor in step.record.successors:
            follower = run.steps[successor]
            follower.waiting_for -= 1
            if skips or successor in not_taken:
                follower.skipped += 1
            # One taken over from an earlier run has ended before what it needs.
            if follower.waiting_for == 0 and not follower.status.is_final:
                todo.append((successor, verdict_on(follower)))
        not_taken = frozenset()
    if run.remaining == 0:
        ended = RunStatus.COMPLETED if run.failed_step is None else RunStatus.FAILED
        end_run(run, ended, now, effects)


def verdict_on(step: StepState) -> StepStatus | None:
    """Say whether a step whose dependencies have all ended is skipped, or opens (None)."""
    if step.skipped == 0:
        return None
    if step.record.join is Join.ANY and step.skipped < step.record.need:
        return None
    return StepStatus.SKIPPED


def fail_step(
    run: RunState, index: int, failed: Failed, now: float, pace: Pace, effects: Effects
) -> None:
    step = run.steps[index]
    step.error = failed.error
    run.failures += 1
    if failed.then is OnFailure.STOP:
        step.status, step.ended_at, step.retry_at = StepStatus.FAILED, now, None
        run.remaining -= 1
        effects.events.append((EventType.STEP_FAILED, index, None, step.attempt, ""))
        run.failed_step = index
        end_run(run, RunStatus.FAILED, now, effects, error=failed.error)
        return
    if failed.then is OnFailure.LATER and run.failed_step is None:
        run.failed_step, run.error = index, failed.error
    step.out_length = None  # what a map has done so far is not its output
    if failed.then is OnFailure.PASS:
        effects.values[index] = NONE_VALUE
        complete_step(run, index, StepStatus.FAILED, now, pace, effects)
    else:
        complete_step(
            run, index, StepStatus.FAILED, now, pace, effects, skip=step.record.successors
        )


def end_run(
    run: RunState,
    status: RunStatus,
    now: float,
    effects: Effects,
    *,
    error: bytes | None = None,
    reason: str | None = None,
) -> None:
    """End a run; the one door. Steps that have not ended read as CANCELLED from here on."""
    run.status, run.ended_at, run.reason = status, now, reason
    run.error = error or run.error
    effects.ended = True
    effects.ready.clear()
    effects.claim = None
    effects.events.append((_RUN_ENDS[status], None, None, 0, reason or ""))
