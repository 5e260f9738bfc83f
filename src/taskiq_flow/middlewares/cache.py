"""Returns the kept result of a task that was called with the same arguments before."""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

from taskiq import TaskiqMessage, TaskiqMiddleware

from taskiq_flow.cache.base import BaseCacheAdapter
from taskiq_flow.cache.memory import InMemoryCacheAdapter
from taskiq_flow.codec import decode_error, encode, encode_error
from taskiq_flow.engine.invoke import StepMessage
from taskiq_flow.exceptions import ConfigurationError, StepFailedError
from taskiq_flow.storage.rules import check_ttl

logger = logging.getLogger("taskiq_flow.cache")


class _Wanted(NamedTuple):
    key: str
    ttl_seconds: float
    with_errors: bool = False


_wanted: ContextVar[_Wanted | None] = ContextVar("_wanted", default=None)


class CacheMiddleware(TaskiqMiddleware):
    """Keeps results of tasks that ask for it; without a cache, in this process's memory.

    A task asks with a label: ``cache_ttl=60`` for so many seconds, or ``cache=True`` for
    ``default_ttl``. A result belongs to the task's name and arguments; label ``cache_version`` is
    changed with the code. A hit does not call the function; while one worker computes, the others
    that want the same wait. A cache that fails costs the hit and a log line, never the task.
    Only ``async def`` tasks can be cached; another one runs and says so in the log.

    Errors are kept only with the label ``cache_errors=True``; a kept one is raised again where its
    type can be rebuilt, else as `StepFailedError`.

    Steps of pipelines have a cache in the run store instead: ``@pipeline_task(cache=...)``.
    """

    def __init__(
        self,
        cache: BaseCacheAdapter | None = None,
        enabled: bool = True,
        default_ttl: float = 3600,
    ) -> None:
        super().__init__()
        check_ttl("default_ttl", default_ttl)
        self.cache = InMemoryCacheAdapter() if cache is None else cache
        self.enabled, self.default_ttl = enabled, default_ttl

    async def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        wanted = None
        if self.enabled and not isinstance(message, StepMessage):
            wanted = self._wanted(message)
        _wanted.set(wanted)
        if wanted is not None:
            task = self.broker.find_task(message.task_name)
            # Taskiq (0.13) reads the function after this hook, so it can still be wrapped here.
            if task is not None and not hasattr(task.original_func, "flow_cached"):
                if inspect.iscoroutinefunction(task.original_func):
                    task.original_func = self._cached(task.original_func)
                else:
                    logger.warning("Task %s is not async, so not cached", message.task_name)
        return message

    async def shutdown(self) -> None:
        try:
            await self.cache.close()
        except Exception:  # a cache of anyone must not keep a worker from its end
            logger.exception("%s was not closed", type(self.cache).__name__)

    def _wanted(self, message: TaskiqMessage) -> _Wanted | None:
        labels = message.labels
        ttl: Any = labels.get("cache_ttl", self.default_ttl if labels.get("cache") else None)
        if ttl is None:
            return None
        called = [message.task_name, labels.get("cache_version"), message.args, message.kwargs]
        try:
            ttl_seconds = check_ttl("cache_ttl", ttl)
            body = encode(called, where=f"arguments of {message.task_name!r}", limit=None)
        except ConfigurationError as error:
            logger.warning("Task %s runs without its cache: %s", message.task_id, error)
            return None
        assert ttl_seconds is not None
        with_errors = str(labels.get("cache_errors", False)).lower() in ("true", "1")
        kind = "task-or-error" if with_errors else "task"
        return _Wanted(f"{kind}:{hashlib.sha256(body).hexdigest()}", ttl_seconds, with_errors)

    def _cached(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            wanted = _wanted.get()
            if wanted is None:
                return await function(*args, **kwargs)
            _wanted.set(None)  # for this call only: the function may call other tasks
            compute = functools.partial(function, *args, **kwargs)
            if not wanted.with_errors:
                return await self._ask(wanted, compute)
            return _outcome(await self._ask(wanted, functools.partial(_tried, compute)))

        call.flow_cached = True  # type: ignore[attr-defined]
        return call

    async def _ask(self, wanted: _Wanted, compute: Callable[[], Any]) -> Any:
        made: list[Any] = []
        failed: list[Exception] = []

        async def create() -> Any:
            try:
                made.append(await compute())
            except Exception as error:
                failed.append(error)
                raise
            return made[0]

        try:
            return await self.cache.get_or_create(wanted.key, create, wanted.ttl_seconds)
        except Exception as error:
            if failed and failed[0] is error:
                raise
            logger.warning("A cached result could not be read or kept: %s", error)
        # What was computed and could not be kept is not computed again.
        return made[0] if made else await compute()


async def _tried(compute: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"value": await compute()}
    except Exception as error:  # noqa: BLE001 - whatever the task raises is what is kept
        return {"error": encode_error(error).decode()}


def _outcome(kept: dict[str, Any]) -> Any:
    stored: str | None = kept.get("error")
    if stored is None:
        return kept["value"]
    error = decode_error(stored.encode())
    raise error.rebuild() or StepFailedError(error.type_name, error.message, error.traceback)
