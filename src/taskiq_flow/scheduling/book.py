"""Where jobs are kept: each is one record, which changes by compare-and-set only."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from taskiq_flow.exceptions import DuplicateJobError, JobNotFoundError
from taskiq_flow.scheduling.job import Job
from taskiq_flow.scheduling.work import Work
from taskiq_flow.storage import BaseStorageAdapter
from taskiq_flow.storage.beside import Place, adapter_beside

PURPOSE: Final = "schedules"

_REVISION, _JOB, _WORK, _FIRST = "revision", "job:", "work:", "first:"
_TOGETHER, _KEPT_WORKS, _PATIENCE = 50, 256, 20
_LEFT_AFTER = timedelta(hours=1)


class JobBook:
    """The jobs of one namespace; any number of processes may have it open."""

    def __init__(self, storage: BaseStorageAdapter) -> None:
        self._storage = storage
        self._works: dict[str, Work] = {}

    @classmethod
    def beside(cls, store: Place | str, *, namespace: str | None = None) -> JobBook:
        """The jobs that live in the place of a run store, which is where schedulers keep them."""
        return cls(adapter_beside(store, purpose=PURPOSE, namespace=namespace))

    async def close(self) -> None:
        await self._storage.close()

    async def revision(self) -> str | None:
        """Another one after every change by a user (and not after a tick)."""
        return await self._storage.get(_REVISION)

    # -- reading

    async def jobs(self) -> list[Job]:
        """All jobs, by id."""
        names = await self._storage.keys(f"{_JOB}*")
        found: list[Job] = []
        for begin in range(0, len(names), _TOGETHER):
            some = names[begin : begin + _TOGETHER]
            texts = await self._storage.get_many(some)
            found += [Job.from_json(texts[name]) for name in some if name in texts]
        return found

    async def find(self, job_id: str) -> Job | None:
        """A job, also one that is gone; None when there is no record."""
        text = await self._storage.get(_JOB + job_id)
        return None if text is None else Job.from_json(text)

    async def get(self, job_id: str) -> Job:
        """A job.

        Raises:
            JobNotFoundError: There is none.
        """
        job = await self.find(job_id)
        if job is None or job.gone:
            raise JobNotFoundError(job_id)
        return job

    async def work(self, job: Job) -> Work | None:
        """What a job runs; None when the job was changed meanwhile."""
        known = self._works.get(job.work)
        if known is None:
            text = await self._storage.get(_WORK + job.work)
            if text is None:
                return None
            if len(self._works) >= _KEPT_WORKS:
                self._works.clear()
            known = self._works[job.work] = Work.from_json(text)
        return known

    async def first(self, name: str, at: float, for_seconds: float) -> float:
        """The time that was given first by those who ask within so many seconds."""
        await self._storage.add(_FIRST + name, at, ttl_seconds=for_seconds)
        return float(await self._storage.get(_FIRST + name) or at)

    # -- changing

    async def put(
        self, job: Job, work: Work, merge: Callable[[Job, Job], Job], *, replace_existing: bool
    ) -> Job:
        """Add a job; one that is there is replaced by what ``merge(old, new)`` makes of both.

        Raises:
            DuplicateJobError: There is one, and it is not to be replaced.
        """
        job = replace(job, work=f"{work.digest}-{secrets.token_hex(4)}")
        own, unused = _WORK + job.work, False
        try:
            while True:
                old = await self._settled(job.job_id)
                if old is not None and not old.gone and not replace_existing:
                    raise DuplicateJobError(job.job_id)
                new = job if old is None or old.gone else merge(old, job)
                if new.work == job.work and not unused:
                    # Before the job: whoever sees that can run it.
                    await self._storage.set(own, work.to_json())
                    unused = True
                if new == old or await self._write(old, new):
                    break
            unused = unused and new.work != job.work
        finally:
            if unused:
                await self._storage.delete(own)
        if new == old:
            return new
        if old is not None and old.work != new.work:
            await self._storage.delete(_WORK + old.work)
        await self.announce()
        return new

    async def _settled(self, job_id: str) -> Job | None:
        """A job, after the moment in which its record is about to be deleted."""
        for _ in range(_PATIENCE):
            job = await self.find(job_id)
            if job is None or not job.gone:
                return job
            await asyncio.sleep(0.1)
        return await self.find(job_id)  # whoever removed it has died

    async def _write(self, old: Job | None, new: Job) -> bool:
        if old is None:
            return await self._storage.add(_JOB + new.job_id, new.to_json())
        return await self.replace(old, new)

    async def change(self, job_id: str, how: Callable[[Job], Job]) -> Job:
        """Change a job by a pure function, which is called again when another was quicker.

        Raises:
            JobNotFoundError: There is none.
        """
        while True:
            old = await self.get(job_id)
            new = how(old)
            if await self.replace(old, new):
                return new

    async def replace(self, old: Job, new: Job) -> bool:
        """Write a job; False when it is not any more what it was."""
        key = _JOB + old.job_id
        return old == new or await self._storage.replace(key, old.to_json(), new.to_json())

    async def remove(self, job_id: str) -> None:
        """Remove a job; runs of it go on.

        Raises:
            JobNotFoundError: There is none.
        """
        await self.discard(await self.change(job_id, lambda job: replace(job, gone=True)))

    async def discard(self, job: Job) -> None:
        """Delete the record of a job that is gone, and what it ran."""
        await self._storage.delete(_JOB + job.job_id)
        await self._storage.delete(_WORK + job.work)
        await self.announce()

    async def announce(self) -> None:
        """Let all schedulers read the jobs anew."""
        await self._storage.set(_REVISION, secrets.token_hex(8))

    async def sweep(self) -> None:
        """Delete what processes that died in the middle of a change have left."""
        jobs = await self.jobs()
        for job in jobs:
            if job.gone:
                await self.discard(job)
        used = {_WORK + job.work for job in jobs}
        for key in await self._storage.keys(f"{_WORK}*"):
            if key not in used:
                entry = await self._storage.get_entry(key)
                # A new one has no job yet.
                if entry is not None and datetime.now(UTC) - entry.created_at > _LEFT_AFTER:
                    await self._storage.delete(key)
