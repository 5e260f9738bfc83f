"""How long the messages of each queue have lately taken, as far as this process knows."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from taskiq_flow.model.transitions import Pace
from taskiq_flow.stores.sql import schema
from taskiq_flow.stores.sql.session import Target, Verb

DELAYS: Final = Target(Verb.UPSERT, schema.delay, ("namespace", "queue"), ("seconds",))

FRESH_SECONDS: Final = 5.0
"""How long what others have written is taken for current."""

WORTH_TELLING: Final = 0.1
"""The share by which a delay has to change before it is written for the others."""


class QueueDelays:
    """Kept in memory and shared through the store only when it makes a difference.

    A write with every start would queue all starts of a queue behind one row.
    """

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._seen: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._read_at: float | None = None

    def pace_of(self, queue: str) -> Pace:
        """Wait three times what the queue has lately taken before a message counts as lost."""
        base = max(self._pace.kick, 3 * self._seen.get(queue, 0.0))
        return self._pace if base == self._pace.kick else self._pace._replace(kick=base)

    def observe(self, queue: str, seconds: float) -> float | None:
        """Take a delay into account; return what the others should know, if anything."""
        seen = self._seen[queue] = max(seconds, self._seen.get(queue, 0.0) * 0.9)
        told = self._told.get(queue, 0.0)
        if 3 * max(seen, told) <= self._pace.kick or abs(seen - told) <= WORTH_TELLING * told:
            return None
        self._told[queue] = seen
        return seen

    @property
    def is_stale(self) -> bool:
        return self._read_at is None or time.monotonic() - self._read_at > FRESH_SECONDS

    def learn(self, rows: Iterable[tuple[str, float]]) -> None:
        """Take over what other processes have written."""
        self._read_at = time.monotonic()
        for queue, seconds in rows:
            if self._told.get(queue) != seconds:
                self._seen[queue] = self._told[queue] = seconds
