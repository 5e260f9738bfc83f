"""What can be asked of jobs and done to them, by schedulers and by operators."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from taskiq import AsyncBroker

from taskiq_flow.engine.children import cancel_run
from taskiq_flow.engine.client import RunClient
from taskiq_flow.model.records import NewRun
from taskiq_flow.scheduling.book import JobBook
from taskiq_flow.scheduling.firing import Firing, RunMaker
from taskiq_flow.scheduling.job import Job, ScheduledJob
from taskiq_flow.stores.base import RunStore


@dataclass(frozen=True, slots=True)
class SchedulerStats:
    """The jobs counted together; ``running`` says whether this scheduler fires them."""

    running: bool
    jobs: int
    paused: int
    waiting: int
    fired: int
    skipped: int
    missed: int
    failed: int
    next_tick: datetime | None


@dataclass(frozen=True, slots=True)
class _StoreOnly:
    """Makes runs without a broker: workers send the messages when they look for lost ones."""

    store: RunStore
    publishes: bool = False

    async def create(self, new: NewRun, items: Mapping[int, Sequence[bytes]] | None = None) -> str:
        await self.store.create(new, items)
        return new.run_id

    async def cancel(self, run_id: str, reason: str | None = None) -> bool:
        return await cancel_run(self.store, run_id, reason or "")


class JobControl:
    """The jobs of one place. All that takes a job's id raises `JobNotFoundError` for one that is
    not there, and `StorageUnavailableError` when the storage of jobs does not answer."""

    def __init__(
        self, book: JobBook, runs: RunMaker, clock: Callable[[], float] = time.time
    ) -> None:
        self.book, self._clock = book, clock
        self._firing = Firing(secrets.token_hex(6), book, runs, clock)

    @classmethod
    def beside(cls, store: RunStore, broker: AsyncBroker | None = None) -> Self:
        """The jobs beside a run store; without a broker, runs wait for a worker to see them."""
        runs = _StoreOnly(store) if broker is None else RunClient.of(broker)
        return cls(JobBook.beside(store), runs)

    async def close(self) -> None:
        """Give up connections; jobs stay."""
        await self.book.close()

    @property
    def running(self) -> bool:
        """Whether jobs are fired here."""
        return False

    # -- looking

    async def list_jobs(self) -> list[ScheduledJob]:
        """All jobs, by id; those of other schedulers on the same store too."""
        return [ScheduledJob.of(job) for job in await self.book.jobs() if not job.gone]

    async def get_jobs(self) -> list[ScheduledJob]:
        """All jobs; another name of `list_jobs`."""
        return await self.list_jobs()

    async def get_job(self, job_id: str | ScheduledJob) -> ScheduledJob:
        return ScheduledJob.of(await self.book.get(str(job_id)))

    async def get_stats(self) -> SchedulerStats:
        """What has become of the ticks of all jobs that there are."""
        jobs = await self.list_jobs()
        return SchedulerStats(
            running=self.running,
            jobs=len(jobs),
            paused=sum(job.paused for job in jobs),
            waiting=sum(job.waiting for job in jobs),
            fired=sum(job.fired for job in jobs),
            skipped=sum(job.skipped for job in jobs),
            missed=sum(job.missed for job in jobs),
            failed=sum(job.failed for job in jobs),
            next_tick=min((job.next_tick for job in jobs if job.next_tick), default=None),
        )

    # -- changing

    async def remove_job(self, job_id: str | ScheduledJob) -> None:
        """Remove a job; a run of it that is going goes on."""
        await self.book.remove(str(job_id))
        self._changed()

    async def pause_job(self, job_id: str | ScheduledJob) -> ScheduledJob:
        """Fire no further tick; one that is being fired at this moment still is."""
        return await self._change(job_id, lambda job: replace(job, paused=True))

    async def resume_job(self, job_id: str | ScheduledJob) -> ScheduledJob:
        """Go on with the ticks from now on; those in between are not caught up."""
        now = self._clock()

        def resumed(job: Job) -> Job:
            if not job.paused:
                return job
            since = max(job.state.decided_until, now)
            return replace(job.with_state(decided_until=since), paused=False)

        return await self._change(job_id, resumed)

    async def start_run(self, job_id: str | ScheduledJob, *, at: float | None = None) -> str:
        """Start a run of a job at once, paused or not; its ticks stay as they are.

        Of a time ``at`` there is only one, whoever asks. Returns the run's id.

        Raises:
            DuplicatePipelineError: A run is going, and the job's ``overlap`` lets none begin.
        """
        return await self._firing.run_now(str(job_id), at)

    # -- for schedulers

    async def _change(self, job_id: str | ScheduledJob, how: Callable[[Job], Job]) -> ScheduledJob:
        job = await self.book.change(str(job_id), how)
        await self.book.announce()
        self._changed()
        return ScheduledJob.of(job)

    def _changed(self) -> None:
        """Called after a change."""
