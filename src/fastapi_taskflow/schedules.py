"""The clock of a manager: adds what it has on schedule, once among all instances."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from fastapi_taskflow.arguments import encode_call
from fastapi_taskflow.checks import check_call, check_key, check_time
from fastapi_taskflow.drafts import Draft, TaskFacts, new_task_id, read_facts
from fastapi_taskflow.exceptions import TaskGoneError
from fastapi_taskflow.models import Executor, ScheduledOnce, TaskConfig
from fastapi_taskflow.operations import TaskOperations
from fastapi_taskflow.periodic import TREATMENT, PeriodicScheduler, ScheduledEntry
from fastapi_taskflow.plans import Place
from fastapi_taskflow.registry import is_same, name_of
from fastapi_taskflow.storing import create_within
from taskiq_flow.engine.client import RunClient
from taskiq_flow.exceptions import StorageUnavailableError
from taskiq_flow.model.records import NewRun
from taskiq_flow.scheduling.book import JobBook
from taskiq_flow.scheduling.job import ScheduledJob
from taskiq_flow.scheduling.options import Treatment, check_id, read_options
from taskiq_flow.scheduling.work import Work
from taskiq_flow.stores.base import RunStore

if TYPE_CHECKING:
    from fastapi_taskflow.core import TaskCore

F = TypeVar("F", bound=Callable[..., Any])

Which = str | Callable[..., Any]
"""A schedule: its function (the first schedule of it), or its id."""


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
        **how: Unpack[Treatment],
    ) -> Callable[[F], F]:
        """Add a function without arguments every so many seconds, or by a cron expression.

        Each time is added once among all instances on one store. ``how`` says how times are
        treated, as for pipelines (see `Treatment`). Unless it is given, a task may still run when
        its next time comes (``overlap="allow"``), and times that passed while no instance ran are
        left out (``catch_up="none"``).

        Raises:
            TaskOptionError: Not exactly one of ``every`` and ``cron`` was given.
            ScheduleError: It makes no times, there is no such time zone, or an option makes no
                sense.
            TaskArgumentError: The function has a parameter that needs an argument; it is named.
        """
        options = read_options(how, TREATMENT)
        config = TaskConfig(
            retries=retries, delay=delay, backoff=backoff, name=name, queue=queue, executor=executor
        )

        def decorate(func: F) -> F:
            entry = ScheduledEntry(
                func, config, every, cron, run_on_startup, timezone, options=options
            )
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

        Raises:
            TaskArgumentError: An argument cannot be stored; it names the parameter.
            UnnamedTaskError: The function has no name by which another process could find it.
        """
        task = self.core.task_of(func, outlives=True)
        check_call(task.name, tags=tags, priority=priority, queue=queue)
        check_key("Run key", run_key)
        if idempotency_key is not None:
            check_key("Idempotency key", idempotency_key)
        check_time(task.name, run_at)
        place = Place.of(task.config, queue, priority)
        payload = encode_call(task, args, kwargs, self.core.cipher)
        facts = TaskFacts.of(
            task, place, tags, key=idempotency_key, source="scheduled", run_key=run_key
        )
        draft = Draft(task, new_task_id(), payload, facts, place, args, kwargs)
        await self.operations.schedule(draft, run_at)

    async def cancel_scheduled(self, run_key: str) -> bool:
        """Cancel a task that waits for its time; False when there is none."""
        return await self.operations.cancel_scheduled(run_key)

    async def list_scheduled(self, before: datetime | None = None) -> list[ScheduledOnce]:
        """All tasks that wait for their time, soonest first."""
        return await self.operations.scheduled(before)

    # -- of schedules; all raise `JobNotFoundError` where there is none

    async def list_schedules(self) -> list[ScheduledJob]:
        """All schedules beside the tasks, by id; those of other instances and pipelines too."""
        async with self.schedules.opened() as jobs:
            return await jobs.list_jobs()

    async def pause_schedule(self, which: Which) -> ScheduledJob:
        """Add nothing by a schedule, on any instance, until it is resumed."""
        async with self.schedules.opened() as jobs:
            return await jobs.pause_job(self.schedules.id_of(which))

    async def resume_schedule(self, which: Which) -> ScheduledJob:
        """Go on with a schedule from now on; what it left out is not caught up."""
        async with self.schedules.opened() as jobs:
            return await jobs.resume_job(self.schedules.id_of(which))

    async def run_schedule(self, which: Which) -> str:
        """Add the task of a schedule at once, paused or not; returns the id of the task.

        Raises:
            DuplicatePipelineError: One is running, and its ``overlap`` lets no other begin.
            QueueFullError: Its queue is full.
        """
        async with self.schedules.opened() as jobs:
            return await jobs.start_run(self.schedules.id_of(which))

    async def remove_schedule(self, which: Which) -> None:
        """Remove a schedule; a program that has it in its code adds it again when it starts."""
        async with self.schedules.opened() as jobs:
            await jobs.remove_job(self.schedules.id_of(which))


