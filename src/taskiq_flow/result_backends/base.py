"""What every result backend of Taskiq-Flow can do."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, TypeVar

import taskiq
from taskiq.depends.progress_tracker import (  # pyright: ignore[reportMissingTypeStubs]
    TaskProgress as HostTaskProgress,
)

from taskiq_flow.progress import TaskProgress

T = TypeVar("T")


class AsyncResultBackend(taskiq.AsyncResultBackend[T]):
    """Taskiq's result backend that can also forget a result, and keeps progress.

    ``get_result`` of a task that has none raises `ResultGetError`. Deleting what is not there is
    no error.
    """

    @abstractmethod
    async def delete_result(self, task_id: str) -> None:
        """Forget the result and the progress of a task."""

    async def get_progress(self, task_id: str) -> TaskProgress | None:
        """What the task has said last of its progress; None when it has said nothing."""

    async def set_progress(self, task_id: str, progress: HostTaskProgress[Any]) -> None:
        """Replace what is known of the progress of a task."""
