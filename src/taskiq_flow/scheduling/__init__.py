"""Pipelines that run by the clock."""

from typing import TYPE_CHECKING

from taskiq_flow.first_use import loading

if TYPE_CHECKING:
    from taskiq_flow.scheduling.book import JobBook
    from taskiq_flow.scheduling.control import JobControl, SchedulerStats
    from taskiq_flow.scheduling.job import CatchUp, JobOptions, Overlap, ScheduledJob
    from taskiq_flow.scheduling.scheduler import PipelineScheduler
    from taskiq_flow.scheduling.taskiq_source import PipelineScheduleSource
    from taskiq_flow.scheduling.triggers import (
        CronTrigger,
        DateTrigger,
        IntervalTrigger,
        create_cron_trigger,
        create_date_trigger,
        create_interval_trigger,
        every_day,
        every_hour,
        every_minute,
        in_hours,
        in_minutes,
        in_seconds,
    )

__all__ = [
    "CatchUp",
    "CronTrigger",
    "DateTrigger",
    "IntervalTrigger",
    "JobBook",
    "JobControl",
    "JobOptions",
    "Overlap",
    "PipelineScheduleSource",
    "PipelineScheduler",
    "ScheduledJob",
    "SchedulerStats",
    "create_cron_trigger",
    "create_date_trigger",
    "create_interval_trigger",
    "every_day",
    "every_hour",
    "every_minute",
    "in_hours",
    "in_minutes",
    "in_seconds",
]

if not TYPE_CHECKING:  # with a `__getattr__`, a checker would let any name pass
    __getattr__, __dir__ = loading(
        __name__,
        {
            "CatchUp": "taskiq_flow.scheduling.job",
            "CronTrigger": "taskiq_flow.scheduling.triggers",
            "DateTrigger": "taskiq_flow.scheduling.triggers",
            "IntervalTrigger": "taskiq_flow.scheduling.triggers",
            "JobBook": "taskiq_flow.scheduling.book",
            "JobControl": "taskiq_flow.scheduling.control",
            "JobOptions": "taskiq_flow.scheduling.job",
            "Overlap": "taskiq_flow.scheduling.job",
            "PipelineScheduleSource": "taskiq_flow.scheduling.taskiq_source",
            "PipelineScheduler": "taskiq_flow.scheduling.scheduler",
            "ScheduledJob": "taskiq_flow.scheduling.job",
            "SchedulerStats": "taskiq_flow.scheduling.control",
            "create_cron_trigger": "taskiq_flow.scheduling.triggers",
            "create_date_trigger": "taskiq_flow.scheduling.triggers",
            "create_interval_trigger": "taskiq_flow.scheduling.triggers",
            "every_day": "taskiq_flow.scheduling.triggers",
            "every_hour": "taskiq_flow.scheduling.triggers",
            "every_minute": "taskiq_flow.scheduling.triggers",
            "in_hours": "taskiq_flow.scheduling.triggers",
            "in_minutes": "taskiq_flow.scheduling.triggers",
            "in_seconds": "taskiq_flow.scheduling.triggers",
        },
    )
