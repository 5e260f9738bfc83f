"""Short ways from a pipeline to its schedule."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol, TypedDict

from taskiq_flow.exceptions import ScheduleError


class Scheduler(Protocol):
    """A `PipelineScheduler`, as far as it matters here (imports go down only)."""

    def schedule(self, pipeline: Any, /, **facts: Any) -> Awaitable[Any]: ...


class ScheduleEntry(TypedDict, total=False):
    """One entry of the ``schedule`` label that Taskiq's own tasks have."""

    cron: str
    cron_offset: str | None
    interval: int | timedelta
    time: datetime
    args: list[Any]
    kwargs: dict[str, Any]


class Schedulable:
    """A pipeline that can be handed to a scheduler under a label, which is its job's id."""

    async def schedule_with_cron(
        self, scheduler: Scheduler, label: str, cron: str, **facts: Any
    ) -> Any:
        """Run this by a cron expression; ``facts`` are arguments of `PipelineScheduler.schedule`.

        Returns the job.
        """
        return await scheduler.schedule(self, label=label, cron=cron, **facts)

    async def schedule_with_interval(
        self, scheduler: Scheduler, label: str, seconds: float, **facts: Any
    ) -> Any:
        """Run this every so many seconds; else as `schedule_with_cron`."""
        return await scheduler.schedule(self, label=label, interval_seconds=seconds, **facts)

    async def schedule_with_labels(
        self, scheduler: Scheduler, label: str, schedule: Iterable[ScheduleEntry], **facts: Any
    ) -> list[Any]:
        """Run this as Taskiq would run a task with this ``schedule`` label.

        Returns the jobs, one for each entry; those after the first are ``<label>#2`` and so on.

        Raises:
            ScheduleError: An entry has something that a pipeline cannot follow.
        """
        entries = [_read(entry) for entry in schedule]
        names = [label, *(f"{label}#{number}" for number in range(2, len(entries) + 1))]
        return [
            await scheduler.schedule(self, label=name, **{**facts, **entry})
            for name, entry in zip(names, entries, strict=False)
        ]


def _read(entry: Mapping[str, Any]) -> dict[str, Any]:
    unknown = set(entry) - set(ScheduleEntry.__annotations__)
    if unknown:
        known = ", ".join(ScheduleEntry.__annotations__)
        raise ScheduleError("entry", sorted(unknown), f"is not known here; there are {known}")
    interval = entry.get("interval")
    if isinstance(interval, timedelta):
        interval = interval.total_seconds()
    facts = {
        "cron": entry.get("cron"),
        "timezone": entry.get("cron_offset"),
        "interval_seconds": interval,
        "run_at": entry.get("time"),
        "args": entry.get("args"),
        "kwargs": entry.get("kwargs"),
    }
    return {name: value for name, value in facts.items() if value is not None}
