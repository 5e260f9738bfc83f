"""Limits over all runs of a namespace: who holds a key now, and when the next start may be."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from taskiq_flow.model.records import Address, Limit
from taskiq_flow.model.state import new_dict

RECHECK_SECONDS = 1.0
"""How long a slot that found a limit used up sleeps; it is woken when one leaves."""

LOOKS_PER_SECOND, LOOKS_PER_START = 200, 8
"""The more wait, the longer each sleeps: all of them together look so often and no oftener.

Behind a rate so many look in the time of one start, since the first of them may be late."""

LONGEST_SLEEP_SECONDS = 15.0
"""However many wait: some of those before may have gone."""


def after_outage(
    now: float, last_due: float | None, hold_until: float, lease_seconds: float
) -> bool:
    """Whether leases may read as expired only because nobody could renew them.

    Also before the first call of `due` after the outage, which sets ``hold_until``.
    """
    return last_due is not None and (now - last_due > lease_seconds / 2 or now < hold_until)


class Line:
    """Who waits for a key: the highest priority first, and of one priority who came first."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, int, Address]] = []
        self._known: dict[Address, tuple[int, int, Address]] = {}
        self._came = 0

    def add(self, who: Address, priority: int) -> None:
        """Let somebody wait; who waits already keeps their place."""
        if who not in self._known:
            self._came += 1
            entry = self._known[who] = (-priority, self._came, who)
            insort(self._entries, entry)

    def drop(self, who: Address) -> None:
        entry = self._known.pop(who, None)
        if entry is not None:
            del self._entries[bisect_left(self._entries, entry)]

    def next(self) -> Address:
        """Take who is first out of the line."""
        _, _, who = self._entries.pop(0)
        del self._known[who]
        return who

    def priority_of(self, who: Address) -> int:
        return -self._known[who][0]

    def __iter__(self) -> Iterator[Address]:
        return (who for _, _, who in self._entries)

    def __len__(self) -> int:
        return len(self._entries)


@dataclass(slots=True)
class LimitBook:
    """The holders (slot → expiry), the next free moment, and the last look due, of each key.

    A holder expires with its lease, so a worker that died frees its place. While no lease expires
    (``holds_back``: the store was away, see `after_outage`) no holder does.
    """

    holders: dict[str, dict[Address, float]] = field(default_factory=new_dict)
    next_at: dict[str, float] = field(default_factory=new_dict)
    waiting: dict[str, Line] = field(default_factory=new_dict)
    holds_back: bool = False
    asked_at: dict[str, float] = field(default_factory=new_dict)

    def take(
        self, limits: tuple[Limit, ...], who: Address, now: float, lease: float
    ) -> float | None:
        """Hold every limit and return None, or hold none and return when to look again."""
        retry_at: float | None = None
        for limit in limits:
            at = self._free_at(limit, now)
            if at is not None:
                retry_at = max(retry_at or 0.0, at)
                if limit.most is not None:
                    self.waiting.setdefault(limit.key, Line()).add(who, limit.priority)
        if retry_at is not None:
            return retry_at
        for limit in limits:
            line = self.waiting.get(limit.key)
            if line is not None:
                line.drop(who)
            if limit.most is not None:
                self.holders.setdefault(limit.key, {})[who] = now + lease
            if limit.per_second is not None:
                self.next_at[limit.key] = (
                    max(self.next_at.get(limit.key, 0.0), now) + 1 / limit.per_second
                )
        return None

    def _free_at(self, limit: Limit, now: float) -> float | None:
        if limit.most is not None:
            held = self.holders.get(limit.key, {})
            if not self.holds_back:
                for gone in [who for who, until in held.items() if until <= now]:
                    del held[gone]
            if len(held) >= limit.most:
                crowd = self.count_waiting(limit.key) / LOOKS_PER_SECOND
                return now + min(max(RECHECK_SECONDS, crowd), LONGEST_SLEEP_SECONDS)
        if limit.per_second is not None:
            allowed = self.next_at.get(limit.key, 0.0) - (limit.burst - 1) / limit.per_second
            if allowed > now:
                after = self.asked_at.get(limit.key, 0.0)
                turn = max(allowed, after + 1 / (limit.per_second * LOOKS_PER_START))
                turn = min(turn, max(allowed, now + LONGEST_SLEEP_SECONDS))
                self.asked_at[limit.key] = turn
                return turn
        return None

    def count_waiting(self, key: str) -> int:
        """How many wait for a place."""
        return len(self.waiting.get(key, ()))

    def extend(self, limits: tuple[Limit, ...], who: Address, until: float) -> None:
        for limit in limits:
            held = self.holders.get(limit.key)
            if held is not None and who in held:
                held[who] = until

    def leave(self, limits: tuple[Limit, ...], who: Address) -> list[Address]:
        """Give up every hold of a slot; return whom to wake, one for each freed place."""
        woken: list[Address] = []
        for limit in limits:
            held = self.holders.get(limit.key)
            if held is None or held.pop(who, None) is None:
                continue
            if not held:
                del self.holders[limit.key]
            line = self.waiting.get(limit.key)
            if line:
                woken.append(line.next())
                if not line:
                    del self.waiting[limit.key]
        return woken
