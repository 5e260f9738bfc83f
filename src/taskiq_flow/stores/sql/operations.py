"""The operations on one run: lock it, apply the rule, write what changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from taskiq_flow.model import transitions
from taskiq_flow.model.records import (
    Address,
    Done,
    DoneSequence,
    Failed,
    Finished,
    Grant,
    LostReason,
    Outcome,
    Ready,
    Refusal,
    RefusalReason,
    RunStatus,
    Wake,
    WakeKind,
)
from taskiq_flow.model.state import Effects, RunState, SlotStatus
from taskiq_flow.model.transitions import Pace
from taskiq_flow.stores.base import Held
from taskiq_flow.stores.sql import statements
from taskiq_flow.stores.sql.limits import StoredLimits
from taskiq_flow.stores.sql.loaded import LoadedRun, open_run
from taskiq_flow.stores.sql.rows import SLOT_CHANGES, to_run, to_slot, to_step
from taskiq_flow.stores.sql.session import Session, Target, Verb, Writes
from taskiq_flow.stores.sql.schema import item as item_table
from taskiq_flow.stores.sql.schema import slot as slot_table
from taskiq_flow.stores.sql.writer import ITEMS, SETTLING

Rule: TypeAlias = Callable[[RunState, float], Effects | None]

LEASES: Final = Target(Verb.UPDATE, slot_table, ("rid", "step", "slot", "token"), ("due",))
"""Only while the token still holds the slot: leases are renewed without a lock on their run."""


@dataclass(slots=True)
class Told:
    """What other parts of the store hear of an operation once it is committed.

    ``freed`` slots wait for a limit that has room now; ``delay`` is how long the message of a
    queue has taken.
    """

    ended: list[tuple[str, RunStatus]] = field(default_factory=list[tuple[str, RunStatus]])
    freed: list[Address] = field(default_factory=list[Address])
    delay: tuple[str, float] | None = None

    def hear(self, run: LoadedRun, effects: Effects) -> None:
        self.freed += effects.freed
        if effects.ended and not effects.repeated:
            self.ended.append((run.run_id, run.state.status))


def start(
    session: Session, address: Address, token: str, want: int, pace: Pace, told: Told
) -> Grant | Refusal:
    run = open_run(session, address.run_id)
    if run is None:
        return Refusal(RefusalReason.GONE)
    at = (address.step, address.slot)
    run.load_place(*at)
    seen = _delay_of(run, at)
    answer = transitions.start(run.state, at, token, session.now, pace, run.limits, want)
    if isinstance(answer, Refusal):
        run.save()
        return answer
    run.apply(answer)
    grant = None if answer.claim is None else run.grant(answer.claim)
    run.save()
    if seen is not None:
        told.delay = (run.state.steps[address.step].record.queue, seen)
    return grant or Refusal(RefusalReason.DONE)


def _delay_of(run: LoadedRun, at: tuple[int, int]) -> float | None:
    """How long the first message for a slot has taken; None where nothing can be said."""
    slot = run.state.slots.get(at)
    if slot is None or slot.status is not SlotStatus.READY or slot.kicks > 0:
        return None
    released = slot.started_at is not None and slot.started_at >= slot.ready_at
    if released or run.state.steps[at[0]].record.limits:
        return None
    return run.session.now - slot.ready_at


def finish(
    session: Session,
    address: Address,
    token: str,
    outcome: Outcome,
    next_token: str | None,
    pace: Pace,
    told: Told,
) -> Finished:
    run = open_run(session, address.run_id)
    if run is None:
        return Finished(recorded=False)
    at = (address.step, address.slot)
    run.load_place(*at, near=isinstance(outcome, Done | DoneSequence | Failed))
    effects = transitions.finish(
        run.state, at, token, outcome, next_token, session.now, pace, run.limits
    )
    if effects is None:
        return Finished(recorded=False)
    if effects.repeated:
        effects.events.clear()
    run.put_items(address.step, effects.items)
    ready = run.apply(effects)
    ...
