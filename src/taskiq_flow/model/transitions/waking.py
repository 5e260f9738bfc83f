"""A time has come: of a slot, or of a whole run."""

from __future__ import annotations

from typing import Final

from taskiq_flow.events import EventType
from taskiq_flow.model.records import Failed, OnFailure, RunStatus, StepKind, StepStatus
from taskiq_flow.model.state import Effects, RunState, SlotState, SlotStatus, StepState
from taskiq_flow.model.transitions.codes import DEADLINE_ERROR, EVENT_TIMEOUT_ERROR, POISON_ERROR
from taskiq_flow.model.transitions.pace import Pace
from taskiq_flow.model.transitions.slots import make_slot_ready, unblock
from taskiq_flow.model.transitions.steps import complete_step, end_run, fail_step

KICK_DOUBLINGS: Final = 6
"""A lost message is sent again after 1, 2, 4 … 64 times the base, so a backlog is not doubled."""


def wake(
    run: RunState, at: tuple[int, int], now: float, pace: Pace, hold_until: float
) -> Effects | None:
    """Do what the due time of a slot asks for; None when nothing is due there.

    Until ``hold_until`` no lease expires: the store was away, and so were the renewals.
    """
    slot = run.slots.get(at)
    if slot is None or run.status.is_final:
        return None
    if slot.due is None or slot.due > now:
        return None
    step = run.steps[at[0]]
    effects = Effects()
    if slot.status is SlotStatus.RUNNING and now < hold_until:
        slot.due = hold_until
        return None
    if step.status.is_final:
        if slot.status is SlotStatus.RUNNING:
            run.running -= 1
        slot.token, slot.status, slot.due = None, SlotStatus.DONE, None
    elif slot.status is SlotStatus.RUNNING:
        _lose(run, at, slot, step, now, pace, effects)
    elif slot.status is SlotStatus.READY:
        slot.due = now + pace.kick * 2 ** min(slot.kicks, KICK_DOUBLINGS)
        slot.kicks += 1
        effects.ready.append(at)
    elif slot.status is SlotStatus.TIMER and step.record.kind is StepKind.TIMER:
        slot.status, slot.due = SlotStatus.DONE, None
        complete_step(run, at[0], StepStatus.COMPLETED, now, pace, effects)
    elif slot.status is SlotStatus.TIMER:
        make_slot_ready(slot, now, pace, keep_ready_at=True)
        effects.ready.append(at)
    elif slot.status is SlotStatus.PARKED:
        slot.status, slot.due = SlotStatus.DONE, None
        fail_step(
            run, at[0], Failed(EVENT_TIMEOUT_ERROR, step.record.on_failure), now, pace, effects
        )
    unblock(run, now, pace, effects)
    return effects


def _lose(
    run: RunState,
    at: tuple[int, int],
    slot: SlotState,
    step: StepState,
    now: float,
    pace: Pace,
    effects: Effects,
) -> None:
    run.running -= 1
    slot.lost += 1
    step.lost += 1
    effects.events.append((EventType.STEP_LOST, at[0], at[1], slot.attempt + 1, str(slot.lost)))
    if slot.lost >= step.record.lost_most:
        slot.token, slot.status, slot.due = None, SlotStatus.DONE, None
        fail_step(run, at[0], Failed(POISON_ERROR, OnFailure.STOP), now, pace, effects)
        return
    slot.token = None  # last_token stays: see `finish`
    make_slot_ready(slot, now, pace)
    effects.ready.append(at)


def hurry(run: RunState, at: tuple[int, int], now: float, pace: Pace) -> Effects | None:
    """Make a slot ready that slept because a limit was used up; None when it does not sleep."""
    slot = run.slots.get(at)
    if slot is None or run.status.is_final or slot.status is not SlotStatus.TIMER:
        return None
    effects = Effects()
    make_slot_ready(slot, now, pace, keep_ready_at=True)
    effects.ready.append(at)
    return effects


def pass_deadline(run: RunState, now: float) -> Effects | None:
    """End a run whose time is up; None when it ended before or has time left."""
    if run.status.is_final or run.deadline is None or run.deadline > now:
        return None
    effects = Effects()
    end_run(run, RunStatus.FAILED, now, effects, error=DEADLINE_ERROR)
    return effects
