"""Measures how many items a second the steps of a run have done lately."""

from __future__ import annotations

import time
from collections import deque

from taskiq_flow.display.picture import RunPicture

WINDOW_SECONDS = 8.0
"""The pace is that of the last seconds: it follows what other work leaves of the machine."""


class Pace:
    """Remembers what was seen of the counts of a run."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, float]]] = {}

    def note(self, picture: RunPicture, now: float | None = None) -> dict[str, float]:
        """Take in a picture; return the pace by step name, where there is one."""
        moment = time.monotonic() if now is None else now
        rates: dict[str, float] = {}
        for row in picture.rows:
            if row.done is None or row.total is None or row.has_ended:
                self._seen.pop(row.name, None)
                continue
            seen = self._seen.setdefault(row.name, deque())
            seen.append((moment, row.done))
            while seen[0][0] < moment - WINDOW_SECONDS:
                seen.popleft()
            (then, before), (_, done) = seen[0], seen[-1]
            if moment - then >= 1.0 and done > before:
                rates[row.name] = (done - before) / (moment - then)
        return rates
