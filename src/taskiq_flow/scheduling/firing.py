"""Fires the ticks of one job: claims them, makes their runs, and counts them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from taskiq_flow.exceptions import (
    DuplicatePipelineError,
    DuplicateTickError,
    JobNotFoundError,
    RunNotFoundError,
    StorageUnavailableError,
    StoreError,
    TaskiqFlowError,
)
from taskiq_flow.model.records import NewRun
from taskiq_flow.scheduling.book import JobBook
from taskiq_flow.scheduling.decide import settle, take
from taskiq_flow.scheduling.job import Job, Outcome, Overlap, Result, iso
from taskiq_flow.scheduling.work import Work
from taskiq_flow.stores.base import RunStore

logger = logging.getLogger("taskiq_flow.scheduling")

TOGETHER: Final = 20
"""Ticks between two looks at whether the job is still ours to fire."""

CANCELS: Final = 5
"""How often a run that is in the way is cancelled for one tick: others may begin new ones."""


class RunMaker(Protocol):
    """A `RunClient`, as far as it matters here."""

    @property
    def store(self) -> RunStore: ...

    @property
    def publishes(self) -> bool: ...

    async def create(
        self, new: NewRun, items: Mapping[int, Sequence[bytes]] | None = None
    ) -> str: ...

    async def cancel(self, run_id: str, reason: str | None = None) -> bool: ...


FiredListener = Callable[[Job, str], None]
FailedListener = Callable[[Job, BaseException], None]


def tag_of(job_id: str) -> str:
    """What all runs of a job are tagged with."""
    return f"schedule:{job_id}"


@dataclass(slots=True)
class Firing:
    """One scheduler's way of firing; ``by`` is its name in claims.

    ``blocked_by`` says for a job whose tick waits which run it waits for.
    """

    by: str
    book: JobBook
    client: RunMaker
    clock: Callable[[], float]
    on_fired: FiredListener = lambda _job, _run_id: None
    on_failed: FailedListener = lambda _job, _error: None
    blocked_by: dict[str, str] = field(default_factory=dict[str, str])

    async def look(self, job_id: str) -> Job | None:
        """Fire what is due of a job, unless another scheduler does; returns it as it is now.

        Raises:
            StoreError: A store does not answer. Whoever looks again does what is left.
            StorageUnavailableError: The same, of the jobs' own storage.
        """
        job = await self.book.find(job_id)
        if job is None:
            return None
        taken = take(job, self.clock(), self.by)
        if taken is None:
            return job
        if not await self.book.replace(job, taken):
            return await self.book.find(job_id)
        while not taken.gone and taken.state.claim is not None:
            some = taken.state.waiting[:TOGETHER]
            outcomes = await self._fire(taken, some)
            going_on = len(outcomes) == len(some) < len(taken.state.waiting)
            taken = await self._settle(taken, outcomes, going_on=going_on)
            if taken is None or not going_on or taken.paused:
                break
        if taken is not None and taken.gone:
            await self.book.discard(taken)
        return taken

    async def run_now(self, job_id: str, at: float | None = None) -> str:
        """Make a run of a job beside its ticks, of a time one at the most; returns its id.

        Raises:
            JobNotFoundError: There is no such job.
            DuplicatePipelineError: One is going, and the job's ``overlap`` lets none begin.
        """
        job = await self.book.get(job_id)
        while (work := await self.book.work(job)) is None:
            fresh = await self.book.get(job_id)
            if fresh.work == job.work:
                raise JobNotFoundError(job_id)  # half of it was deleted by hand
            job = fresh
        run_id = self._run_id(job, work, at)
        with contextlib.suppress(DuplicateTickError):  # it was made, and is gone since
            await self._create(job, work, run_id, at)
        now = self.clock()
        await self.book.change(
            job_id, lambda kept: kept.with_state(last_run_id=run_id, last_fired_at=now)
        )
        self.on_fired(job, run_id)
        return run_id

    async def _settle(
        self, taken: Job, outcomes: Sequence[Outcome], *, going_on: bool
    ) -> Job | None:
        """Write what became of ticks, whoever changed the job meanwhile."""
        while True:
            goes_on = going_on and not taken.paused
            settled = settle(taken, outcomes, self.by, self.clock(), going_on=goes_on)
            if await self.book.replace(taken, settled):
                return settled
            fresh = await self.book.find(taken.job_id)
            if fresh is None or fresh.gone:
                return None  # removed: its runs go on, and nobody counts them
            taken = fresh

    async def _fire(self, job: Job, ticks: Sequence[float]) -> list[Outcome]:
        """Make the runs of some ticks, in order, as far as the earlier runs let them begin."""
        outcomes: list[Outcome] = []
        work = await self.book.work(job)
        if work is None:
            fresh = await self.book.find(job.job_id)
            if fresh is not None and fresh.work != job.work:
                return outcomes  # changed meanwhile: the next look finds its new work
            why = "What it runs is not in the storage any more; schedule it again."
            self.on_failed(job, JobNotFoundError(job.job_id))
            return [Outcome(tick, Result.FAILED, error=why) for tick in ticks]
        for tick in ticks:
            outcome = await self._fire_one(job, work, tick)
            if outcome is None:
                break
            outcomes.append(outcome)
        return outcomes

    async def _fire_one(self, job: Job, work: Work, tick: float) -> Outcome | None:
        """Make the run of a tick; None while it has to wait."""
        # Whoever fires this tick makes the same run, so only one of them makes it.
        run_id = self._run_id(job, work, tick)
        try:
            await self._create(job, work, run_id, tick)
        except DuplicateTickError:
            pass  # by a scheduler that died before it could say so, and the run is gone since
        except DuplicatePipelineError as error:
            if job.options.overlap is Overlap.QUEUE:
                self.blocked_by[job.job_id] = error.run_id
                return None
            logger.info("Tick %s of job %s is skipped: %s", iso(tick), job.job_id, error)
            return Outcome(tick, Result.SKIPPED)
        except (StoreError, StorageUnavailableError):
            raise
        except TaskiqFlowError as error:
            logger.error("Tick %s of job %s makes no run: %s", iso(tick), job.job_id, error)
            self.on_failed(job, error)
            return Outcome(tick, Result.FAILED, error=str(error))
        self.on_fired(job, run_id)
        return Outcome(tick, Result.FIRED, run_id)

    def _run_id(self, job: Job, work: Work, tick: float | None) -> str:
        if tick is None:
            return work.new_id()
        return work.id_at(tick, self.client.store.options.namespace, job.tick_name(tick))

    async def _create(self, job: Job, work: Work, run_id: str, tick: float | None) -> str:
        """Make a run under the first name that is free.

        Raises:
            DuplicatePipelineError: There is none; of several, one of those that are going.
        """
        cancels = CANCELS if job.options.overlap is Overlap.CANCEL_RUNNING else 0
        keys = job.run_keys
        while True:
            try:
                return await self._create_named(job, work, run_id, tick, keys[0])
            except DuplicatePipelineError as error:
                if cancels:
                    cancels -= 1
                    await self._cancel(error.run_id, job)
                elif len(keys) > 1:
                    keys = keys[1:]
                else:
                    raise

    async def _create_named(
        self, job: Job, work: Work, run_id: str, tick: float | None, key: str | None
    ) -> str:
        new = work.draft(
            run_id,
            self.client.store.options.namespace,
            publish=self.client.publishes,
            tags=(tag_of(job.job_id),),
            key=key,
            tick=None if tick is None else job.tick_name(tick),
        )
        return await self.client.create(new, work.items)

    async def _cancel(self, run_id: str, job: Job) -> None:
        with contextlib.suppress(RunNotFoundError):  # it has ended, and is gone already
            await self.client.cancel(run_id, f"the next run of job {job.job_id} begins")
