"""A worker takes the lease of a slot."""

from __future__ import annotations

from collections import deque

from taskiq_flow.model.limits import LimitBook
from taskiq_flow.model.records import Address, Refusal, RefusalReason
from taskiq_flow.model.state import Effects, RunState, SlotStatus
from taskiq_flow.model.transitions.pace import Pace
from taskiq_flow.model.transitions.slots import claim_of, claim_slot, may_start, rests


def start(
    run: RunState,
    at: tuple[int, int],
    token: str,
    now: float,
    pace: Pace,
    limits: LimitBook,
    want: int = 1,
) -> Effects | Refusal:
    """Take the lease of a slot. The same token again gets the same claim."""
    if run.status.is_final:
        return Refusal(RefusalReason.ENDED)
    slot = run.slots.get(at)
    if slot is None:
        return Refusal(RefusalReason.GONE)
    step = run.steps[at[0]]
    if step.status.is_final or slot.status is SlotStatus.DONE:
        return Refusal(RefusalReason.DONE)
    if slot.status is SlotStatus.RUNNING:
        if slot.token != token:
            return Refusal(RefusalReason.RUNNING)
        return Effects(claim=claim_of(step, at, slot))
    if not may_start(step, slot, now):
        return Refusal(RefusalReason.WAITING, retry_at=slot.due)
    if rests(step, slot, now):
        if slot.due is None:
            return Refusal(RefusalReason.DONE)
        return Refusal(RefusalReason.WAITING, retry_at=slot.due)
    if run.max_parallel is not None and run.running >= run.max_parallel:
        slot.status, slot.due = SlotStatus.BLOCKED, None
        if run.blocked is None:
            run.blocked = deque()
        run.blocked.append(at)
        return Refusal(RefusalReason.LIMITED)
    record = step.record
    if record.limits:
        retry_at = limits.take(record.limits, Address(run.run_id, *at), now, pace.lease)
        if retry_at is not None:
            slot.status, slot.due = SlotStatus.TIMER, retry_at
            return Refusal(RefusalReason.LIMITED, retry_at=retry_at)
    effects = Effects()
    claim_slot(run, at, token, now, pace, want, effects)
    return effects
