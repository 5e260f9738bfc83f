"""What users say of a job, checked before anything is stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypedDict, TypeVar

from taskiq_flow.exceptions import ScheduleError
from taskiq_flow.scheduling.job import CatchUp, JobOptions, Overlap
from taskiq_flow.scheduling.triggers import (
    LONGEST_SECONDS,
    CronTrigger,
    DateTrigger,
    IntervalTrigger,
    Trigger,
    Zone,
    create_cron_trigger,
    create_date_trigger,
    create_interval_trigger,
)

W = TypeVar("W", bound=StrEnum)

LONGEST_ID: Final = 200


class Timing(TypedDict, total=False):
    """When a job runs: one of ``interval_seconds``, ``run_at`` and ``trigger``, if not by ``cron``.

    ``trigger`` is one made by ``create_…_trigger``, or a word that says which of the others is
    given. ``timezone`` is that of a cron expression, or of a ``run_at`` without one.
    """

    interval_seconds: float | None
    run_at: datetime | None
    trigger: Trigger | str | None
    timezone: Zone


class Treatment(TypedDict, total=False):
    """How the ticks of a job are treated; see `Overlap` and `CatchUp`.

    ``jitter_seconds`` spreads ticks over so long a time, each by its own share. ``max_instances``
    is how many runs of a job may go at once where ``overlap`` is skip (or not given) or queue.
    ``coalesce`` is ``catch_up="last"``, or "all" if it is False. A tick that is later than
    ``misfire_grace_time`` seconds is not caught up.
    """

    overlap: Overlap | str
    catch_up: CatchUp | str
    jitter_seconds: float
    max_instances: int
    coalesce: bool
    misfire_grace_time: float | None


class Schedule(Timing, Treatment, total=False):
    """All of it."""


def read_trigger(given: Mapping[str, Any], default_zone: Zone, now: float) -> Trigger | None:
    """The trigger that is asked for; None when nothing is said of it.

    Raises:
        ScheduleError: More than one is given, or it makes no sense, or never comes.
    """
    zone: Zone = given.get("timezone") or default_zone
    trigger = given.get("trigger")
    word = trigger.lower() if isinstance(trigger, str) else None
    made: list[tuple[str, Trigger]] = []
    if given.get("cron") is not None:
        made.append(("cron", create_cron_trigger(given["cron"], zone)))
    if given.get("interval_seconds") is not None:
        made.append(("interval", create_interval_trigger(given["interval_seconds"])))
    if given.get("run_at") is not None:
        made.append(("date", create_date_trigger(given["run_at"], zone)))
    if isinstance(trigger, CronTrigger | IntervalTrigger | DateTrigger):
        made.append(("trigger", trigger))
    elif trigger is not None and word not in {kind for kind, _ in made}:
        rule = "must be made by create_cron_trigger() or the like, or be 'cron', 'interval' or "
        raise ScheduleError("trigger", trigger, f"{rule}'date' with the value beside it")
    if len(made) > 1:
        rule = "cannot be together; give one of cron, interval_seconds, run_at and trigger"
        raise ScheduleError("times", [str(each) for _, each in made], rule)
    return check_comes(made[0][1], now) if made else None


def check_comes(trigger: Trigger, now: float) -> Trigger:
    """Return a trigger that will fire.

    Raises:
        ScheduleError: It is in the past, or never comes.
    """
    if next(trigger.ticks(now, now), None) is None:
        rule = "is in the past" if isinstance(trigger, DateTrigger) else "never comes"
        raise ScheduleError("time", str(trigger), f"{rule}; choose one that is still to come")
    return trigger


def read_options(given: Mapping[str, Any], old: JobOptions | None = None) -> JobOptions:
    """The options that are asked for, on top of those that a job has.

    Raises:
        ScheduleError: There is no such option, or two contradict each other.
    """
    unknown = sorted(set(given) - set(Schedule.__annotations__))
    if unknown:
        known = ", ".join(Schedule.__annotations__)
        raise ScheduleError("option", unknown[0], f"does not exist; there are {known}")
    old = old or JobOptions()
    overlap = _word(Overlap, "overlap", given.get("overlap", old.overlap))
    catch_up = _word(CatchUp, "catch_up", given.get("catch_up", old.catch_up))
    if "coalesce" in given:
        meant = CatchUp.LAST if given["coalesce"] else CatchUp.ALL
        if "catch_up" in given and catch_up is not meant:
            rule = f"contradicts catch_up={catch_up.value!r}; give one of them"
            raise ScheduleError("coalesce", given["coalesce"], rule)
        catch_up = meant
    most = given.get("max_instances", old.max_instances)
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= 100:
        raise ScheduleError("max_instances", most, "must be a whole number from 1 to 100")
    if most > 1 and overlap not in (Overlap.SKIP, Overlap.QUEUE):
        rule = f"has no meaning with overlap={overlap.value!r}; it goes with 'skip' and 'queue'"
        raise ScheduleError("max_instances", most, rule)
    jitter = _seconds("jitter_seconds", given.get("jitter_seconds", old.jitter_seconds))
    grace = given.get("misfire_grace_time", old.misfire_grace_seconds)
    if grace is not None:
        grace = _seconds("misfire_grace_time", grace)
        if grace == 0:
            raise ScheduleError("misfire_grace_time", grace, "must be more than 0, or None")
    return JobOptions(overlap, catch_up, jitter, grace, most)


def check_id(name: str, text: object) -> str:
    """Return an id that every store can keep.

    Raises:
        ScheduleError: It is no text, or not short, printable text.
    """
    if not isinstance(text, str) or not text.isprintable() or not 1 <= len(text) <= LONGEST_ID:
        raise ScheduleError(name, text, f"must be 1 to {LONGEST_ID} printable characters")
    return text


def _word(kind: type[W], name: str, word: object) -> W:
    try:
        return kind(word)
    except ValueError:
        words = ", ".join(repr(known.value) for known in kind)
        raise ScheduleError(name, word, f"must be one of {words}") from None


def _seconds(name: str, seconds: object) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ScheduleError(name, seconds, "is no number of seconds")
    if not 0 <= seconds <= LONGEST_SECONDS:
        raise ScheduleError(name, seconds, "must be 0 or more seconds, and at most a hundred years")
    return float(seconds)