class ScheduledRuns:
    """Makes the runs of schedules: as `add_task` does, within the bounds of their queues."""

    publishes = False

    def __init__(self, core: TaskCore) -> None:
        broker = core.broker if core.engine is None else core.engine.broker
        assert broker is not None, "the core is open"
        self._core, self._client = core, RunClient.of(broker)

    @property
    def store(self) -> RunStore:
        return self._client.store

    async def create(self, new: NewRun, items: Mapping[int, Sequence[bytes]] | None = None) -> str:
        assert not items, "a task has none"
        lane = self._core.queues.lane_of(read_facts(new.meta).queue)
        await self._client.runtime.sender.send(await create_within(self.store, lane, new))
        return new.run_id

    async def cancel(self, run_id: str, reason: str | None = None) -> bool:
        cancelled = await self._client.cancel(run_id, reason)
        if cancelled and self._core.engine is not None:
            self._core.engine.stop_run(run_id)
        return cancelled


class Schedules:
    """The entries of ``@task_manager.schedule``, and what fires them in one event loop.

    ``clock`` is the time by which they are fired; tests may set another before the start.
    """

    def __init__(self, core: TaskCore) -> None:
        self._core = core
        self.clock: Callable[[], float] = time.time
        self.entries: list[ScheduledEntry] = []
        self._scheduler: PeriodicScheduler | None = None

    def add(self, entry: ScheduledEntry) -> None:
        """Take an entry; while the application runs it counts from now on.

        Raises:
            ScheduleError: The name of its function is too long for an id.
            TaskArgumentError: Its function cannot be called without arguments.
        """
        same = sum(is_same(known.func, entry.func) for known in self.entries)
        task = self._core.registry.of(entry.func)
        encode_call(task, (), {}, None)
        identity = task.identity
        entry.job_id = check_id("job_id", f"{identity} {same + 1}" if same else identity)
        self.entries.append(entry)
        loop = self._core.loop
        if self._scheduler is not None and loop is not None:
            loop.call_soon_threadsafe(self._begin, entry)

    def _begin(self, entry: ScheduledEntry) -> None:
        if self._scheduler is not None:
            self._scheduler.add(entry)
            if not self._scheduler.running:
                self._core.endings.background(self._scheduler.start())

    def id_of(self, which: Which) -> str:
        """The id of a schedule.

        Raises:
            TaskGoneError: The function is on no schedule.
        """
        if isinstance(which, str):
            return which
        for entry in self.entries:
            if is_same(entry.func, which):
                return entry.job_id
        raise TaskGoneError(name_of(which), "it is on no schedule of this manager")

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[PeriodicScheduler]:
        """The scheduler of this event loop, or one for a moment that fires nothing."""
        await self._core.opened_store()
        if self._scheduler is not None and self._core.loop is asyncio.get_running_loop():
            yield self._scheduler
            return
        scheduler = self._make()
        try:
            yield scheduler
        finally:
            await scheduler.shutdown()

    async def open(self) -> None:
        """Fire from now on; an application without entries has nothing to do for it."""
        if self._scheduler is not None:
            return
        self._scheduler = self._make()
        for entry in self.entries:
            self._scheduler.add(entry)
        if self.entries:
            await self._scheduler.start()

    async def close(self) -> None:
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            with suppress(StorageUnavailableError):
                await scheduler.shutdown()

    def _make(self) -> PeriodicScheduler:
        book = JobBook.beside(self._core.store)
        return PeriodicScheduler(book, ScheduledRuns(self._core), self._work_of, clock=self.clock)

    def _work_of(self, entry: ScheduledEntry) -> Work:
        task = self._core.registry.of(entry.func)
        place = Place.of(entry.config)
        facts = TaskFacts.of(task, place, source="scheduled")
        # Not encrypted: there are no arguments, and it would be another job at each start.
        payload = encode_call(task, (), {}, None)
        plan = self._core.plans.of(task, place)
        return Work(plan, (payload,), meta=facts.kept(), hides_time=True)
