"""Tasks that are added by the clock: every so often, or by cron."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from fastapi_taskflow.exceptions import QueueFullError, TaskOptionError
from fastapi_taskflow.models import TaskConfig
from fastapi_taskflow.plans import KIND
from fastapi_taskflow.registry import name_of
from taskiq_flow.exceptions import DuplicatePipelineError, StorageUnavailableError, StoreError
from taskiq_flow.scheduling.book import JobBook
from taskiq_flow.scheduling.drafting import merge
from taskiq_flow.scheduling.firing import RunMaker
from taskiq_flow.scheduling.job import CatchUp, Job, JobOptions, JobState, Overlap
from taskiq_flow.scheduling.keeper import JobKeeper
from taskiq_flow.scheduling.triggers import (
    CronTrigger,
    IntervalTrigger,
    create_cron_trigger,
    create_interval_trigger,
)
from taskiq_flow.scheduling.work import Work

logger = logging.getLogger("fastapi_taskflow.periodic")

DEFAULT_HORIZON: Final = 300.0
"""Kept for code that imports it: one-off tasks wait in the store, however far off they are."""

DEFAULT_REFILL_INTERVAL: Final = 150.0
"""The same."""

STARTUP_SECONDS: Final = 10.0
"""Instances that start within so long of each other run an entry's ``run_on_startup`` once."""

TREATMENT: Final = JobOptions(Overlap.ALLOW, CatchUp.NONE)
"""What becomes of the times of an entry that says nothing about it."""


@dataclass(slots=True)
class ScheduledEntry:
    """A function with its times; made by ``@task_manager.schedule(…)``.

    ``job_id`` is what it is called in the store. ``next_run`` is the next time in UTC, once the
    scheduler has started; None while it is paused.
    """

    func: Callable[..., Any]
    config: TaskConfig
    every: float | None = None
    cron: str | None = None
    run_on_startup: bool = False
    timezone: str = "UTC"
    next_run: datetime | None = None
    job_id: str = ""
    options: JobOptions = TREATMENT
    trigger: CronTrigger | IntervalTrigger = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Read the times, so that wrong ones are refused where they are written.

        Raises:
            TaskOptionError: Not exactly one of ``every`` and ``cron`` was given.
            ScheduleError: One of them makes no times, or there is no such time zone.
            MissingExtraError: ``cron`` needs the extra ``scheduler``.
        """
        if self.every is not None and self.cron is None:
            self.trigger = create_interval_trigger(self.every)
        elif self.cron is not None and self.every is None:
            self.trigger = create_cron_trigger(self.cron, self.timezone)
        else:
            given = (self.every, self.cron)
            rule = "give one of them, not both and not none"
            raise TaskOptionError(name_of(self.func), "(every, cron)", given, rule)

    @property
    def name(self) -> str:
        """What lists show."""
        return self.config.name or name_of(self.func)

    @property
    def recurring(self) -> bool:
        """Whether it has a further time after each; always, see `TaskManager.schedule_once`."""
        return True

    def compute_next(self, now: datetime | None = None) -> datetime:
        """The first time after now, or after the time given; an interval begins there."""
        after = (now or datetime.now(UTC)).timestamp()
        return datetime.fromtimestamp(next(self.trigger.ticks(after, after)), UTC)


class PeriodicScheduler(JobKeeper):
    """Fires the entries of a manager at their times, each time once among all instances.

    Each entry is a job beside the tasks, so it is listed, paused and run at once as the schedules
    of pipelines are. A manager fires what it has entries of, and nothing else: a job whose entry
    is in no running program any more rests until it is removed.
    """

    def __init__(
        self,
        book: JobBook,
        runs: RunMaker,
        work_of: Callable[[ScheduledEntry], Work],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(book, runs, self._takes, clock=clock)
        self._work_of = work_of
        self._entries: dict[str, ScheduledEntry] = {}
        self._coming: list[ScheduledEntry] = []
        self._declaring = asyncio.Lock()

    @property
    def entries(self) -> tuple[ScheduledEntry, ...]:
        return (*self._entries.values(), *self._coming)

    def add(self, entry: ScheduledEntry) -> None:
        """Take an entry; while the scheduler runs it counts from now on."""
        self._coming.append(entry)
        self._service.wake()

    async def start(self) -> None:
        with contextlib.suppress(StoreError, StorageUnavailableError):  # each round tries again
            await self._declare()
        await super().start()

    async def run_due(self) -> float:
        await self._declare()
        next_at = await super().run_due()
        for job_id, entry in self._entries.items():
            when = self._rounds.when(job_id)
            entry.next_run = None if math.isinf(when) else datetime.fromtimestamp(when, UTC)
        return next_at

    def _takes(self, job: Job) -> bool:
        return job.kind == KIND and job.job_id in self._entries

    async def _declare(self) -> None:
        """Store the entries that are not stored yet."""
        async with self._declaring:
            while self._coming:
                entry = self._coming[0]
                work = self._work_of(entry)
                draft = _job_of(entry, work, self._clock())
                job = await self.book.put(draft, work, merge, replace_existing=True)
                if entry.run_on_startup and not job.paused:
                    await self._run_at_start(entry)
                self._entries[entry.job_id] = self._coming.pop(0)
                self._rounds.forget()

    async def _run_at_start(self, entry: ScheduledEntry) -> None:
        first = await self.book.first(entry.job_id, self._clock(), STARTUP_SECONDS)
        try:
            await self.start_run(entry.job_id, at=first)
        except (QueueFullError, DuplicatePipelineError) as error:
            logger.warning("%s was not added at this start: %s", entry.name, error)


def _job_of(entry: ScheduledEntry, work: Work, now: float) -> Job:
    return Job(
        job_id=entry.job_id,
        label=entry.name,
        pipeline=work.name,
        trigger=entry.trigger,
        options=entry.options,
        work=work.digest,
        created_at=now,
        state=JobState(decided_until=now),
        kind=KIND,
    )
