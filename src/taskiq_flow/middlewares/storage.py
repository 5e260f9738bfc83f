"""Copies the results of tasks and steps into a key-value storage."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from taskiq import TaskiqMessage, TaskiqMiddleware, TaskiqResult

from taskiq_flow.codec import encode
from taskiq_flow.exceptions import ConfigurationError, StorageUseError
from taskiq_flow.model.numbers import is_number
from taskiq_flow.storage.base import BaseStorageAdapter
from taskiq_flow.storage.memory import InMemoryStorageAdapter
from taskiq_flow.storage.rules import check_ttl

logger = logging.getLogger("taskiq_flow.storage")


class StorageMiddleware(TaskiqMiddleware):
    """Stores what each task of this worker gave; without a storage, in this process's memory.

    The key is ``pipeline:{pipeline_id}:task:{task_id}`` for steps, and for tasks with a label
    ``pipeline_id``, else ``task:{task_id}``. The value is a dict of ``task_id``, ``pipeline_id``,
    ``is_err``, ``return_value``, ``error`` (type and text, or None) and ``execution_time`` in
    seconds. A return value that has no stored form is kept as its ``repr``.

    A storage that raises, or takes longer than ``timeout_seconds``, costs its copy and a log line,
    never the task. It is closed with the broker. The place among other middlewares is free.
    """

    def __init__(
        self,
        storage: BaseStorageAdapter | None = None,
        enabled: bool = True,
        *,
        ttl_seconds: float | None = None,
        timeout_seconds: float = 2.0,
    ) -> None:
        super().__init__()
        if not (is_number(timeout_seconds) and timeout_seconds > 0):
            rule = "must be a positive number of seconds"
            raise StorageUseError("timeout_seconds", timeout_seconds, rule)
        self.storage = InMemoryStorageAdapter() if storage is None else storage
        self.enabled = enabled
        self.ttl_seconds = check_ttl("ttl_seconds", ttl_seconds)
        self.timeout_seconds = timeout_seconds

    async def post_save(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        if not self.enabled:
            return
        key = storage_key(message)
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await self.storage.set(key, _facts(message, result), self.ttl_seconds)
        except Exception:  # a storage of anyone must not harm the task
            logger.exception("The result of task %s was not stored", message.task_id)

    async def shutdown(self) -> None:
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await self.storage.close()
        except Exception:
            logger.exception("%s was not closed", type(self.storage).__name__)


def storage_key(message: TaskiqMessage) -> str:
    """Where the result of a task is kept."""
    pipeline_id = message.labels.get("pipeline_id")
    own = f"task:{message.task_id}"
    return own if pipeline_id is None else f"pipeline:{pipeline_id}:{own}"


def _facts(message: TaskiqMessage, result: TaskiqResult[Any]) -> dict[str, Any]:
    error = result.error
    return {
        "task_id": message.task_id,
        "pipeline_id": message.labels.get("pipeline_id"),
        "is_err": result.is_err,
        "return_value": _storable(result.return_value),
        "error": None if error is None else f"{type(error).__name__}: {error}",
        "execution_time": result.execution_time,
    }


def _storable(value: Any) -> Any:
    try:
        encode(value, where="return value", limit=None)
    except ConfigurationError:
        return repr(value)
    return value
