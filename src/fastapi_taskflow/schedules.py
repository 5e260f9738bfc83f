"""The clock of a manager: adds what it has on schedule, once among all instances."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi_taskflow.arguments import encode_call
from fastapi_taskflow.drafts import Draft, TaskFacts, new_task_id
from fastapi_taskflow.models import Executor, ScheduledOnce, TaskConfig
from fastapi_taskflow.operations import TaskOperations
from fastapi_taskflow.periodic import PeriodicScheduler, ScheduledEntry
from fastapi_taskflow.plans import Place
from taskiq_flow.exceptions import StorageUnavailableError
from taskiq_flow.storage.base import BaseStorageAdapter
from taskiq_flow.storage.beside import adapter_beside

if TYPE_CHECKING:
    from fastapi_taskflow.core import TaskCore

F = TypeVar("F", bound=Callable[..., Any])


class Scheduling:
    """The methods of a task manager that have to do with the clock."""

    core: TaskCore
    schedules: Schedules
    operations: TaskOperations

    def schedule(  # noqa: PLR0913 - the documented options
        self,
        *,
        every: float | None = None,
        cron: str | None = None,
        retries: int = 0,
        delay: float = 0.0,
        backoff: float = 1.0,
        name: str | None = None,
        run_on_startup: bool = False,
        timezone: str = "UTC",
        executor: Executor | None = None,
        queue: str | None = None,
    ) -> Callable[[F], F]:
        """Add a function without arguments every so many seconds, or by a cron expression.

        Each time is added once among all instances on one store. Times that passed while none ran
        are left out. A task may still run when its next time comes.

        Raises:
            TaskOptionError: Not exactly one of ``every`` and ``cron`` was given.
            ScheduleError: It makes no times, or there is no such time zone.
        """
        config = TaskConfig(
            retries=retries, delay=delay, backoff=backoff, name=name, queue=queue, executor=executor
        )

        def decorate(func: F) -> F:
            entry = ScheduledEntry(func, config, every, cron, run_on_startup, timezone)
            self.core.register(func, config)
            self.schedules.add(entry)
            return func

        return decorate

    async def schedule_once(
        self,
        func: Callable[..., Any],
        *args: Any,
        run_at: datetime,
        run_key: str,
        idempotency_key: str | None = None,
        tags: dict[str, str] | None = None,
        priority: int | None = None,
        queue: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Run a task once, at a time; one in the past runs now. A naive time is UTC.

        One that waits under the same ``run_key`` is replaced.
        """
        task = self.core.registry.of(func)
        place = Place(queue or task.config.queue, priority or task.config.priority)
        payload = encode_call(task, args, kwargs, self.core.cipher)
        facts = TaskFacts(
            task.identity,
            task.name,
            task.executor,
            place.queue,
            place.priority,
            dict(tags or {}),
            idempotency_key,
            source="scheduled",
            run_key=run_key,
        )
        draft = Draft(task, new_task_id(), payload, facts, place, args, kwargs)
        await self.operations.schedule(draft, run_at)

    async def cancel_scheduled(self, run_key: str) -> bool:
        """Cancel a task that waits for its time; False when there is none."""
        return await self.operations.cancel_scheduled(run_key)

    async def list_scheduled(self, before: datetime | None = None) -> list[ScheduledOnce]:
        """All tasks that wait for their time, soonest first."""
        return await self.operations.scheduled(before)


class Schedules:
    """The entries of ``@task_manager.schedule``, and what fires them in one event loop."""

    def __init__(self, core: TaskCore) -> None:
        self._core = core
        self.entries: list[ScheduledEntry] = []
        self._scheduler: PeriodicScheduler | None = None
        self._storage: BaseStorageAdapter | None = None

    def add(self, entry: ScheduledEntry) -> None:
        """Take an entry; while the application runs it counts from now on."""
        self.entries.append(entry)
        if self._scheduler is not None:
            self._scheduler.add(entry)

    async def open(self) -> None:
        """Fire from now on; an application without entries has nothing to open."""
        if self._scheduler is not None or not self.entries:
            return
        self._storage = adapter_beside(self._core.store, purpose="periodic")
        scheduler = self._scheduler = PeriodicScheduler(self._fire, self._storage)
        for entry in self.entries:
            scheduler.add(entry)
        await scheduler.start()

    async def close(self) -> None:
        scheduler, self._scheduler = self._scheduler, None
        storage, self._storage = self._storage, None
        if scheduler is not None:
            await scheduler.stop()
        if storage is not None:
            with contextlib.suppress(StorageUnavailableError):
                await storage.close()

    async def _fire(self, entry: ScheduledEntry, tick: str) -> None:
        task = self._core.registry.of(entry.func)
        place = Place(entry.config.queue, entry.config.priority)
        facts = TaskFacts(
            task.identity,
            task.name,
            task.executor,
            place.queue,
            place.priority,
            source="scheduled",
        )
        payload = encode_call(task, (), {}, self._core.cipher)
        draft = Draft(task, new_task_id(), payload, facts, place, tick=tick)
        self._core.keep(draft)
        await self._core.commit([draft])
