"""The times of a cron expression in a time zone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from taskiq_flow.exceptions import MissingExtraError, ScheduleError

try:
    from cronsim import CronSim, CronSimError
except ImportError as error:
    raise MissingExtraError("a cron schedule", "scheduler", "cronsim") from error

ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def check_cron(expression: str) -> str:
    """Return an expression with its alias resolved.

    Raises:
        ScheduleError: It is no cron expression.
    """
    try:
        text = ALIASES.get(expression.strip().lower(), expression)
        CronSim(text, datetime(2000, 1, 1, tzinfo=UTC))
    except (CronSimError, ValueError, AttributeError) as error:
        rule = (
            f"is no cron expression ({error}); it has five fields (minute hour day month weekday), "
            f"such as '30 2 * * 1-5', or six that begin with the seconds"
        )
        raise ScheduleError("cron", expression, rule) from error
    return " ".join(text.split())


def cron_ticks(expression: str, timezone: str, after: float) -> Iterator[float]:
    """Times strictly after a time, in order, as seconds since the epoch.

    As in Debian's cron: of the jobs at a fixed hour, those in an hour that daylight saving skips
    run right after it, and those in an hour that it repeats run in the first one. Others
    (``*/20 * * * *``, ``0 * * * *``) go on evenly.
    """
    zone = UTC if timezone == "UTC" else ZoneInfo(timezone)
    last = after
    for moment in CronSim(expression, datetime.fromtimestamp(after, zone)):
        at = moment.timestamp()
        # Skipped times come out on the same moment, and a start within the repeated hour finds
        # times of the first one.
        if at > last:
            yield at
            last = at
