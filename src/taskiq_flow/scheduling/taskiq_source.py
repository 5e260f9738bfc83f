"""Runs a pipeline scheduler inside the process of ``taskiq scheduler``."""

from __future__ import annotations

from taskiq import ScheduledTask, ScheduleSource

from taskiq_flow.scheduling.scheduler import PipelineScheduler


class PipelineScheduleSource(ScheduleSource):
    """Lets ``taskiq scheduler`` start and stop a `PipelineScheduler` beside its other sources.

    It has no schedules for Taskiq itself: Taskiq sends a task whenever it sees a time come, in
    every process that looks, and neither knows which ticks were missed nor what is still running.
    """

    def __init__(self, scheduler: PipelineScheduler) -> None:
        self.scheduler = scheduler

    async def startup(self) -> None:
        await self.scheduler.start()

    async def shutdown(self) -> None:
        await self.scheduler.shutdown()

    async def get_schedules(self) -> list[ScheduledTask]:
        return []
