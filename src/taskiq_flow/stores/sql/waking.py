"""What stood still: found, claimed and woken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from taskiq_flow.model import transitions
from taskiq_flow.model.records import Wake, WakeKind
from taskiq_flow.model.transitions import Pace
from taskiq_flow.stores.sql import schema, statements
from taskiq_flow.stores.sql.loaded import LoadedRun
from taskiq_flow.stores.sql.operations import NOTHING, Told
from taskiq_flow.stores.sql.rows import RUN_LOADED, SLOT_CHANGES
from taskiq_flow.stores.sql.session import Session, Target, Verb
from taskiq_flow.stores.sql.writer import DEADLINE, PUBLISH_AGAIN_SECONDS, SETTLING

PaceOf: TypeAlias = Callable[[str], Pace]
Place: TypeAlias = tuple[LoadedRun, int, int]

BEATS: Final = Target(Verb.UPSERT, schema.beat, ("namespace",), ("last_due", "hold_until"))
_KIND_OF: Final = {step: kind for kind, step in SETTLING.items()}


def beat(session: Session, lease: float) -> float:
    """Note that `due` is called; return until when no lease may expire.

    After a gap the store was away, and the renewals with it: they get one more lease.
    """
    row = session.row(statements.BEAT)
    last_due, hold_until = (None, 0.0) if row is None else row
    if last_due is None or session.now - last_due > lease / 2:
        hold_until = 0.0 if last_due is None else session.now + lease
    session.writes[BEATS].append((session.namespace, session.now, hold_until))
    return hold_until


class Waking:
    """One call of `due`."""

    def __init__(self, session: Session, hold_until: float, pace_of: PaceOf) -> None:
        self._session, self._now = session, session.now
        self._hold_until, self._pace_of = hold_until, pace_of
        self._told = NOTHING
        self._opened_sleepers = False

    def wake_all(self, queues: Sequence[str], limit: int) -> tuple[tuple[Wake, ...], Told]:
        """Wake what is due; a timer of no length that this opens is due at once, and so on."""
        wakes: tuple[Wake, ...] = ()
        for queue in queues:
            self._opened_sleepers = True
            while self._opened_sleepers and len(wakes) < limit:
                self._opened_sleepers = False
                wakes += self._round(queue, limit - len(wakes))
        return wakes, self._told

    def _round(self, queue: str, limit: int) -> tuple[Wake, ...]:
        places = self._load(queue, limit)
        if not places:
            return ()
        wakes = [wake for place in places for wake in self._wake(*place)]
        for run in {place[0].rid: place[0] for place in places}.values():
            run.save()
        self._session.write()
        return tuple(wakes)

    def _load(self, queue: str, limit: int) -> list[Place]:
        """Lock the runs that have something due, then read what that is."""
        found = self._session.rows(statements.DUE_RUNS, queue=queue, now=self._now, limit=limit)
        wanted = {(row[0], row[-2], row[-1]) for row in found}
        if not wanted:
            return []
        runs: dict[int, LoadedRun] = {}
        for row in found:
            if row[0] not in runs:
                runs[row[0]] = LoadedRun.of(self._session, row[: len(RUN_LOADED)])
        places: list[Place] = []
        slot_end = 3 + len(SLOT_CHANGES)
        for row in self._session.rows(
            statements.DUE_PLACES, rids=list(runs), queue=queue, now=self._now
        ):
            rid, step, slot = row[:3]
            if (rid, step, slot) in wanted:
                if step >= 0:
                    runs[rid].take_step(row[slot_end:])
                    runs[rid].take_slot((step, slot), row[3:slot_end])
                places.append((runs[rid], step, slot))
        return places

    def _wake(self, run: LoadedRun, step: int, slot: int) -> Iterable[Wake]:
        if step in _KIND_OF:
            run.set_due(step, self._now + PUBLISH_AGAIN_SECONDS)
            return (Wake(_KIND_OF[step], run.run_id, parent=run.state.parent),)
        if step == DEADLINE:
            effects = transitions.pass_deadline(run.state, self._now)
            if effects is None:
                run.set_due(DEADLINE, None)
        elif run.state.status.is_final:
            run.state.slots[step, slot].due = None
            return ()
        else:
            pace = self._pace_of(run.state.steps[step].record.queue)
            effects = transitions.wake(run.state, (step, slot), self._now, pace, self._hold_until)
        if effects is None:
            return ()
        self._opened_sleepers |= bool(effects.sleeping)
        ready = run.apply(effects)
        self._told = self._told.and_of(run, effects)
        wakes = [Wake(WakeKind.KICK, run.run_id, ready=entry) for entry in ready]
        if effects.ended:
            wakes += [Wake(kind, run.run_id, parent=run.state.parent) for kind in run.settling()]
        return wakes
