"""The limits of a namespace, loaded key by key and under a lock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from taskiq_flow.model.limits import LimitBook, Line, after_outage
from taskiq_flow.model.records import Address, Limit
from taskiq_flow.stores.sql import schema, statements
from taskiq_flow.stores.sql.session import Session, Target, Verb

LIMITS: Final = Target(Verb.UPDATE, schema.limit, ("namespace", "key"), ("next_at", "asked_at"))
_WHO: Final = ("namespace", "key", "run_id", "step", "slot")
HOLDS: Final = Target(Verb.UPSERT, schema.hold, _WHO, ("until",))
KEPT_HOLDS: Final = Target(Verb.UPDATE, schema.hold, _WHO, ("until",))
NO_HOLDS: Final = Target(Verb.DELETE, schema.hold, _WHO)
QUEUERS: Final = Target(Verb.INSERT, schema.queuer, (*_WHO, "rank"))
NO_QUEUERS: Final = Target(Verb.DELETE, schema.queuer, _WHO)


class StoredLimits(LimitBook):
    """A `LimitBook` with the keys that an operation asks for, and no others.

    Keys are locked in order of their names, so that two operations never wait for each other.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._held_before: dict[str, dict[Address, float]] = {}
        self._times_before: dict[str, tuple[float, float]] = {}
        self._queued_before: dict[str, set[Address]] = {}
        self._extended: tuple[tuple[str, Address, float], ...] = ()

    def take(
        self, limits: tuple[Limit, ...], who: Address, now: float, lease: float
    ) -> float | None:
        self._session.catch_up()
        beat = self._session.row(statements.BEAT_SEEN)
        if beat is not None:
            last_due, hold_until = beat
            self.holds_back = after_outage(now, last_due, hold_until, lease)
        for limit in sorted(limits, key=_key):
            self._load(limit)
            if limit.most is not None:
                run_id, step, slot = who
                found = self._session.rows(
                    statements.QUEUER, key=limit.key, run_id=run_id, step=step, slot=slot
                )
                self._load_line(limit.key, found)
        return super().take(limits, who, now, lease)

    def count_waiting(self, key: str) -> int:
        row = self._session.row(statements.QUEUERS, key=key)
        fresh = set(self.waiting.get(key, ())) - self._queued_before.get(key, set())
        return len(fresh) + (0 if row is None else row[0])

    def leave(self, limits: tuple[Limit, ...], who: Address) -> list[Address]:
        for limit in sorted(limits, key=_key):
            if limit.most is not None:
                self._load(limit)
                first = self._session.rows(statements.FIRST_QUEUER, key=limit.key)
                self._load_line(limit.key, first)
        return super().leave(limits, who)

    def extend(self, limits: tuple[Limit, ...], who: Address, until: float) -> None:
        bounded = [limit.key for limit in limits if limit.most is not None]
        self._extended += tuple([(key, who, until) for key in bounded])

    def save(self) -> None:
        """Have written what has changed."""
        here, writes = self._session.namespace, self._session.writes
        for key, before in self._held_before.items():
            held = self.holders.get(key, {})
            for who, until in held.items():
                if before.get(who) != until:
                    writes[HOLDS].append((here, key, *who, until))
            writes[NO_HOLDS] += [(here, key, *who) for who in before.keys() - held.keys()]
        for key, before in self._times_before.items():
            times = self.next_at[key], self.asked_at[key]
            if times != before:
                writes[LIMITS].append((here, key, *times))
        for key, before in self._queued_before.items():
            line = self.waiting.get(key, Line())
            queued = set(line)
            # The lowest rank is first.
            writes[QUEUERS] += [
                (here, key, *who, -line.priority_of(who)) for who in queued - before
            ]
            writes[NO_QUEUERS] += [(here, key, *who) for who in before - queued]
        for key, who, until in self._extended:
            writes[KEPT_HOLDS].append((here, key, *who, until))

    def _load(self, limit: Limit) -> None:
        key = limit.key
        if key in self._times_before:
            return
        self._session.catch_up()
        row = self._session.row(statements.LIMIT, key=key)
        if row is None:
            self._session.execute(statements.NEW_LIMIT, key=key)
            row = self._session.row(statements.LIMIT, key=key)
        times: tuple[float, float] = (0.0, 0.0) if row is None else (row[0], row[1])
        self.next_at[key], self.asked_at[key] = self._times_before[key] = times
        if limit.most is not None:
            rows = self._session.rows(statements.HOLDERS, key=key)
            held = {Address(*who): until for *who, until in rows}
            self._held_before[key] = dict(held)
            self.holders[key] = held

    def _load_line(self, key: str, rows: Sequence[Sequence[Any]]) -> None:
        """Make these part of the line, unless they were before."""
        before = self._queued_before.setdefault(key, set())
        line = self.waiting.setdefault(key, Line())
        for run_id, step, slot, rank in rows:
            who = Address(run_id, step, slot)
            if who not in before:
                line.add(who, -rank)
                before.add(who)


def _key(limit: Limit) -> str:
    return limit.key
