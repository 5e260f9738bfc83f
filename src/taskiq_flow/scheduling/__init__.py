"""Pipelines that run by the clock."""

from taskiq_flow.not_shipped import refusing
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

__getattr__ = refusing(__name__)
