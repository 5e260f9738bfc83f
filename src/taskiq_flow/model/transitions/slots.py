"""Slots: made ready, claimed, put aside, let go on."""

from __future__ import annotations

import heapq

from taskiq_flow.events import EventType
from taskiq_flow.model.records import RunStatus, StepKind, StepStatus
from taskiq_flow.model.state import Claim, Effects, RunState, SlotState, SlotStatus, StepState
from taskiq_flow.model.transitions.pace import Pace


def make_slot_ready(
    slot: SlotState, now: float, pace: Pace, *, keep_ready_at: bool = False
) -> None:
    slot.status, slot.due, slot.kicks = SlotStatus.READY, now + pace.kick, 0
    if not keep_ready_at:
        slot.ready_at = now


def open_slot(
    run: RunState,
    at: tuple[int, int],
    now: float,
    pace: Pace,
    effects: Effects,
) -> None:
    run.slots[at] = SlotState(status=SlotStatus.READY, due=now + pace.kick, ready_at=now)
    effects.ready.append(at)


def may_start(step: StepState, slot: SlotState, now: float) -> bool:
    if slot.status is SlotStatus.READY:
        return True
    if slot.status is not SlotStatus.TIMER or step.record.kind is StepKind.TIMER:
        return False
    return slot.due is not None and slot.due <= now


def rests(step: StepState, slot: SlotState, now: float) -> bool:
    """Put a slot that finds nothing to do aside, until the next retry of its step if any."""
    if not step.status.is_final:
        if step.record.kind is not StepKind.MAP or step.length is None:
            return False
        if slot.items or step.cursor < step.length:
            return False
        first = step.next_retry
        if first is not None:
            if first > now:
                slot.status, slot.due, slot.ready_at = SlotStatus.TIMER, first, first
            return first > now
    slot.status, slot.due = SlotStatus.DONE, None
    return True


def claim_slot(
    run: RunState,
    at: tuple[int, int],
    token: str,
    now: float,
    pace: Pace,
    want: int,
    effects: Effects,
) -> None:
    """Give a slot that does not rest to the holder of a token."""
    slot, step = run.slots[at], run.steps[at[0]]
    if step.record.kind is StepKind.MAP and step.length is not None and not slot.items:
        _take_items(step, slot, want, now)
    slot.status, slot.due = SlotStatus.RUNNING, now + pace.lease
    slot.token = slot.last_token = token
    slot.started_at, slot.kicks = now, 0
    run.running += 1
    if run.status is RunStatus.PENDING:
        run.status, run.started_at = RunStatus.RUNNING, now
        effects.events.append((EventType.RUN_STARTED, None, None, 0, ""))
    if step.started_at is None:
        step.started_at = now
    if step.status is not StepStatus.RUNNING:
        step.status, step.retry_at = StepStatus.RUNNING, None
        effects.events.append((EventType.STEP_STARTED, at[0], at[1], slot.attempt + 1, ""))
    effects.claim = claim_of(step, at, slot)


def claim_of(step: StepState, at: tuple[int, int], slot: SlotState) -> Claim:
    return Claim(
        at=at,
        token=slot.token or "",
        items=tuple([(index, step.attempt_of(index)) for index in slot.items])
        if slot.items
        else (),
        expand=step.record.kind is StepKind.MAP and step.length is None,
    )


def _take_items(step: StepState, slot: SlotState, want: int, now: float) -> None:
    """Take a due retry, else the next items: fewer the fewer are left, so slots end together."""
    slot.lost = 0
    if step.retries and step.retries[0][0] <= now:
        slot.items = (heapq.heappop(step.retries)[1],)
        return
    length = step.length or 0
    share = max(1, (length - step.cursor) // step.record.slots)
    end = min(length, step.cursor + min(max(1, want), share))
    slot.items = tuple(range(step.cursor, end))
    step.cursor = end


def unblock(run: RunState, now: float, pace: Pace, effects: Effects) -> None:
    """Let slots behind the run's own limit go, as many as there is room for."""
    while (
        run.blocked
        and not run.status.is_final
        and (run.max_parallel is None or run.running + len(effects.ready) < run.max_parallel)
    ):
        at = run.blocked.popleft()
        slot = run.slots.get(at)
        if slot is None or slot.status is not SlotStatus.BLOCKED:
            continue
        # The room must not go to one that would not use it: nobody else would wake the next.
        if rests(run.steps[at[0]], slot, now):
            effects.sleeping.append(at)
        else:
            make_slot_ready(slot, now, pace)
            effects.ready.append(at)
