"""A result backend that keeps nothing."""

from __future__ import annotations

from typing import TypeVar

from taskiq import TaskiqResult
from taskiq.result_backends.dummy import DummyResultBackend as HostDummyResultBackend

from taskiq_flow.exceptions import ResultNotFoundError
from taskiq_flow.result_backends.base import AsyncResultBackend

T = TypeVar("T")


# Taskiq's own is a base too: who asks whether a broker keeps results asks for that class.
class DummyResultBackend(AsyncResultBackend[T], HostDummyResultBackend[T]):
    """Keeps nothing: no result is ever ready, and asking for one is an error.

    Taskiq's class of this name answers 'ready' and None instead.
    """

    async def set_result(self, task_id: str, result: TaskiqResult[T]) -> None:
        """Do nothing."""

    async def get_result(
        self,
        task_id: str,
        with_logs: bool = True,  # noqa: ARG002 - the interface's
    ) -> TaskiqResult[T]:
        raise ResultNotFoundError(task_id)

    async def is_result_ready(self, task_id: str) -> bool:  # noqa: ARG002 - the interface's
        return False

    async def delete_result(self, task_id: str) -> None:
        """Do nothing."""
