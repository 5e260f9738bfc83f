"""What result backends that keep bytes have in common: their form, their limits, their errors."""

from __future__ import annotations

import json
import logging
from abc import abstractmethod
from enum import StrEnum
from typing import Any, TypeVar

from taskiq import TaskiqResult
from taskiq.abc.serializer import TaskiqSerializer
from taskiq.depends.progress_tracker import (  # pyright: ignore[reportMissingTypeStubs]
    TaskProgress as HostTaskProgress,
)

from taskiq_flow.codec import DEFAULT_LIMIT, decode, decode_error, encode, encode_error
from taskiq_flow.exceptions import (
    PayloadTooLargeError,
    ResultGetError,
    ResultIsReadyError,
    ResultNotFoundError,
    ResultOptionError,
    StepFailedError,
    UnserializableValueError,
)
from taskiq_flow.model.numbers import LONGEST_SECONDS, is_count, is_number
from taskiq_flow.progress import TaskProgress
from taskiq_flow.result_backends.base import AsyncResultBackend

logger = logging.getLogger("taskiq_flow.result_backends")

WEEK_SECONDS = 7 * 24 * 3600.0

T = TypeVar("T")


class Kind(StrEnum):
    """What is kept of a task."""

    RESULT = "result"
    PROGRESS = "progress"


class StoredResultBackend(AsyncResultBackend[T]):
    """Keeps results as the tagged JSON of `codec`; a subclass reads, writes and removes bytes.

    What is kept is gone ``ttl_seconds`` after it was written (None: never). ``limit`` is how many
    bytes one result or progress may take. ``serializer`` turns the JSON into another form of bytes
    and back. A result that cannot be stored is replaced by the error that says so, because
    whoever waits for it would wait for ever. Exceptions come back as their own type where that is
    Python's, Taskiq's, ours or registered with `register_exception`, else as `StepFailedError`.

    Raises:
        ResultOptionError: ``ttl_seconds`` or ``limit`` makes no sense.
    """

    def __init__(
        self,
        *,
        ttl_seconds: float | None = WEEK_SECONDS,
        limit: int = DEFAULT_LIMIT,
        serializer: TaskiqSerializer | None = None,
    ) -> None:
        seconds = 1.0 if ttl_seconds is None else ttl_seconds
        if not (is_number(seconds) and 0.001 <= seconds <= LONGEST_SECONDS):
            rule = "must be between a millisecond and a hundred years, or None"
            raise ResultOptionError("ttl_seconds", ttl_seconds, rule)
        if not is_count(limit):
            raise ResultOptionError("limit", limit, "must be at least 1 byte, a whole number")
        self.ttl_seconds, self.limit, self.serializer = ttl_seconds, limit, serializer

    @abstractmethod
    async def _write(self, kind: Kind, task_id: str, data: bytes) -> None: ...

    @abstractmethod
    async def _read(self, kind: Kind, task_id: str) -> bytes | None: ...

    @abstractmethod
    async def _has_result(self, task_id: str) -> bool: ...

    async def set_result(self, task_id: str, result: TaskiqResult[T]) -> None:
        """Store a result, or in its place the error that it cannot be stored."""
        try:
            data = _dump(task_id, result, self.limit)
        except (UnserializableValueError, PayloadTooLargeError) as error:
            logger.error("Task %s failed after it had run: %s", task_id, error)
            failed = TaskiqResult[Any](
                is_err=True,
                return_value=None,
                execution_time=result.execution_time,
                error=error,
            )
            # Far smaller than a sensible limit, and without it nobody would ever know.
            data = _dump(task_id, failed, None)
        await self._write(Kind.RESULT, task_id, self._packed(data))

    async def get_result(self, task_id: str, with_logs: bool = True) -> TaskiqResult[T]:
        try:
            data = await self._read(Kind.RESULT, task_id)
            result = None if data is None else _load(self._unpacked(data))
        except Exception as error:  # any driver, any error
            raise ResultGetError(f"The result of task {task_id!r} was not read: {error}") from error
        if result is None:
            raise ResultNotFoundError(task_id)
        if not with_logs:
            result.log = None
        return result

    async def is_result_ready(self, task_id: str) -> bool:
        try:
            return await self._has_result(task_id)
        except Exception as error:  # any driver, any error
            raise ResultIsReadyError(task_id, error) from error

    async def set_progress(self, task_id: str, progress: HostTaskProgress[Any]) -> None:
        """Store how far a task is.

        Raises:
            UnserializableValueError: Its ``meta`` holds something that cannot be stored.
            PayloadTooLargeError: It takes more than ``limit`` bytes.
        """
        facts = TaskProgress.from_taskiq(progress).to_dict()
        data = encode(facts, where=f"progress of task {task_id!r}", limit=self.limit)
        await self._write(Kind.PROGRESS, task_id, self._packed(data))

    async def get_progress(self, task_id: str) -> TaskProgress | None:
        data = await self._read(Kind.PROGRESS, task_id)
        return None if data is None else TaskProgress.from_dict(decode(self._unpacked(data)))

    def _packed(self, data: bytes) -> bytes:
        return data if self.serializer is None else self.serializer.dumpb(json.loads(data))

    def _unpacked(self, data: bytes) -> bytes:
        return data if self.serializer is None else json.dumps(self.serializer.loadb(data)).encode()


def _dump(task_id: str, result: TaskiqResult[Any], limit: int | None) -> bytes:
    facts = {
        "is_err": result.is_err,
        "return_value": result.return_value,
        "execution_time": result.execution_time,
        "labels": result.labels,
        "log": result.log,
        "error": None if result.error is None else encode_error(result.error).decode(),
    }
    return encode(facts, where=f"result of task {task_id!r}", limit=limit)


def _load(data: bytes) -> TaskiqResult[Any]:
    facts: dict[str, Any] = decode(data)
    kept = facts.pop("error")
    result = TaskiqResult[Any](**facts)
    if kept is not None:
        error = decode_error(kept.encode())
        result.error = error.rebuild() or StepFailedError(
            error.type_name, error.message, error.traceback
        )
    return result
