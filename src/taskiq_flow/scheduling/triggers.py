"""When a job is to run: by cron, at intervals, or once."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from importlib import import_module
from itertools import count
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from taskiq_flow.exceptions import ScheduleError
from taskiq_flow.model.numbers import LONGEST_SECONDS, is_number

SHORTEST_SECONDS: Final = 0.1
"""The shortest interval: a tick takes a few calls to the store."""

Zone: TypeAlias = str | tzinfo


@dataclass(frozen=True, slots=True)
class CronTrigger:
    """Times by a cron expression in a time zone."""

    expression: str
    timezone: str = "UTC"

    def ticks(self, after: float, created_at: float) -> Iterator[float]:  # noqa: ARG002
        """The times after a time, in order."""
        return import_module("taskiq_flow.scheduling.cron").cron_ticks(
            self.expression, self.timezone, after
        )

    def __str__(self) -> str:
        return f"{self.expression} ({self.timezone})"


@dataclass(frozen=True, slots=True)
class IntervalTrigger:
    """Times at an even distance, the first at ``start_at``, else one interval after creation."""

    seconds: float
    start_at: float | None = None

    def ticks(self, after: float, created_at: float) -> Iterator[float]:
        """The times after a time, in order; rounded to milliseconds, as they are stored."""
        first = created_at + self.seconds if self.start_at is None else self.start_at
        for number in count(max(0, math.floor((after - first) / self.seconds))):
            at = round(first + number * self.seconds, 3)
            if at > after:
                yield at

    def __str__(self) -> str:
        return f"every {timedelta(seconds=self.seconds)}"


@dataclass(frozen=True, slots=True)
class DateTrigger:
    """One time."""

    at: float

    def ticks(self, after: float, created_at: float) -> Iterator[float]:  # noqa: ARG002
        """The time, if it is after that one."""
        return iter([self.at] if self.at > after else [])

    def __str__(self) -> str:
        return f"once at {datetime.fromtimestamp(self.at, UTC).isoformat(timespec='seconds')}"


Trigger: TypeAlias = CronTrigger | IntervalTrigger | DateTrigger


def trigger_to_json(trigger: Trigger) -> dict[str, Any]:
    match trigger:
        case CronTrigger(expression, timezone):
            return {"cron": expression, "timezone": timezone}
        case IntervalTrigger(seconds, start_at):
            return {"seconds": seconds, "start_at": start_at}
        case DateTrigger(at):
            return {"at": at}


def trigger_from_json(data: Mapping[str, Any]) -> Trigger:
    match data:
        case {"cron": expression, "timezone": timezone}:
            return CronTrigger(expression, timezone)
        case {"seconds": seconds, "start_at": start_at}:
            return IntervalTrigger(seconds, start_at)
        case _:
            return DateTrigger(data["at"])


# --- made from what users write -----------------------------------------------------------------


def create_cron_trigger(expression: str, timezone: Zone = "UTC") -> CronTrigger:
    """Times by a cron expression of five fields, or of six that begin with the seconds.

    Raises:
        ScheduleError: It is no cron expression, or there is no such time zone.
        MissingExtraError: The extra ``scheduler`` is not installed.
    """
    check = import_module("taskiq_flow.scheduling.cron").check_cron
    return CronTrigger(check(expression), zone_name(timezone))


def create_interval_trigger(
    seconds: float = 0,
    minutes: float = 0,
    hours: float = 0,
    days: float = 0,
    weeks: float = 0,
    *,
    start_at: datetime | None = None,
    timezone: Zone = "UTC",
) -> IntervalTrigger:
    """Times at an even distance, whatever the clocks of a time zone do.

    The zone is that of a ``start_at`` without one.

    Raises:
        ScheduleError: The interval is not between a tenth of a second and a hundred years.
    """
    try:
        total = timedelta(
            seconds=seconds, minutes=minutes, hours=hours, days=days, weeks=weeks
        ).total_seconds()
    except (TypeError, ValueError, OverflowError) as error:
        raise ScheduleError("interval", seconds, f"is no length of time ({error})") from error
    if not SHORTEST_SECONDS <= total <= LONGEST_SECONDS:
        rule = f"seconds must be at least {SHORTEST_SECONDS}, and at most a hundred years"
        raise ScheduleError("interval", total, rule)
    first = None if start_at is None else moment(start_at, timezone, name="start_at")
    return IntervalTrigger(total, first)


def create_date_trigger(run_at: datetime, timezone: Zone = "UTC") -> DateTrigger:
    """One time; ``timezone`` is that of a time without one.

    Raises:
        ScheduleError: It is no time.
    """
    return DateTrigger(moment(run_at, timezone, name="run_at"))


def every_minute(timezone: Zone = "UTC") -> CronTrigger:
    return create_cron_trigger("* * * * *", timezone)


def every_hour(minute: int = 0, timezone: Zone = "UTC") -> CronTrigger:
    return create_cron_trigger(f"{minute} * * * *", timezone)


def every_day(hour: int = 0, minute: int = 0, timezone: Zone = "UTC") -> CronTrigger:
    return create_cron_trigger(f"{minute} {hour} * * *", timezone)


def in_seconds(seconds: float) -> DateTrigger:
    """Once, so many seconds from now."""
    return _soon("seconds", seconds, 1)


def in_minutes(minutes: float) -> DateTrigger:
    """Once, so many minutes from now."""
    return _soon("minutes", minutes, 60)


def in_hours(hours: float) -> DateTrigger:
    """Once, so many hours from now."""
    return _soon("hours", hours, 3600)


def _soon(name: str, number: float, unit: int) -> DateTrigger:
    if not (is_number(number) and 0 < number * unit <= LONGEST_SECONDS):
        raise ScheduleError(name, number, "must be more than 0, and at most a hundred years")
    return DateTrigger(round(time.time() + number * unit, 3))


def zone_name(timezone: Zone) -> str:
    """The name under which a time zone is stored.

    Raises:
        ScheduleError: This system knows none of that name, or it has no name.
    """
    name = "UTC" if timezone is UTC else getattr(timezone, "key", timezone)
    try:
        if isinstance(name, str):
            ZoneInfo(name)
            return name
    except (KeyError, ValueError, OSError):  # OSError: a folder of zones
        pass
    rule = "is no time zone of the IANA database; use a name such as 'Europe/Berlin'"
    raise ScheduleError("timezone", timezone, rule)


def moment(at: datetime, timezone: Zone, *, name: str) -> float:
    """A time as seconds since the epoch, whole milliseconds."""
    if not isinstance(at, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ScheduleError(name, at, "is no datetime")
    if at.tzinfo is None:
        at = at.replace(tzinfo=ZoneInfo(zone_name(timezone)))
    # Before the first year, or after the last, of a calendar in UTC there is none.
    with suppress(OverflowError, ValueError):
        seconds = round(at.timestamp(), 3)
        if abs(seconds - time.time()) <= LONGEST_SECONDS:
            return seconds
    raise ScheduleError(name, at, "is more than a hundred years away")
