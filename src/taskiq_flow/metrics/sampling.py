"""Reads from time to time what no event says: how much goes on, waits and has failed."""

from __future__ import annotations

import asyncio
import logging

from taskiq_flow.engine.runtime import Runtime
from taskiq_flow.metrics.collector import MetricsCollector
from taskiq_flow.model.records import RunFilter, RunStatus

logger = logging.getLogger("taskiq_flow.metrics")

SAMPLE_SECONDS = 10.0

ANSWER_SECONDS = 5.0
"""What takes longer than this is left out until the next time."""

COUNTED_MOST = 100_000
"""Nobody counts further than this: a gauge that says so many says enough."""


class Sampler:
    """Sets the gauges of a collector from a store, in a task of its own."""

    def __init__(self, runtime: Runtime, collector: MetricsCollector) -> None:
        self._runtime, self._collector = runtime, collector
        self._working: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Read now and from time to time, until `end`; may be called again."""
        working = self._working
        here = asyncio.get_running_loop()
        if working is None or working.done() or working.get_loop() is not here:
            self._working = here.create_task(self._work())

    async def end(self) -> None:
        working, self._working = self._working, None
        if working is not None and working.get_loop() is asyncio.get_running_loop():
            working.cancel()
            await asyncio.wait([working], timeout=1.0)

    async def _work(self) -> None:
        is_away = False
        while True:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self.sample()
                is_away = False
            except Exception as error:  # noqa: BLE001 - whatever a store or a reader throws
                if not is_away:
                    logger.warning("Gauges stand still, what they show cannot be read: %r", error)
                is_away = True
            await asyncio.sleep(SAMPLE_SECONDS)

    async def sample(self) -> None:
        """Read once.

        Raises:
            StoreUnavailableError: The store does not answer.
        """
        collector, store = self._collector, self._runtime.store
        for gauge, status in (
            (collector.active_pipelines, RunStatus.RUNNING),
            (collector.queue_depth, RunStatus.PENDING),
            (collector.dead_letters, RunStatus.FAILED),
        ):
            gauge.set(await store.count_runs(RunFilter(status=status), at_most=COUNTED_MOST))
        collector.workers.set(len(await store.workers()))
        for read in tuple(collector.readers):
            await read(collector)
