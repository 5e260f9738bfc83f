"""What a task needs of a machine: kept as hints, and enforced by nobody."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache

from taskiq_flow.exceptions import InvalidTaskOptionError
from taskiq_flow.model.numbers import check_count, is_number

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class TaskResourceProfile:
    """What one call of a task takes, as its author estimates it."""

    estimated_memory_mb: float = 0.0
    estimated_cpu_cores: float = 1.0
    io_bound: bool = False


@dataclass(frozen=True, slots=True)
class ResourceAwareExecutor:
    """Works out how many calls of a task a machine has room for; it measures and runs nothing.

    Hand the number on as ``max_parallel``: `pipeline.map(task, items, max_parallel=number)`.
    """

    max_cpu_percent: float = 80
    max_memory_percent: float = 80
    min_parallel: int = 1
    max_parallel: int = 100

    def __post_init__(self) -> None:
        for option in ("max_cpu_percent", "max_memory_percent"):
            value = getattr(self, option)
            good = is_number(value) and 0 < value <= 100
            _require(option, value, good, "must be above 0 and at most 100")
        check_count("min_parallel", self.min_parallel)
        check_count("max_parallel", self.max_parallel)
        rule = f"must not be below min_parallel ({self.min_parallel})"
        _require("max_parallel", self.max_parallel, self.max_parallel >= self.min_parallel, rule)

    def get_optimal_parallelism(
        self, task_memory_estimate: float = 0.0, task_cpu_estimate: float = 1.0
    ) -> int:
        """How many calls fit that take so many MiB and so many cores each.

        Raises:
            InvalidTaskOptionError: One of them is no number.
        """
        given = {
            "task_memory_estimate": task_memory_estimate,
            "task_cpu_estimate": task_cpu_estimate,
        }
        for option, value in given.items():
            _require(option, value, is_number(value), "must be a number")
        fits = float(self.max_parallel)
        if task_cpu_estimate > 0:
            cores = (os.cpu_count() or 1) * self.max_cpu_percent / 100
            fits = min(fits, cores / task_cpu_estimate)
        if task_memory_estimate > 0:
            memory = _memory_mb() * self.max_memory_percent / 100
            fits = min(fits, memory / task_memory_estimate)
        return max(self.min_parallel, int(fits))

    def parallelism_of(self, profile: TaskResourceProfile) -> int:
        """The same for a profile; waiting for others takes no core."""
        cores = 0.0 if profile.io_bound else profile.estimated_cpu_cores
        return self.get_optimal_parallelism(profile.estimated_memory_mb, cores)


@lru_cache(maxsize=1)
def get_default_executor() -> ResourceAwareExecutor:
    """The one with the default bounds; always the same object."""
    return ResourceAwareExecutor()


def _memory_mb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MEBIBYTE


def _require(option: str, value: object, good: bool, rule: str) -> None:
    if not good:
        raise InvalidTaskOptionError(option, value, rule)
