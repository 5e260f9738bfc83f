"""Gauges of a scheduler, read from what it says of its jobs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from taskiq import AsyncBroker

from taskiq_flow.metrics.collector import MetricsCollector
from taskiq_flow.metrics.middleware import MetricsMiddleware


class ScheduleStats(Protocol):
    """What is counted of all jobs together."""

    @property
    def jobs(self) -> int: ...
    @property
    def paused(self) -> int: ...
    @property
    def fired(self) -> int: ...
    @property
    def skipped(self) -> int: ...
    @property
    def missed(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def next_tick(self) -> datetime | None: ...


class Scheduler(Protocol):
    """What has jobs and can say how they are."""

    async def get_stats(self) -> ScheduleStats: ...


def measure_schedules(scheduler: Scheduler, broker: AsyncBroker) -> Callable[[], None]:
    """Show a scheduler in the metrics of its broker, until what is returned is called."""

    async def read(collector: MetricsCollector) -> None:
        stats = await scheduler.get_stats()
        collector.scheduled_jobs.set(stats.jobs - stats.paused, "active")
        collector.scheduled_jobs.set(stats.paused, "paused")
        for outcome in ("fired", "skipped", "missed", "failed"):
            collector.scheduled_ticks.set(getattr(stats, outcome), outcome)
        due = stats.next_tick
        late = 0.0 if due is None else (datetime.now(UTC) - due).total_seconds()
        collector.schedule_lateness.set(max(0.0, late))

    collectors = {m.collector for m in broker.middlewares if isinstance(m, MetricsMiddleware)}
    for collector in collectors:
        collector.readers.append(read)

    def stop() -> None:
        for collector in collectors:
            if read in collector.readers:
                collector.readers.remove(read)

    return stop
