"""Runs pipelines by the clock: `PipelineScheduler`, of which any number may be at work."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Self, TypeVar, Unpack, overload

from taskiq import AsyncBroker

from taskiq_flow.compile import Startable
from taskiq_flow.engine.client import RunClient
from taskiq_flow.exceptions import ScheduleError
from taskiq_flow.hooks.feed import HookFeed
from taskiq_flow.metrics.schedules import measure_schedules
from taskiq_flow.model.numbers import is_number
from taskiq_flow.observers.calling import call_hook
from taskiq_flow.pipeline.base import BasePipeline
from taskiq_flow.scheduling.drafting import Names, as_pipeline, draft_job, merge, retime, work_of
from taskiq_flow.scheduling.job import Job, ScheduledJob
from taskiq_flow.scheduling.keeper import JobKeeper
from taskiq_flow.scheduling.options import Schedule, check_id, read_options, read_trigger
from taskiq_flow.scheduling.places import open_book
from taskiq_flow.scheduling.triggers import Trigger, Zone, create_interval_trigger, zone_name
from taskiq_flow.stores.base import RunStore
from taskiq_flow.task import PipelineTask

logger = logging.getLogger("taskiq_flow.scheduling")

ErrorHandler = Callable[[ScheduledJob, BaseException], Any]
H = TypeVar("H", bound=ErrorHandler)
P = TypeVar("P")


class PipelineScheduler(JobKeeper):
    """Starts pipelines by cron, at intervals, or once.

    Jobs are stored with their compiled plans and inputs, in the place of the broker's runs unless
    ``store`` says otherwise, so a process that has only the broker and the store fires them. Any
    number of schedulers may run on the same jobs: each tick is one run, and one of them carries
    on when another dies. Their clocks should agree.

    ``store`` is "memory", "sqlite" (in the file ``store_path``), a run store or its URL;
    ``db_url`` and ``job_store_url`` are other names of it. ``timezone`` is that of cron
    expressions and times that name none.

    >>> async with PipelineScheduler(broker, timezone="Europe/Berlin") as scheduler:
    >>>     await scheduler.schedule(pipeline, "30 2 * * *", job_id="nightly")
    """

    def __init__(
        self,
        broker: AsyncBroker,
        store: str | RunStore | None = None,
        *,
        store_path: str | None = None,
        timezone: Zone = "UTC",
        db_url: str | None = None,
        job_store_url: str | None = None,
        clock: Callable[[], float] = time.time,
        poll_seconds: float = 1.0,
    ) -> None:
        if not (is_number(poll_seconds) and poll_seconds > 0):
            raise ScheduleError("poll_seconds", poll_seconds, "must be a number of more than 0")
        self.broker, self.timezone = broker, zone_name(timezone)
        self._client = RunClient.of(broker)
        places = {"store": store, "db_url": db_url, "job_store_url": job_store_url}
        book = open_book(self._client.store, places, store_path)
        super().__init__(
            book, self._client, lambda job: not job.kind, clock=clock, poll_seconds=poll_seconds
        )
        self._firing.on_fired, self._firing.on_failed = self._fired, self._failed
        self._stop_measuring: Callable[[], None] = lambda: None
        self._handlers: list[ErrorHandler] = []
        self._calls: set[asyncio.Task[None]] = set()
        self._pipelines: dict[str, BasePipeline] = {}
        self._declared: list[Callable[[], Coroutine[Any, Any, ScheduledJob]]] = []

    # -- its own life

    async def start(self) -> None:
        """Store what was declared by decorators, and fire jobs from now on; may be repeated.

        While a store does not answer it goes on trying.
        """
        while self._declared:
            await self._declared[0]()
            del self._declared[0]
        await super().start()
        self._stop_measuring()
        self._stop_measuring = measure_schedules(self, self.broker)

    async def shutdown(self) -> None:
        """Stop; what is being fired is finished first. Jobs stay stored."""
        self._stop_measuring()
        await self._service.stop()
        if self._calls:
            await asyncio.wait(self._calls)  # they may ask for jobs
        await super().shutdown()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.shutdown()

    # -- scheduling

    @overload
    def schedule(
        self,
        pipeline: None = None,
        cron: str | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        job_id: str | None = None,
        pipeline_id: str | None = None,
        label: str | None = None,
        replace_existing: bool = True,
        **how: Unpack[Schedule],
    ) -> Callable[[P], P]: ...
    @overload
    def schedule(
        self,
        pipeline: Any,
        cron: str | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        job_id: str | None = None,
        pipeline_id: str | None = None,
        label: str | None = None,
        replace_existing: bool = True,
        **how: Unpack[Schedule],
    ) -> Coroutine[Any, Any, ScheduledJob]: ...
    def schedule(
        self,
        pipeline: Any = None,
        cron: str | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        job_id: str | None = None,
        pipeline_id: str | None = None,
        label: str | None = None,
        replace_existing: bool = True,
        **how: Unpack[Schedule],
    ) -> Any:
        """Store a job: a pipeline, or a task, with the arguments of each run.

        When it runs: one of ``cron``, ``interval_seconds``, ``run_at`` and ``trigger``. How ticks
        are treated: ``overlap``, ``catch_up``, ``jitter_seconds``, ``max_instances``,
        ``coalesce``, ``misfire_grace_time``; see `Treatment`.

        Scheduling the same again changes nothing, so it may be done at every start of a program:
        a job of the same ``job_id`` is changed where it differs, and stays paused if it was.
        Without a ``job_id``, the ``label`` is it, else it follows from what is run and when.
        ``pipeline_id`` names the runs; while one of that name is going, no other begins.

        Without a pipeline this is a decorator of a task, or of a function that returns a
        pipeline; the job is stored by `start`.

        Raises:
            ScheduleError: Something about its times or options makes no sense.
            ConfigurationError: The pipeline cannot be started with these arguments.
            DuplicateJobError: There is such a job, and ``replace_existing`` is False.
            StorageUnavailableError: The storage of jobs does not answer.
        """
        trigger, options = self._trigger({"cron": cron, **how}), read_options(how)
        names = Names(job_id, pipeline_id, label)

        async def put(given: Any) -> ScheduledJob:
            made = as_pipeline(self.broker, given)
            work = work_of(made, args, kwargs, self._client.runtime.config.max_fan_out)
            job = draft_job(made, work, trigger, options, names, self._clock())
            job = await self.book.put(job, work, merge, replace_existing=replace_existing)
            return self._known(job, made)

        if pipeline is not None:
            return put(pipeline)

        def declare(given: P) -> P:
            made: Any = given
            is_builder = not isinstance(given, Startable) and not hasattr(given, "task_name")
            self._declared.append(lambda: put(made() if is_builder else made))
            return given

        return declare

    async def schedule_interval(
        self,
        pipeline: Any,
        seconds: float = 0,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
        weeks: float = 0,
        *,
        start_at: datetime | None = None,
        **facts: Any,
    ) -> ScheduledJob:
        """Run a pipeline at an even distance, first one interval from now or at ``start_at``.

        ``facts`` are the other arguments of `schedule`.
        """
        zone = facts.get("timezone", self.timezone)
        trigger = create_interval_trigger(
            seconds, minutes, hours, days, weeks, start_at=start_at, timezone=zone
        )
        return await self.schedule(as_pipeline(self.broker, pipeline), trigger=trigger, **facts)

    async def schedule_at(self, pipeline: Any, run_at: datetime, **facts: Any) -> ScheduledJob:
        """Run a pipeline once; ``facts`` are the other arguments of `schedule`."""
        return await self.schedule(as_pipeline(self.broker, pipeline), run_at=run_at, **facts)

    # -- changing

    async def modify_job(
        self,
        job_id: str | ScheduledJob,
        *,
        pipeline: Any = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        cron: str | None = None,
        label: str | None = None,
        **how: Unpack[Schedule],
    ) -> ScheduledJob:
        """Change what a job runs, when, or how its ticks are treated; the rest stays.

        ``args`` and ``kwargs`` are those of a ``pipeline`` that is given with them.

        Raises:
            ScheduleError: Something about its times or options makes no sense.
        """
        if pipeline is None and (args is not None or kwargs is not None):
            rule = "need the pipeline as well, which says how they are stored; pass pipeline="
            raise ScheduleError("args", (args, kwargs), rule)
        now = self._clock()
        trigger = read_trigger({"cron": cron, **how}, self.timezone, now)
        if label is not None:
            check_id("label", label)

        def modified(job: Job) -> Job:
            job = replace(job, options=read_options(how, job.options), label=label or job.label)
            return job if trigger is None else retime(job, trigger, now)

        if pipeline is None:
            return await self._change(job_id, modified)
        made = as_pipeline(self.broker, pipeline)
        work = work_of(made, args or (), kwargs, self._client.runtime.config.max_fan_out)
        draft = replace(await self.book.get(str(job_id)), pipeline=work.name)

        def merged(old: Job, new: Job) -> Job:
            return modified(replace(old, work=new.work, pipeline=new.pipeline))

        job = await self.book.put(draft, work, merged, replace_existing=True)
        return self._known(job, made)

    async def reschedule_job(
        self, job_id: str | ScheduledJob, cron: str | None = None, **how: Unpack[Schedule]
    ) -> ScheduledJob:
        """Give a job other times, from now on.

        Raises:
            ScheduleError: They make no sense, or none are given.
        """
        self._trigger({"cron": cron, **how})
        return await self.modify_job(job_id, cron=cron, **how)

    async def run_now(self, job_id: str | ScheduledJob) -> PipelineTask[Any]:
        """Start a run of a job at once, paused or not; its ticks stay as they are.

        Raises:
            DuplicatePipelineError: A run is going, and the job's ``overlap`` lets none begin.
        """
        return PipelineTask(await self.start_run(job_id), self._client)

    def on_error(self, handler: H) -> H:
        """Call a function, sync or async, with the job and the error when no run could be made.

        What becomes of a run is not told here: listeners and hooks hear of that.
        """
        self._handlers.append(handler)
        return handler

    # -- inside

    def _trigger(self, how: Mapping[str, Any]) -> Trigger:
        trigger = read_trigger(how, self.timezone, self._clock())
        if trigger is None:
            rule = "is missing; give one of cron, interval_seconds, run_at and trigger"
            raise ScheduleError("time", None, rule)
        return trigger

    def _known(self, job: Job, pipeline: Startable) -> ScheduledJob:
        """Remember a pipeline that was scheduled here: it may be tracked, and have hooks."""
        if isinstance(pipeline, BasePipeline):
            self._pipelines[job.job_id] = pipeline
        self._changed()
        return ScheduledJob.of(job)

    def _fired(self, job: Job, run_id: str) -> None:
        pipeline = self._pipelines.get(job.job_id)
        if pipeline is not None and pipeline.tracking is not None:
            pipeline.tracking.watch(self.broker, run_id)
        if pipeline is not None and pipeline.hooks is not None:
            HookFeed.of(self.broker).follow(run_id, pipeline.hooks)

    def _failed(self, job: Job, error: BaseException) -> None:
        for handler in self._handlers:
            call = self._call(handler, ScheduledJob.of(job), error)
            task = asyncio.get_running_loop().create_task(call)
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def _call(self, handler: ErrorHandler, job: ScheduledJob, error: BaseException) -> None:
        try:
            await call_hook(handler, job, error)
        except Exception:
            # A handler is the user's, and may raise what it likes.
            logger.exception("A handler of errors of job %s failed.", job.job_id)
