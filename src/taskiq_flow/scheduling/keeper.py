"""Fires jobs by the clock, whatever they make runs of."""

from __future__ import annotations

import time
from collections.abc import Callable

from taskiq_flow.scheduling.book import JobBook
from taskiq_flow.scheduling.control import JobControl
from taskiq_flow.scheduling.firing import RunMaker
from taskiq_flow.scheduling.job import Job
from taskiq_flow.scheduling.rounds import Rounds
from taskiq_flow.scheduling.service import Service


class JobKeeper(JobControl):
    """Fires those jobs of one place that it ``takes``; any number may be at work on the same."""

    def __init__(
        self,
        book: JobBook,
        runs: RunMaker,
        takes: Callable[[Job], bool],
        *,
        clock: Callable[[], float] = time.time,
        poll_seconds: float = 1.0,
    ) -> None:
        super().__init__(book, runs, clock)
        self._rounds = Rounds(self._firing, clock, poll_seconds, takes)
        self._service = Service(self.run_due, clock, poll_seconds)

    @property
    def running(self) -> bool:
        """Whether it fires jobs."""
        return self._service.running

    async def start(self) -> None:
        """Fire jobs from now on, and go on trying while a store is away; may be repeated."""
        self._service.start()

    async def shutdown(self) -> None:
        """Stop; what is being fired is finished first. Jobs stay stored."""
        await self._service.stop()
        await self.book.close()

    async def run_due(self) -> float:
        """Fire what is due now, once; returns when something is due next, as seconds since the
        epoch. For those who keep the time themselves, such as tests.

        Raises:
            StoreError: A store does not answer; what was due is due next time.
            StorageUnavailableError: The same.
        """
        return await self._rounds.go()

    def _changed(self) -> None:
        self._rounds.forget()
        self._service.wake()
