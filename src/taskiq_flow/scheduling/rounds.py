"""A scheduler's rounds: reads which jobs there are, and looks at each when it is time."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from taskiq_flow.exceptions import StorageUnavailableError, StoreError
from taskiq_flow.scheduling.decide import look_at
from taskiq_flow.scheduling.firing import Firing
from taskiq_flow.scheduling.job import Job

logger = logging.getLogger("taskiq_flow.scheduling")

RELOAD_SECONDS: Final = 30.0
"""Jobs are read anew so often, whatever is heard of changes: who changed one may have died."""

SWEEP_SECONDS: Final = 3600.0

AT_ONCE: Final = 16
"""Jobs that one scheduler fires at the same time."""


@dataclass(slots=True)
class Rounds:
    """What one scheduler knows of the jobs; `go` is one look at all that is due."""

    firing: Firing
    clock: Callable[[], float]
    poll_seconds: float
    takes: Callable[[Job], bool]
    """Which of the jobs are fired here."""

    jobs: dict[str, Job] = field(default_factory=dict[str, Job])
    _whens: dict[str, float] = field(default_factory=dict[str, float])
    _revision: str | None = None
    _read_at: float = -math.inf
    _swept_at: float = -math.inf

    async def go(self) -> float:
        """Fire what is due; returns when something is due next, by the clock.

        Raises:
            StoreError: A store does not answer; what was due is due in the next round.
            StorageUnavailableError: The same, of the jobs' own storage.
        """
        await self._read()
        now = self.clock()
        due = [job_id for job_id, when in self._whens.items() if when <= now]
        due += await self._unblocked(set(self.firing.blocked_by) - set(due))
        turns = asyncio.Semaphore(AT_ONCE)
        found = await asyncio.gather(
            *(self._look(job_id, turns) for job_id in due), return_exceptions=True
        )
        for result in found:
            if isinstance(result, BaseException):
                raise result
        soon = [now + self.poll_seconds] if self.firing.blocked_by else []
        return min((*self._whens.values(), *soon), default=math.inf)

    def forget(self) -> None:
        """Read all jobs anew in the next round."""
        self._read_at = -math.inf

    def when(self, job_id: str) -> float:
        """When a job is due next, by the clock; never, if it is not fired here."""
        return self._whens.get(job_id, math.inf)

    def _know(self, job: Job) -> None:
        """Keep a job, with the time at which it is looked at: finding that takes a while."""
        self.jobs[job.job_id], self._whens[job.job_id] = job, self._when(job)

    def _forget(self, job_id: str) -> None:
        for known in (self.jobs, self._whens, self.firing.blocked_by):
            known.pop(job_id, None)

    def _when(self, job: Job) -> float:
        if job.job_id in self.firing.blocked_by and not job.paused:
            # What waits is asked about apart; but further ticks join it when they come.
            tick = job.next_tick()
            when = None if tick is None else job.fire_at(tick)
        else:
            when = look_at(job, self.firing.by)
        return math.inf if when is None else when

    async def _read(self) -> None:
        """Read the jobs, if one was changed, or when it is time."""
        book, now = self.firing.book, self.clock()
        if now - self._swept_at >= SWEEP_SECONDS:
            await book.sweep()
            self._swept_at = now
        revision = await book.revision()
        if revision == self._revision and 0 <= now - self._read_at < RELOAD_SECONDS:
            return
        found = {job.job_id: job for job in await book.jobs() if self.takes(job)}
        for job_id in set(self.jobs) - set(found):
            self._forget(job_id)
        for job_id, job in found.items():
            if self.jobs.get(job_id) != job:
                self.firing.blocked_by.pop(job_id, None)  # it may be free of what it waited for
                self._know(job)
        self._revision, self._read_at = revision, now

    async def _unblocked(self, job_ids: set[str]) -> list[str]:
        """Which jobs need not wait any more for a run that was going, in one question."""
        if not job_ids:
            return []
        blocked = self.firing.blocked_by
        ended = await self.firing.client.store.ended_among([blocked[each] for each in job_ids])
        # With several runs at once another one may have ended.
        return [
            job_id
            for job_id in job_ids
            if blocked[job_id] in ended or self.jobs[job_id].options.max_instances > 1
        ]

    async def _look(self, job_id: str, turns: asyncio.Semaphore) -> None:
        async with turns:
            self.firing.blocked_by.pop(job_id, None)
            try:
                job = await self.firing.look(job_id)
            except (StoreError, StorageUnavailableError):
                raise
            except Exception as error:
                # One job that goes wrong must not keep the others from their time.
                logger.exception("Job %s could not be looked at; trying again.", job_id)
                self._whens[job_id] = self.clock() + self.poll_seconds
                self.firing.on_failed(self.jobs[job_id], error)
                return
        if job is None or job.gone:
            self._forget(job_id)
        else:
            self._know(job)
