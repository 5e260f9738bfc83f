"""Lets everybody do something only so often: a bucket of tokens for each."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from taskiq_flow.exceptions import SecurityOptionError, TooManyAttemptsError

KNOWN = 20_000
"""Of so many, those who asked last, it is known how often they did."""

_RATE = re.compile(r"(\d+)\s*(?:/|per)\s*(?:(\d+)\s*)?(second|minute|hour|day)s?")
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


@dataclass(frozen=True, slots=True)
class Rate:
    """So many within so many seconds; all of them may come at once."""

    most: int
    seconds: float

    @classmethod
    def read(cls, text: str, *, where: str = "rate") -> Rate:
        """Read ``100/minute``, ``5 per second``, ``1000/2 hours``.

        Raises:
            SecurityOptionError: It is nothing like that.
        """
        found = _RATE.fullmatch(str(text).strip().lower())
        if found is None or int(found[1]) < 1 or found[2] == "0":
            raise SecurityOptionError(where, text, "must be like '100/minute' or '5 per second'")
        return cls(int(found[1]), _SECONDS[found[3]] * int(found[2] or 1))


@dataclass(slots=True)
class Limiter:
    """Counts what each key does, in this process."""

    rate: Rate
    what: str = "requests"
    _buckets: OrderedDict[str, tuple[float, float]] = field(
        default_factory=OrderedDict[str, tuple[float, float]]
    )

    def take(self, key: str, *, now: float | None = None) -> None:
        """Count one.

        Raises:
            TooManyAttemptsError: There were as many as may be.
        """
        at = time.monotonic() if now is None else now
        tokens = self._left(key, at)
        if tokens < 1:
            wait = (1 - tokens) * self.rate.seconds / self.rate.most
            raise TooManyAttemptsError(self.what, max(1.0, wait))
        self._buckets[key] = (tokens - 1, at)
        self._buckets.move_to_end(key)
        if len(self._buckets) > KNOWN:
            self._buckets.popitem(last=False)

    def give_back(self, key: str) -> None:
        """Take one back that shall not count after all."""
        tokens, at = self._buckets.get(key, (self.rate.most, 0.0))
        self._buckets[key] = (min(self.rate.most, tokens + 1), at)

    def _left(self, key: str, at: float) -> float:
        known = self._buckets.get(key)
        if known is None:
            return self.rate.most
        tokens, since = known
        return min(self.rate.most, tokens + (at - since) * self.rate.most / self.rate.seconds)
