"""Hears how tasks end, wakes those who wait for it, and tells the observers."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fastapi_taskflow.exceptions import ManagerOptionError, TaskInterruptedError
from fastapi_taskflow.loggers.base import LifecycleEvent, TaskEvent
from fastapi_taskflow.models import TaskRecord, TaskStatus
from fastapi_taskflow.plans import KIND
from fastapi_taskflow.records import record_of
from fastapi_taskflow.runner import Ended, TaskRunner
from taskiq_flow.exceptions import StoreError
from taskiq_flow.model.numbers import is_number
from taskiq_flow.model.records import RunStatus
from taskiq_flow.stores.base import RunStore

logger = logging.getLogger("fastapi_taskflow")

LOOK_SECONDS = 0.5
"""Ends of tasks that run elsewhere are looked for this often, while somebody waits for them."""


@dataclass(slots=True, eq=False)
class _Wait:
    """Somebody waits for tasks of which some are ``left``."""

    left: set[str]
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, task_id: str) -> None:
        self.left.discard(task_id)
        if not self.left:
            self.is_over.set()


@dataclass(slots=True)
class Endings:
    """The ends of tasks in one event loop; ``is_here`` knows those that this process will run."""

    tell: Callable[[TaskEvent], None] | None
    forget: Callable[[str], None]
    is_here: Callable[[str], bool]
    _store: RunStore | None = None
    _runner: TaskRunner | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _waiting: dict[str, list[_Wait]] = field(default_factory=dict[str, list["_Wait"]])
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set["asyncio.Task[Any]"])

    def open(self, store: RunStore, runner: TaskRunner | None = None) -> None:
        self._store, self._runner = store, runner
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        """Tell what is being told, and hear nothing more."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        self._store = self._runner = self._loop = None

    def background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something beside the caller, and keep it from being collected meanwhile."""
        self.keep(asyncio.get_running_loop().create_task(work))

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Hold a task until it has ended; its error is logged."""
        self._tasks.add(task)
        task.add_done_callback(_log_failure)
        task.add_done_callback(self._tasks.discard)

    def hear(self, run_id: str, status: RunStatus) -> None:
        """A run has ended; called by the store, in any thread."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            here = asyncio.get_running_loop() is loop
        except RuntimeError:
            here = False
        if here:
            self._end(run_id, status)
        else:
            loop.call_soon_threadsafe(self._end, run_id, status)

    def _end(self, run_id: str, status: RunStatus) -> None:
        self.forget(run_id)
        for wait in self._waiting.pop(run_id, ()):
            wait.hear(run_id)
        ended = None if self._runner is None else self._runner.ended.pop(run_id, None)
        if self.tell is None:
            return
        if ended is not None and status is not RunStatus.CANCELLED:
            self.tell(_event(ended, status))
        elif self._store is not None and status is not RunStatus.COMPLETED:
            self.background(self._tell_of(self._store, run_id))

    async def _tell_of(self, store: RunStore, run_id: str) -> None:
        """Tell of a task that did not end by itself: cancelled, rejected or lost."""
        try:
            run = await store.get(run_id)
        except StoreError as error:
            logger.warning("The end of task %s is not told: %s", run_id, error)
            return
        if run is not None and run.kind == KIND and self.tell is not None:
            self.tell(_event_of(record_of(run)))

    # -- waiting

    async def wait(self, task_ids: Iterable[str], timeout_seconds: float | None) -> bool:
        """Wait until tasks have ended, at most so long; says whether all of them have.

        Raises:
            ManagerOptionError: The time is no number of seconds.
        """
        if timeout_seconds is not None and not is_number(timeout_seconds):
            rule = "must be a number of seconds, or None"
            raise ManagerOptionError("timeout", timeout_seconds, rule)
        home = self._loop
        if home is not None and home is not asyncio.get_running_loop() and home.is_running():
            there = self.wait(tuple(task_ids), timeout_seconds)
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(there, home))
        wait, store = _Wait(set(task_ids)), self._store
        if not wait.left or store is None:
            return not wait.left
        for task_id in wait.left:
            self._waiting.setdefault(task_id, []).append(wait)
        try:
            async with asyncio.timeout(timeout_seconds):
                # Of those that are here the end will be heard, unless it comes from elsewhere.
                if all(map(self.is_here, wait.left)):
                    await self._rest(wait)
                while wait.left:
                    for task_id in await store.ended_among(list(wait.left)):
                        wait.hear(task_id)
                    await self._rest(wait)
            await asyncio.sleep(0)  # in this turn its queue counts it, too
        except TimeoutError:
            return False
        finally:
            for task_id in wait.left:
                self._waiting[task_id].remove(wait)
                if not self._waiting[task_id]:
                    del self._waiting[task_id]
        return True

    async def _rest(self, wait: _Wait) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await wait.is_over.wait()


def _event(ended: Ended, run: RunStatus) -> LifecycleEvent:
    context, error = ended.going.context, ended.error
    status = TaskStatus.SUCCESS if run is RunStatus.COMPLETED else TaskStatus.FAILED
    if isinstance(error, TaskInterruptedError):
        status = TaskStatus.INTERRUPTED
    now = datetime.now(UTC)
    return LifecycleEvent(
        task_id=context.task_id,
        func_name=context.func_name,
        status=status,
        timestamp=now,
        attempt=context.attempt,
        retries_used=context.attempt,
        duration=(now - ended.going.step.started_at).total_seconds(),
        error=None if error is None else str(error) or type(error).__name__,
        stacktrace=None if error is None else "".join(traceback.format_exception(error)),
        tags=dict(context.tags),
    )


def _event_of(record: TaskRecord) -> LifecycleEvent:
    return LifecycleEvent(
        task_id=record.task_id,
        func_name=record.func_name,
        status=record.status,
        timestamp=record.end_time or datetime.now(UTC),
        attempt=record.retries_used,
        retries_used=record.retries_used,
        duration=record.duration,
        error=record.error,
        stacktrace=record.stacktrace,
        tags=record.tags,
    )


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("Work beside the tasks failed", exc_info=task.exception())
