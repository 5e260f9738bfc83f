"""A result backend in this process."""

from __future__ import annotations

from typing import Any, TypeVar

from taskiq import TaskiqResult
from taskiq.depends.progress_tracker import (  # pyright: ignore[reportMissingTypeStubs]
    TaskProgress as HostTaskProgress,
)

from taskiq_flow.exceptions import ResultNotFoundError, ResultOptionError
from taskiq_flow.model.numbers import is_count
from taskiq_flow.progress import TaskProgress
from taskiq_flow.result_backends.base import AsyncResultBackend

T = TypeVar("T")
V = TypeVar("V")


class InmemoryResultBackend(AsyncResultBackend[T]):
    """Keeps the newest results of this process, as the objects that they are.

    ``max_stored_results`` is how many, and of how many tasks the progress is kept; -1 is no limit.

    Raises:
        ResultOptionError: ``max_stored_results`` is neither -1 nor at least 1.
    """

    def __init__(self, max_stored_results: int = 100) -> None:
        if max_stored_results != -1 and not is_count(max_stored_results):
            rule = "must be at least 1, or -1 for no limit"
            raise ResultOptionError("max_stored_results", max_stored_results, rule)
        self.max_stored_results = max_stored_results
        self.results: dict[str, TaskiqResult[T]] = {}
        self.progress: dict[str, TaskProgress] = {}

    async def set_result(self, task_id: str, result: TaskiqResult[T]) -> None:
        """Keep a result; the oldest one goes when there are too many."""
        self._keep(self.results, task_id, result)

    async def get_result(self, task_id: str, with_logs: bool = True) -> TaskiqResult[T]:
        found = self.results.get(task_id)
        if found is None:
            raise ResultNotFoundError(task_id)
        return found if with_logs else found.model_copy(update={"log": None})

    async def is_result_ready(self, task_id: str) -> bool:
        return task_id in self.results

    async def delete_result(self, task_id: str) -> None:
        self.results.pop(task_id, None)
        self.progress.pop(task_id, None)

    async def set_progress(self, task_id: str, progress: HostTaskProgress[Any]) -> None:
        self._keep(self.progress, task_id, TaskProgress.from_taskiq(progress))

    async def get_progress(self, task_id: str) -> TaskProgress | None:
        return self.progress.get(task_id)

    def _keep(self, kept: dict[str, V], task_id: str, value: V) -> None:
        kept.pop(task_id, None)  # so that what is set again counts as new
        kept[task_id] = value
        if self.max_stored_results != -1 and len(kept) > self.max_stored_results:
            del kept[next(iter(kept))]
