"""Limits over all runs of a namespace: who holds a key now, and when the next start may be."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from taskiq_flow.model.records import Address, Limit

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


@dataclass(slots=True)
class LimitBook:
    """The holders (token → expiry), the next free moment, and the last look due, of each key.

    A holder expires with its lease, so a worker that died frees its place. While no lease expires
    (``holds_back``: the store was away, see `after_outage`) no holder does.
    """

    holders: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    next_at: dict[str, float] = field(default_factory=dict[str, float])
    waiting: dict[str, deque[Address]] = field(default_factory=dict[str, deque[Address]])
    holds_back: bool = False
    asked_at: dict[str, float] = field(default_factory=dict[str, float])

    def take(
        self,
        limits: tuple[Limit, ...],
        token: str,
        who: Address,
        now: float,
        lease: float,
    ) -> float | None:
        """Hold every limit and return None, or hold none and return when to look again."""
        retry_at: float | None = None
        for limit in limits:
            at = self._free_at(limit, now)
            if at is not None:
                retry_at = max(retry_at or 0.0, at)
                if limit.most is not None:
                    queue = self.waiting.setdefault(limit.key, deque())
                    if who not in queue:
                        queue.append(who)
        if retry_at is not None:
            return retry_at
        for limit in limits:
            queue = self.waiting.get(limit.key)
            if queue and who in queue:
                queue.remove(who)
            if limit.most is not None:
                self.holders.setdefault(limit.key, {})[token] = now + lease
            if limit.per_second is not None:
                self.next_at[limit.key] = (
                    max(self.next_at.get(limit.key, 0.0), now) + 1 / limit.per_second
                )
        return None

    def _free_at(self, limit: Limit, now: float) -> float | None:
        if limit.most is not None:
            held = self.holders.get(limit.key, {})
            if not self.holds_back:
                for token in [t for t, until in held.items() if until <= now]:
                    del held[token]
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

    def extend(self, limits: tuple[Limit, ...], token: str, until: float) -> None:
        for limit in limits:
            held = self.holders.get(limit.key)
            if held is not None and token in held:
                held[token] = until

    def leave(self, limits: tuple[Limit, ...], token: str) -> list[Address]:
        """Give up every hold of a token; return whom to wake, one for each freed place."""
        woken: list[Address] = []
        for limit in limits:
            held = self.holders.get(limit.key)
            if held is None or held.pop(token, None) is None:
                continue
            if not held:
                del self.holders[limit.key]
            queue = self.waiting.get(limit.key)
            if queue:
                woken.append(queue.popleft())
                if not queue:
                    del self.waiting[limit.key]
        return woken
