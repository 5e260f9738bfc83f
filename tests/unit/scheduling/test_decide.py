"""What becomes of ticks: caught up, missed, waiting, taken over, counted once."""

from dataclasses import replace
from typing import Any

import pytest

from taskiq_flow.scheduling.decide import (
    CLAIM_SECONDS,
    MOST,
    ON_TIME_SECONDS,
    look_at,
    newest_ticks,
    settle,
    take,
)
from taskiq_flow.scheduling.job import Job, JobState, Outcome, Result
from taskiq_flow.scheduling.options import read_options
from taskiq_flow.scheduling.triggers import DateTrigger, IntervalTrigger, Trigger
from taskiq_flow.stores.base import TICK_SECONDS

EVERY_MINUTE = IntervalTrigger(60.0)


def job(trigger: Trigger = EVERY_MINUTE, **options: Any) -> Job:
    return Job("j", "j", "p", trigger, read_options(options), "w", 0.0, JobState(0.0))


@pytest.mark.parametrize(
    ("catch_up", "now", "fired", "missed"),
    [
        # Minutes 1 to 10 have passed; what is at most 10 s late was not missed.
        ("none", 600.0, [600.0], 9),
        ("none", 630.0, [], 10),
        ("last", 600.0, [600.0], 9),
        ("last", 630.0, [600.0], 9),
        ("all", 630.0, [60.0 * n for n in range(1, 11)], 0),
    ],
)
def test_ticks_that_passed_while_nobody_looked(
    catch_up: str, now: float, fired: list[float], missed: int
) -> None:
    taken = take(job(catch_up=catch_up, overlap="allow"), now, "me")

    assert taken is not None
    assert list(taken.state.waiting) == fired
    assert taken.state.missed == missed
    assert taken.state.decided_until == 600.0
    assert (taken.state.claim is not None) is bool(fired)


def test_ticks_of_the_last_seconds_are_all_on_time() -> None:
    quick = job(IntervalTrigger(2.0), catch_up="last", overlap="allow")

    taken = take(quick, 100.0, "me")

    assert taken is not None
    on_time = [100.0 - 2 * n for n in range(int(ON_TIME_SECONDS) // 2, -1, -1)]
    assert list(taken.state.waiting) == on_time


@pytest.mark.parametrize("catch_up", ["none", "last", "all"])
def test_a_grace_time_bounds_how_late_a_tick_may_be(catch_up: str) -> None:
    late = job(catch_up=catch_up, misfire_grace_time=150.0)

    taken = take(late, 630.0, "me")

    assert taken is not None
    wanted = [600.0] if catch_up == "last" else [480.0, 540.0, 600.0]
    assert list(taken.state.waiting) == wanted


def test_of_very_many_missed_ticks_the_newest_are_caught_up() -> None:
    taken = take(job(catch_up="all"), 60.0 * 5000, "me")

    assert taken is not None
    assert len(taken.state.waiting) == MOST
    assert taken.state.waiting[-1] == 60.0 * 5000
    assert newest_ticks(taken, 0.0, 60.0 * 5000, 3) == [299880.0, 299940.0, 300000.0]


def test_only_the_newest_tick_cancels_the_running_one() -> None:
    taken = take(job(overlap="cancel_running", catch_up="all"), 200.0, "me")

    assert taken is not None
    assert (taken.state.waiting, taken.state.skipped) == ((180.0,), 2)


def test_jitter_delays_each_tick_by_its_own_share_the_same_for_everybody() -> None:
    shaken, other = job(jitter_seconds=30.0), replace(job(jitter_seconds=30.0), job_id="other")

    delays = [shaken.fire_at(60.0 * n) - 60.0 * n for n in range(1, 50)]

    assert all(0 <= delay <= 30 for delay in delays)
    assert max(delays) - min(delays) > 15
    assert shaken.fire_at(60.0) != other.fire_at(60.0)
    assert look_at(shaken, "me") == shaken.fire_at(60.0)
    assert take(shaken, shaken.fire_at(60.0) - 0.01, "me") is None
    assert take(shaken, shaken.fire_at(60.0), "me") is not None


def test_a_claim_keeps_others_away_until_its_holder_is_silent() -> None:
    taken = take(job(), 60.0, "one")
    assert taken is not None

    assert take(taken, 60.0 + CLAIM_SECONDS / 2, "two") is None
    assert look_at(taken, "two") == 60.0 + CLAIM_SECONDS
    over = take(taken, 60.0 + CLAIM_SECONDS, "two")

    assert over is not None
    assert over.state.waiting == (60.0,)
    assert over.state.claim is not None
    assert over.state.claim.by == "two"
    assert take(taken, 61.0, "one") is not None, "its own claim is no hindrance"


def test_a_tick_that_may_have_been_fired_before_any_store_remembers_is_not_fired_again() -> None:
    taken = take(job(), 60.0, "one")
    assert taken is not None

    over = take(taken, 61.0 + TICK_SECONDS, "two")

    assert over is not None
    assert 60.0 not in over.state.waiting
    assert over.state.missed >= 1


def test_what_two_schedulers_report_is_counted_once() -> None:
    taken = take(job(catch_up="all", overlap="allow"), 120.0, "one")
    assert taken is not None
    outcomes = [Outcome(60.0, Result.FIRED, "r1"), Outcome(120.0, Result.FAILED, error="no")]

    once = settle(taken, outcomes, "one", 121.0)
    twice = settle(once, outcomes, "two", 122.0)

    assert twice == once
    state = once.state
    assert (state.fired, state.failed, state.waiting, state.claim) == (1, 1, (), None)
    assert (state.last_tick, state.last_run_id, state.last_error) == (60.0, "r1", "no")


def test_who_goes_on_keeps_the_claim_and_another_ones_claim_stays() -> None:
    taken = take(job(catch_up="all", overlap="allow"), 120.0, "one")
    assert taken is not None
    part = [Outcome(60.0, Result.FIRED, "r1")]

    going_on = settle(taken, part, "one", 121.0, going_on=True)

    assert going_on.state.claim is not None
    assert going_on.state.claim.at == 121.0
    assert settle(taken, part, "two", 122.0).state.claim == taken.state.claim


def test_a_job_that_runs_once_is_gone_when_it_has_run_or_was_missed() -> None:
    once = job(DateTrigger(60.0), catch_up="none")

    taken, missed = take(once, 60.0, "me"), take(once, 600.0, "me")

    assert taken is not None
    assert not taken.gone
    assert settle(taken, [Outcome(60.0, Result.FIRED, "r")], "me", 60.0).gone
    assert missed is not None
    assert (missed.gone, missed.state.missed) == (True, 1)


def test_a_paused_job_is_left_alone() -> None:
    paused = replace(job(), paused=True)

    assert take(paused, 600.0, "me") is None
    assert look_at(paused, "me") is None


def test_a_job_is_stored_as_text_and_read_back() -> None:
    taken = take(job(catch_up="all", jitter_seconds=0.0, max_instances=3), 200.0, "me")
    assert taken is not None

    assert Job.from_json(taken.to_json()) == taken
