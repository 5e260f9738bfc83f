"""What this process uses of its machine, from the standard library."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

_STATM = Path("/proc/self/statm")
_SHORTEST_SECONDS = 0.1


class ProcessUsage:
    """Measures between one reading and the next."""

    def __init__(self) -> None:
        self._at, self._used = time.monotonic(), _cpu_seconds()
        self._percent = 0.0

    def cpu_percent(self) -> float:
        """Processor time per time passed since the last reading; above 100 on several cores."""
        now, used = time.monotonic(), _cpu_seconds()
        # Two scrapes at once: over so short a time the clock's steps would be all that is seen.
        if now - self._at >= _SHORTEST_SECONDS:
            self._percent = 100.0 * (used - self._used) / (now - self._at)
            self._at, self._used = now, used
        return self._percent

    def memory_bytes(self) -> int:
        """Resident memory now; where the system does not say, the most there was."""
        try:
            return int(_STATM.read_text().split()[1]) * resource.getpagesize()
        except (OSError, ValueError, IndexError):
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return most if sys.platform == "darwin" else most * 1024


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
