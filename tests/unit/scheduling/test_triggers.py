"""Times come in order, at the right moments of their zone, and bad ones are refused by name."""

import time
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskiq_flow.exceptions import ScheduleError
from taskiq_flow.scheduling import (
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
from taskiq_flow.scheduling.options import read_options, read_trigger
from taskiq_flow.scheduling.triggers import Trigger, trigger_from_json, trigger_to_json

BERLIN = ZoneInfo("Europe/Berlin")
AUTUMN = datetime(2026, 10, 24, 20, tzinfo=UTC)  # at 3 on the 25th, Berlin's clocks go back to 2
SPRING = datetime(2027, 3, 27, 20, tzinfo=UTC)  # at 2 on the 28th, they go on to 3


def utc(trigger: Trigger, after: datetime, many: int) -> list[str]:
    ticks = islice(trigger.ticks(after.timestamp(), after.timestamp()), many)
    return [datetime.fromtimestamp(at, UTC).strftime("%d %H:%M") for at in ticks]


@pytest.mark.parametrize(
    ("after", "expression", "times"),
    [
        # 02:30 is there twice; the first one is at 00:30 UTC.
        (AUTUMN, "30 2 * * *", ["25 00:30", "26 01:30"]),
        (AUTUMN, "*/30 2 * * *", ["25 00:00", "25 00:30", "25 01:00", "25 01:30", "26 01:00"]),
        (AUTUMN, "0 3 * * *", ["25 02:00", "26 02:00"]),
        # 02:30 is not there; it runs when the clocks have gone on.
        (SPRING, "30 2 * * *", ["28 01:00", "29 00:30"]),
        (SPRING, "0,30 2,3 * * *", ["28 01:00", "28 01:30", "29 00:00"]),
        (SPRING, "@hourly", ["27 21:00", "27 22:00", "27 23:00", "28 00:00", "28 01:00"]),
    ],
)
def test_hours_that_daylight_saving_repeats_or_skips(
    after: datetime, expression: str, times: list[str]
) -> None:
    trigger = create_cron_trigger(expression, BERLIN)

    assert utc(trigger, after, len(times)) == times


def test_a_start_within_the_repeated_hour_finds_nothing_before_it() -> None:
    second_time = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)  # 02:10 again

    assert utc(create_cron_trigger("30 2 * * *", BERLIN), second_time, 1) == ["26 01:30"]


def test_six_fields_begin_with_the_seconds() -> None:
    trigger = create_cron_trigger("*/20 * * * * *")

    ticks = islice(trigger.ticks(59.5, 0.0), 3)

    assert list(ticks) == [60.0, 80.0, 100.0]


def test_an_interval_counts_from_its_start_whatever_is_asked_about() -> None:
    trigger = create_interval_trigger(minutes=1, seconds=30)

    assert list(islice(trigger.ticks(1000.0, 1000.0), 2)) == [1090.0, 1180.0]
    assert list(islice(trigger.ticks(9e8 + 1000, 1000.0), 1)) == [9e8 + 1090]
    began = create_interval_trigger(90, start_at=datetime.fromtimestamp(5000, UTC))
    assert list(islice(began.ticks(0.0, 1000.0), 2)) == [5000.0, 5090.0]


TRIGGERS = st.one_of(
    st.builds(IntervalTrigger, st.floats(0.1, 1e6), st.none() | st.floats(0, 2e9).map(lambda x: x)),
    st.builds(
        CronTrigger,
        st.sampled_from(
            ["30 2 * * *", "*/7 * * * *", "0 0 29 2 *", "15,45 1-3 * * 0", "0 9 L * *"]
        ),
        st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    ),
    st.builds(DateTrigger, st.floats(0, 2e9)),
)


@given(TRIGGERS, st.floats(1.6e9, 1.9e9), st.integers(0, 9))
def test_ticks_follow_from_the_last_one_alone(trigger: Trigger, after: float, at: int) -> None:
    """Whoever goes on after any tick finds the same ones; and they only go forward."""
    ticks = list(islice(trigger.ticks(after, 1.5e9), 10))

    assert ticks == sorted({tick for tick in ticks if tick > after})
    if at < len(ticks):
        assert list(islice(trigger.ticks(ticks[at], 1.5e9), 9 - at)) == ticks[at + 1 :]
    assert trigger_from_json(trigger_to_json(trigger)) == trigger


