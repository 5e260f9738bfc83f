"""The operations on one run: lock it, apply the rule, write what changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

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
    stored_items,
)
from taskiq_flow.model.state import Effects, RunState, SlotStatus
from taskiq_flow.model.transitions import Pace
from taskiq_flow.stores.base import Held
from taskiq_flow.stores.sql import schema, statements
from taskiq_flow.stores.sql.limits import StoredLimits
from taskiq_flow.stores.sql.loaded import LoadedRun, open_run
from taskiq_flow.stores.sql.rows import RUN_LOADED, to_run, to_slot, to_step
from taskiq_flow.stores.sql.session import Row, Session, Target, Verb
from taskiq_flow.stores.sql.writer import ITEMS

Rule: TypeAlias = Callable[[LoadedRun], Effects | None]

OPENING: Final = (Done, DoneSequence, Failed)
"""Outcomes that may open other steps; not a union, which would be made again for each look."""

LEASES: Final = Target(Verb.UPDATE, schema.slot, ("rid", "step", "slot", "token"), ("due",))
"""Only while the token still holds the slot: leases are renewed without a lock on their run."""


class Told(NamedTuple):
    """What the rest of the store hears of an operation once it is committed.

    ``freed`` slots wait for a limit that has room now; ``delay`` is how long a message of a
    queue has taken.
    """

    ended: tuple[tuple[str, RunStatus], ...] = ()
    freed: tuple[Address, ...] = ()
    delay: tuple[str, float] | None = None

    @classmethod
    def of(cls, run: LoadedRun, effects: Effects) -> Told:
        """What is heard of one change of a run."""
        ended = ((run.run_id, run.state.status),) if effects.ended else ()
        return cls(ended, tuple(effects.freed)) if ended or effects.freed else NOTHING

    def and_of(self, run: LoadedRun, effects: Effects) -> Told:
        """The same with what is heard of another change."""
        more = Told.of(run, effects)
        return Told(self.ended + more.ended, self.freed + more.freed, self.delay)


NOTHING: Final = Told()

_NOT_RECORDED: Final = Finished(recorded=False), NOTHING


def start(
    session: Session, *, address: Address, token: str, want: int, pace: Pace
) -> tuple[Grant | Refusal, Told]:
    at = (address.step, address.slot)
    run = open_run(session, address.run_id, at)
    if run is None:
        return Refusal(RefusalReason.GONE), NOTHING
    run.load_place(*at)
    now = session.now
    delay = _delay_of(run, at, now)
    answer = transitions.start(run.state, at, token, now, pace, run.limits, want)
    if isinstance(answer, Refusal):
        run.save()
        return answer, NOTHING
    assert answer.claim is not None, "a start that is not refused claims"
    run.apply(answer)
    grant = run.grant(answer.claim)
    run.save()
    if delay is None:
        return grant, NOTHING
    return grant, Told(delay=(run.state.steps[address.step].record.queue, delay))


def _delay_of(run: LoadedRun, at: tuple[int, int], now: float) -> float | None:
    """How long the first message for a slot has taken; None where nothing can be said."""
    slot = run.state.slots.get(at)
    if slot is None or slot.status is not SlotStatus.READY or slot.kicks > 0:
        return None
    released = slot.started_at is not None and slot.started_at >= slot.ready_at
    if released or run.state.steps[at[0]].record.limits:
        return None
    return now - slot.ready_at


def finish(
    session: Session,
    *,
    address: Address,
    token: str,
    outcome: Outcome,
    next_token: str | None,
    pace: Pace,
) -> tuple[Finished, Told]:
    at = (address.step, address.slot)
    run = open_run(session, address.run_id, at)
    if run is None:
        return _NOT_RECORDED
    run.load_place(*at, near=isinstance(outcome, OPENING))
    items = stored_items(outcome, address.step)
    if items is not None:
        (count,) = session.row(statements.ITEM_COUNT, rid=run.rid, key=items[0]) or (0,)
        if count < items[1]:
            return _NOT_RECORDED
    effects = transitions.finish(
        run.state, at, token, outcome, next_token, session.now, pace, run.limits
    )
    if effects is None:
        return _NOT_RECORDED
    told = NOTHING
    if effects.repeated:
        ready, settling = run.ready(effects), run.unsettled() if effects.ended else ()
    else:
        if effects.items:
            run.put_items(address.step, effects.items)
        ready, settling = run.apply(effects), run.settling() if effects.ended else ()
        told = Told.of(run, effects)
    grant = None if effects.claim is None else run.grant(effects.claim)
    run.save()
    finished = Finished(
        recorded=effects.recorded,
        ready=ready,
        grant=grant,
        ended=run.state.status if effects.ended else None,
        retry_at=effects.retry_at,
        wakes=tuple([Wake(kind, run.run_id, parent=run.state.parent) for kind in settling]),
    )
    return finished, told


def change(session: Session, *, run_id: str, rule: Rule) -> tuple[tuple[Ready, ...] | None, Told]:
    """Apply a rule that needs nothing but the run; None when it changes nothing."""
    run = open_run(session, run_id)
    effects = None if run is None else rule(run)
    if run is None or effects is None:
        return None, NOTHING
    ready = run.apply(effects)
    run.save()
    return ready, Told.of(run, effects)


def release(address: Address, token: str, delay_seconds: float, pace: Pace) -> Rule:
    def rule(run: LoadedRun) -> Effects | None:
        run.load_place(address.step, address.slot)
        at = (address.step, address.slot)
        now = run.session.now
        return transitions.release(run.state, at, token, delay_seconds, now, pace, run.limits)

    return rule


def hurry(address: Address, pace: Pace) -> Rule:
    def rule(run: LoadedRun) -> Effects | None:
        run.load_place(address.step, address.slot)
        at = (address.step, address.slot)
        return transitions.hurry(run.state, at, run.session.now, pace)

    return rule


def resume(address: Address, note: str, pace: Pace) -> Rule:
    def rule(run: LoadedRun) -> Effects | None:
        run.load_place(address.step, address.slot)
        at = (address.step, address.slot)
        return transitions.resume(run.state, at, note, run.session.now, pace)

    return rule


def cancel(reason: str) -> Rule:
    def rule(run: LoadedRun) -> Effects | None:
        return transitions.cancel(run.state, reason, run.session.now)

    return rule


def receive(name: str, payload: bytes, pace: Pace) -> Rule:
    def rule(run: LoadedRun) -> Effects | None:
        run.load_waiting(name)
        return transitions.receive(run.state, name, payload, run.session.now, pace)

    return rule


def renew(session: Session, held: Sequence[Held], pace: Pace) -> dict[str, LostReason]:
    """Extend leases all at once, without locking their runs."""
    states = _states_of(session, held)
    limits = StoredLimits(session)
    lost: dict[str, LostReason] = {}
    for lease in held:
        at = (lease.address.step, lease.address.slot)
        rid, state = states[lease]
        reason = transitions.renew(state, at, lease.token, session.now, pace, limits)
        if reason is not None:
            lost[lease.token] = reason
        if state is not None and at in state.slots:
            session.forget(state.run_id)
            session.writes[LEASES].append((rid, *at, lease.token, state.slots[at].due))
    limits.save()
    return lost


def _states_of(session: Session, held: Sequence[Held]) -> dict[Held, tuple[int, RunState | None]]:
    """The runs of these leases, each with the slot that it is for, if its token holds that."""
    states = dict(_state_of(row) for row in session.held(held))
    lost = [lease for lease in held if lease not in states]
    if lost:
        asked = [lease.address.run_id for lease in lost]
        read = [to_run(row) for row in session.rows(statements.RUNS_BY_ID, run_ids=asked)]
        runs = {facts.run_id: (facts.rid, state) for facts, state in read}
        states |= {lease: runs.get(lease.address.run_id, (0, None)) for lease in lost}
    return states


def _state_of(row: Row) -> tuple[Held, tuple[int, RunState | None]]:
    run_end = len(RUN_LOADED)
    step_end = run_end + statements.STEP_WIDTH
    facts, state = to_run(row[:run_end])
    step, number, slot = to_step(row[run_end:step_end]), row[step_end], to_slot(row[step_end + 1 :])
    at = (step.record.index, number)
    state.steps[at[0]], state.slots[at] = step, slot
    return Held(Address(facts.run_id, *at), slot.token or ""), (facts.rid, state)


def put_items(session: Session, held: Held, key: int, start: int, values: Sequence[bytes]) -> bool:
    run_id, step, slot = held.address
    holder = session.row(statements.HOLDER, run_id=run_id, step=step, slot=slot, token=held.token)
    if holder is None:
        return False
    rid = holder[0]
    session.writes[ITEMS] += [(rid, key, *item) for item in enumerate(values, start)]
    return True
