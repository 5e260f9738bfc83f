"""Says how many cores a process and its children keep busy, from what Linux tells of them."""

from __future__ import annotations

import os
import time
from pathlib import Path

_PROC = Path("/proc")
_CPU_FIELDS = slice(11, 13)  # user and system time, counted after the name in parentheses


class CoreMeter:
    """Compares processor time with the clock between two questions; other systems say None."""

    def __init__(self, *roots: int) -> None:
        self._roots = roots or (os.getpid(),)
        self._spent: dict[int, float] = {}
        self._at = time.monotonic()

    def busy(self) -> float | None:
        """How many cores were busy on average since the last question."""
        if not (_PROC / "self/stat").exists():
            return None
        before, self._spent = self._spent, _spent_by_family(self._roots)
        since, self._at = time.monotonic() - self._at, time.monotonic()
        # A process that is new here has no difference yet; one that has gone no longer counts.
        spent = sum(seconds - before[pid] for pid, seconds in self._spent.items() if pid in before)
        return spent / since if since > 0 else 0.0


def _spent_by_family(roots: tuple[int, ...]) -> dict[int, float]:
    """Processor seconds of these processes and of all that descend from them."""
    tick = os.sysconf("SC_CLK_TCK")
    parents: dict[int, int] = {}
    spent: dict[int, float] = {}
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            facts = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just gone
        parents[int(entry.name)] = int(facts[1])
        spent[int(entry.name)] = sum(map(int, facts[_CPU_FIELDS])) / tick
    return {pid: seconds for pid, seconds in spent.items() if _descends(pid, roots, parents)}


def _descends(pid: int, roots: tuple[int, ...], parents: dict[int, int]) -> bool:
    while pid:
        if pid in roots:
            return True
        pid = parents.get(pid, 0)
    return False
