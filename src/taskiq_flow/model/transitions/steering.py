"""Somebody else asks something of a run."""

from __future__ import annotations

from taskiq_flow.events import EventType
from taskiq_flow.model.records import RunStatus, StepStatus
from taskiq_flow.model.state import Effects, RunState, SlotStatus
from taskiq_flow.model.transitions.pace import Pace
from taskiq_flow.model.transitions.slots import make_slot_ready
from taskiq_flow.model.transitions.steps import complete_step, end_run


def cancel(run: RunState, reason: str, now: float) -> Effects | None:
    """End a run because somebody asked; None when it had ended before."""
    if run.status.is_final:
        return None
    effects = Effects()
    end_run(run, RunStatus.CANCELLED, now, effects, reason=reason)
    return effects


def resume(run: RunState, at: tuple[int, int], note: str, now: float, pace: Pace) -> Effects | None:
    """Make a parked slot ready again; None when it is not parked (any more)."""
    slot = run.slots.get(at)
    if slot is None or run.status.is_final or slot.status is not SlotStatus.PARKED:
        return None
    effects = Effects()
    slot.note = note
    make_slot_ready(slot, now, pace)
    effects.ready.append(at)
    return effects


def receive(run: RunState, name: str, payload: bytes, now: float, pace: Pace) -> Effects | None:
    """Deliver an event to the steps that wait for it, and keep it for those to come.

    None when the run has ended. A second event of the same name replaces the first one for
    steps that come later.
    """
    if run.status.is_final:
        return None
    effects = Effects()
    effects.events.append((EventType.EVENT_RECEIVED, None, None, 0, name))
    run.inbox[name] = payload
    for index in sorted(run.steps):  # a store may have loaded them in any order
        slot, step = run.slots.get((index, 0)), run.steps[index]
        if step.record.event == name and slot and slot.status is SlotStatus.PARKED:
            slot.status, slot.due = SlotStatus.DONE, None
            effects.values[index] = payload
            complete_step(run, index, StepStatus.COMPLETED, now, pace, effects)
    return effects