def test_short_ways_to_triggers() -> None:
    now = time.time()

    assert every_minute() == CronTrigger("* * * * *")
    assert every_hour(15, "Asia/Tokyo") == CronTrigger("15 * * * *", "Asia/Tokyo")
    assert every_day(6, 30, BERLIN) == CronTrigger("30 6 * * *", "Europe/Berlin")
    assert in_seconds(90).at - now == pytest.approx(90, abs=5)
    assert in_minutes(2).at - now == pytest.approx(120, abs=5)
    assert in_hours(1).at - now == pytest.approx(3600, abs=5)
    assert create_date_trigger(datetime(2027, 1, 1, 12), BERLIN) == create_date_trigger(  # noqa: DTZ001
        datetime(2027, 1, 1, 11, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"cron": "61 * * * *"}, "cron '61 \\* \\* \\* \\*' is no cron expression"),
        ({"cron": "* * *"}, "five fields"),
        ({"cron": ""}, "cron ''"),
        ({"cron": 5}, "cron 5 is no cron expression"),
        ({"cron": "0 0 30 2 *"}, "0 0 30 2"),
        ({"cron": "0 0 * * *", "timezone": "Europe/Atlantis"}, "timezone 'Europe/Atlantis'"),
        ({"cron": "0 0 * * *", "timezone": "../etc/passwd"}, "IANA"),
        ({"cron": "0 0 * * *", "timezone": timezone(timedelta(hours=1))}, "IANA"),
        ({"interval_seconds": 0}, "interval 0.0 seconds must be at least"),
        ({"interval_seconds": -5}, "interval -5.0"),
        ({"interval_seconds": float("nan")}, "interval nan"),
        ({"interval_seconds": "60"}, "interval '60'"),
        ({"run_at": datetime(2020, 1, 1, tzinfo=UTC)}, "once at 2020-01-01.* is in the past"),
        ({"run_at": "tomorrow"}, "run_at 'tomorrow' is no datetime"),
        ({"run_at": datetime.max.replace(tzinfo=UTC)}, "more than a hundred years away"),
        ({"run_at": datetime.min.replace(tzinfo=ZoneInfo("Asia/Kolkata"))}, "a hundred years away"),
        ({"interval_seconds": 1e11}, "at most a hundred years"),
        ({"trigger": "cron"}, "trigger 'cron' must be made by"),
        ({"trigger": "interval", "cron": "* * * * *"}, "trigger 'interval'"),
        ({"cron": "* * * * *", "interval_seconds": 5}, "cannot be together"),
    ],
)
def test_times_that_make_no_sense_are_refused(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ScheduleError, match=named) as refused:
        read_trigger(given, "UTC", datetime(2026, 1, 1, tzinfo=UTC).timestamp())

    assert str(refused.value).endswith(".")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"overlap": "wait"}, "overlap 'wait' must be one of 'skip', 'queue'"),
        ({"catch_up": "some"}, "catch_up 'some' must be one of 'none', 'last', 'all'"),
        ({"jitter_seconds": -1}, "jitter_seconds -1 must be 0 or more"),
        ({"jitter_seconds": 1e12}, "at most a hundred years"),
        ({"jitter_seconds": True}, "jitter_seconds True is no number"),
        ({"misfire_grace_time": 0}, "misfire_grace_time 0.0 must be more than 0"),
        ({"max_instances": 0}, "max_instances 0 must be a whole number"),
        ({"max_instances": 2, "overlap": "allow"}, "no meaning with overlap='allow'"),
        ({"coalesce": True, "catch_up": "all"}, "coalesce True contradicts catch_up='all'"),
        ({"misfire": 5}, "option 'misfire' does not exist"),
    ],
)
def test_options_that_make_no_sense_are_refused(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ScheduleError, match=named):
        read_options(given)


def test_a_word_may_say_which_kind_of_trigger_is_given() -> None:
    found = read_trigger({"trigger": "interval", "interval_seconds": 5}, "UTC", 0.0)

    assert found == IntervalTrigger(5.0)
    assert read_trigger({"cron": None, "trigger": None}, "UTC", 0.0) is None
