"""A worker keeps a slot, or gives it back."""

from __future__ import annotations

from taskiq_flow.model.limits import LimitBook
from taskiq_flow.model.records import Address, LostReason, RunStatus
from taskiq_flow.model.state import Effects, RunState, SlotStatus
from taskiq_flow.model.transitions.pace import Pace
from taskiq_flow.model.transitions.slots import make_slot_ready, unblock


def renew(
    run: RunState | None,
    at: tuple[int, int],
    token: str,
    now: float,
    pace: Pace,
    limits: LimitBook,
) -> LostReason | None:
    """Extend a lease, or say why it is lost.

    A slot of what has ended keeps its places until it is given back: a thread may still work.
    """
    if run is None:
        return LostReason.ENDED
    lost: LostReason | None = LostReason.TAKEN
    slot = run.slots.get(at)
    if slot is not None and slot.status is SlotStatus.RUNNING and slot.token == token:
        step = run.steps[at[0]]
        slot.due = now + pace.lease
        if step.record.limits:
            limits.extend(step.record.limits, Address(run.run_id, *at), slot.due)
        lost = LostReason.ENDED if step.status.is_final else None
    if run.status is RunStatus.CANCELLED:
        return LostReason.CANCELLED
    return LostReason.ENDED if run.status.is_final else lost


def release(
    run: RunState,
    at: tuple[int, int],
    token: str,
    delay_seconds: float,
    now: float,
    pace: Pace,
    limits: LimitBook,
) -> Effects | None:
    """Give a slot back without counting an attempt; None for a stale token.

    Of a run that has ended it is the place in limits that others get.
    """
    slot = run.slots.get(at)
    if slot is None or slot.status is not SlotStatus.RUNNING or slot.token != token:
        return None
    effects = Effects()
    step = run.steps[at[0]]
    run.running -= 1
    slot.token = slot.last_token = None
    if step.record.limits:
        effects.freed = limits.leave(step.record.limits, Address(run.run_id, *at))
    if run.status.is_final or step.status.is_final:
        slot.status, slot.due = SlotStatus.DONE, None
    elif delay_seconds > 0:
        slot.status, slot.due = SlotStatus.TIMER, now + delay_seconds
    else:
        make_slot_ready(slot, now, pace, keep_ready_at=True)
        effects.ready.append(at)
    unblock(run, now, pace, effects)
    return effects
