"""The rule by which a run changes keeps its promises in every order of events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from taskiq_flow.events import EventType
from taskiq_flow.model import transitions
from taskiq_flow.model.limits import LimitBook
from taskiq_flow.model.records import (
    Done,
    Expanded,
    Failed,
    ItemDone,
    Items,
    Join,
    Limit,
    LostReason,
    NewRun,
    OnFailure,
    Outcome,
    Retry,
    RunStatus,
    StepKind,
)
from taskiq_flow.model.state import Effects, RunState, SlotStatus
from taskiq_flow.testing.store_bench import Draft, lay_out, step
from tests.unit.model.explorer import PACE, Scenario, explore, wander

EACH_FAILURE = pytest.mark.parametrize("then", list(OnFailure))
MAP, TIMER, EVENT = StepKind.MAP, StepKind.TIMER, StepKind.EVENT


def plan(*drafts: Draft, lengths: Mapping[str, int] | None = None, **facts: Any) -> NewRun:
    lengths = lengths or {}
    steps = lay_out(drafts, lengths)
    index = {record.name: record.index for record in steps}
    return NewRun(
        run_id="run",
        namespace="test",
        steps=steps,
        plan=b"",
        kind="pipeline",
        lengths={index[name]: length for name, length in lengths.items()},
        **facts,
    )


def both_ways(scenario: Scenario) -> set[RunStatus]:
    """Every short way, and some of the long ones."""
    endings = explore(scenario)
    return endings | {wander(scenario, seed, steps=30) for seed in range(8)}


class TestEveryOrderOfEvents:
    """In every state: each outcome once, no slot held twice, and the run can still end."""

    def test_of_one_step(self) -> None:
        new = plan(step("a"))

        endings = both_ways(Scenario(new, cancels=True, releases=True, silences=2, depth=7))

        assert endings == set(RunStatus)

    def test_of_a_chain_with_a_deadline(self) -> None:
        new = plan(step("a"), step("b", "a"), timeout_seconds=12.0)

        endings = both_ways(Scenario(new, cancels=True, depth=6))

        assert endings == set(RunStatus)

    def test_of_a_step_that_may_not_be_lost(self) -> None:
        new = plan(step("a", lost_most=1), step("b", "a"))

        assert RunStatus.FAILED in both_ways(Scenario(new, retries=0, depth=6))

    @EACH_FAILURE
    @pytest.mark.parametrize("join", list(Join))
    def test_of_branches_that_meet_again(self, then: OnFailure, join: Join) -> None:
        new = plan(
            step("a", on_failure=then),
            step("b", "a", on_failure=then),
            step("c", "a", on_failure=then),
            step("d", "b", "c", join=join),
        )

        assert RunStatus.COMPLETED in both_ways(Scenario(new, retries=0, depth=6))

    def test_of_a_branch_that_is_not_taken(self) -> None:
        new = plan(
            step("if"),
            step("then", "if"),
            step("else", "if"),
            step("more", "then"),
            step("end", "more", "else", join=Join.ANY),
        )

        assert RunStatus.COMPLETED in both_ways(Scenario(new, skips={0: (1,)}, depth=7))

    @EACH_FAILURE
    def test_of_a_map(self, then: OnFailure) -> None:
        new = plan(step("m", kind=MAP, slots=2, on_failure=then), step("r", "m"), lengths={"m": 3})

        assert RunStatus.RUNNING in both_ways(Scenario(new, depth=4))

    @EACH_FAILURE
    def test_of_a_map_behind_the_limit_of_its_run(self, then: OnFailure) -> None:
        new = plan(
            step("m", kind=MAP, slots=3, on_failure=then),
            step("r", "m"),
            step("a"),
            lengths={"m": 3},
            max_parallel=1,
        )

        both_ways(Scenario(new, depth=3))

    @EACH_FAILURE
    def test_of_a_wider_limit(self, then: OnFailure) -> None:
        new = plan(
            step("m", kind=MAP, slots=3, on_failure=then),
            step("r", "m"),
            step("a"),
            lengths={"m": 3},
            max_parallel=2,
        )

        both_ways(Scenario(new, retries=0, depth=3))

    @EACH_FAILURE
    def test_of_a_map_over_a_list_that_must_be_split(self, then: OnFailure) -> None:
        new = plan(step("a"), step("m", "a", kind=MAP, slots=2, on_failure=then), step("r", "m"))

        assert RunStatus.COMPLETED in both_ways(Scenario(new, depth=6))

    def test_of_limits_over_all_runs(self) -> None:
        one, rate = Limit("one", most=1), Limit("rate", per_second=1.0)
        new = plan(step("a", limits=(one,)), step("b", limits=(one, rate)), max_parallel=1)

        assert RunStatus.COMPLETED in both_ways(Scenario(new, depth=6))

    @EACH_FAILURE
    def test_of_a_map_with_a_limit(self, then: OnFailure) -> None:
        one = Limit("one", most=1)
        new = plan(
            step("m", kind=MAP, slots=2, on_failure=then, limits=(one,)),
            step("r", "m", limits=(one,)),
            lengths={"m": 2},
            max_parallel=2,
        )

        both_ways(Scenario(new, depth=4))

    @EACH_FAILURE
    def test_of_timers_and_events(self, then: OnFailure) -> None:
        new = plan(
            step("e", kind=EVENT, event="go", delay_seconds=5.0, on_failure=then),
            step("t", kind=TIMER, delay_seconds=3.0),
            step("a", "e", "t"),
            step("f", "a", kind=EVENT, event="go"),
        )

        assert RunStatus.COMPLETED in both_ways(Scenario(new, events=("go",), depth=7))

    @EACH_FAILURE
    def test_of_a_step_that_parks_itself(self, then: OnFailure) -> None:
        new = plan(step("a", on_failure=then), step("b", "a"), step("c"), max_parallel=1)

        assert RunStatus.COMPLETED in both_ways(
            Scenario(new, parks=frozenset({0}), retries=0, depth=6)
        )

    def test_of_a_run_that_takes_steps_over(self) -> None:
        new = plan(step("a"), step("b", "a"), step("c", "b"), step("d"), done={1: b"1"})

        assert RunStatus.COMPLETED in both_ways(Scenario(new, retries=0, depth=5))


class TestPace:
    """When a slot is due."""

    def test_a_message_is_never_sent_more_seldom_than_64_times_the_base(self) -> None:
        run, _ = transitions.create(plan(step("a")), 0.0, PACE)
        slot, gaps = run.slots[0, 0], list[float]()

        for _ in range(10):
            assert slot.due is not None
            now = slot.due
            transitions.wake(run, (0, 0), now, PACE, hold_until=0.0)
            gaps.append((slot.due - now) / PACE.kick)

        assert gaps == [1, 2, 4, 8, 16, 32, 64, 64, 64, 64]

    def test_on_hold_a_lease_ends_with_the_hold_and_all_else_goes_on(self) -> None:
        run, _ = transitions.create(plan(step("a"), step("b")), 0.0, PACE)
        _started(run, (0, 0))

        assert transitions.wake(run, (0, 0), 50.0, PACE, hold_until=60.0) is None
        woken = transitions.wake(run, (1, 0), 50.0, PACE, hold_until=60.0)

        assert run.slots[0, 0].due == 60.0
        assert woken is not None
        assert woken.ready == [(1, 0)]
        lost = transitions.wake(run, (0, 0), 60.0, PACE, hold_until=60.0)
        assert lost is not None
        assert lost.ready == [(0, 0)]

    def test_what_is_not_due_is_not_woken(self) -> None:
        run, _ = transitions.create(plan(step("a")), 0.0, PACE)

        assert transitions.wake(run, (0, 0), PACE.kick - 0.1, PACE, hold_until=0.0) is None
        assert transitions.wake(run, (7, 0), 100.0, PACE, hold_until=0.0) is None

    def test_a_deadline_passes_once_and_not_before_its_time(self) -> None:
        run, _ = transitions.create(plan(step("a"), timeout_seconds=5.0), 0.0, PACE)

        assert transitions.pass_deadline(run, 4.9) is None
        assert transitions.pass_deadline(run, 5.0) is not None
        assert transitions.pass_deadline(run, 6.0) is None


class TestItems:
    """How a map is cut into pieces."""

    @pytest.mark.parametrize(
        ("length", "slots", "want", "first", "second"),
        [
            (10, 1, 3, range(3), range(3, 6)),
            (10, 2, 100, range(5), range(5, 7)),
            (3, 10, 5, range(1), range(1, 2)),
            (10, 2, 0, range(1), range(1, 2)),
        ],
    )
    def test_a_piece_is_what_is_wanted_but_no_more_than_a_share_of_the_rest(
        self, length: int, slots: int, want: int, first: range, second: range
    ) -> None:
        new = plan(step("m", kind=MAP, slots=slots), lengths={"m": length})
        run, _ = transitions.create(new, 0.0, PACE)

        begun = _started(run, (0, 0), want=want)
        outcome = Items(tuple(ItemDone(number, b"=") for number in first), want=want)
        finished = _finished(run, (0, 0), outcome, "next")

        assert begun.claim is not None
        assert [number for number, _ in begun.claim.items] == list(first)
        assert finished.claim is not None
        assert [number for number, _ in finished.claim.items] == list(second)

    def test_an_expanded_map_keeps_the_attempts_of_its_first_slot(self) -> None:
        run, _ = transitions.create(plan(step("m", kind=MAP, slots=2)), 0.0, PACE)
        _started(run, (0, 0), "first")
        _finished(run, (0, 0), Retry(b"error", 1.0), token="first")
        transitions.wake(run, (0, 0), 1.0, PACE, hold_until=0.0)
        _started(run, (0, 0))

        finished = _finished(run, (0, 0), Expanded(2), "next")

        assert finished.claim is not None
        assert (finished.claim.items, finished.claim.expand) == (((0, 0),), False)
        assert finished.ready == [(0, 1)]
        assert run.slots[0, 0].attempt == 1

    def test_a_long_row_of_empty_maps_completes_in_one_go(self) -> None:
        names = [f"m{i}" for i in range(1500)]
        maps = [
            step(name, *names[max(0, i - 1) : i], kind=MAP, slots=2) for i, name in enumerate(names)
        ]

        run, effects = transitions.create(plan(*maps, lengths={"m0": 0}), 0.0, PACE)

        assert run.status is RunStatus.COMPLETED
        assert effects.ended


class TestEndings:
    """The one door through which a run ends."""

    def test_an_end_sends_and_grants_nothing_more(self) -> None:
        run, _ = transitions.create(plan(step("a"), step("b")), 0.0, PACE)
        _started(run, (0, 0))

        effects = _finished(run, (0, 0), Failed(b"error"), "next")

        assert (effects.ready, effects.claim, effects.ended) == ([], None, True)
        assert run.failed_step == 0

    def test_an_ended_run_takes_nothing_more(self) -> None:
        run, _ = transitions.create(plan(step("a"), step("b")), 0.0, PACE)
        _started(run, (0, 0))
        transitions.cancel(run, "stop", 1.0)
        limits = LimitBook()

        assert transitions.cancel(run, "again", 2.0) is None
        assert transitions.receive(run, "event", b"", 2.0, PACE) is None
        assert transitions.resume(run, (1, 0), "note", 2.0, PACE) is None
        assert transitions.hurry(run, (1, 0), 2.0, PACE) is None
        assert transitions.release(run, (1, 0), "token", 0.0, 2.0, PACE, limits) is None
        assert transitions.wake(run, (1, 0), 99.0, PACE, hold_until=0.0) is None
        assert run.reason == "stop"

    def test_what_works_after_the_end_keeps_its_slot_until_it_gives_that_back(self) -> None:
        run, _ = transitions.create(plan(step("a"), step("b")), 0.0, PACE)
        _started(run, (0, 0))
        transitions.cancel(run, "stop", 1.0)
        limits = LimitBook()

        assert transitions.renew(run, (0, 0), "token", 2.0, PACE, limits) is LostReason.CANCELLED
        assert transitions.release(run, (0, 0), "other", 0.0, 2.0, PACE, limits) is None
        assert run.slots[0, 0].status is SlotStatus.RUNNING
        effects = transitions.release(run, (0, 0), "token", 0.0, 2.0, PACE, limits)
        assert effects is not None
        assert (effects.ready, effects.events, run.running) == ([], [], 0)
        assert run.slots[0, 0].status is SlotStatus.DONE
        assert transitions.release(run, (0, 0), "token", 0.0, 2.0, PACE, limits) is None

    def test_the_events_of_a_failure_that_is_passed_on_count_the_same_tries(self) -> None:
        run, _ = transitions.create(
            plan(step("a"), step("b", "a"), step("c", "b"), step("d")), 0.0, PACE
        )
        _started(run, (0, 0))

        effects = _finished(run, (0, 0), Failed(b"error", OnFailure.SKIP))

        tries = [(kind, number, tried) for kind, number, _, tried, _ in effects.events]
        assert tries == [
            (EventType.STEP_FAILED, 0, 1),
            (EventType.STEP_SKIPPED, 1, 0),
            (EventType.STEP_SKIPPED, 2, 0),
        ]

    def test_an_event_completes_steps_in_the_order_of_the_plan_however_they_were_loaded(
        self,
    ) -> None:
        waits: dict[str, Any] = {"kind": EVENT, "event": "go"}
        run, _ = transitions.create(plan(step("a", **waits), step("b", **waits)), 0.0, PACE)
        run.steps = dict(reversed(run.steps.items()))

        effects = transitions.receive(run, "go", b"1", 0.0, PACE)

        assert effects is not None
        ended = [number for kind, number, *_ in effects.events if kind is EventType.STEP_COMPLETED]
        assert ended == [0, 1]

    def test_only_a_slot_that_sleeps_is_hurried(self) -> None:
        run, _ = transitions.create(plan(step("a")), 0.0, PACE)

        assert transitions.hurry(run, (0, 0), 0.0, PACE) is None
        _started(run, (0, 0))
        _finished(run, (0, 0), Retry(b"error", 50.0))
        hurried = transitions.hurry(run, (0, 0), 1.0, PACE)

        assert hurried is not None
        assert hurried.ready == [(0, 0)]
        assert run.slots[0, 0].status is SlotStatus.READY

    def test_a_value_is_kept_for_those_who_read_it(self) -> None:
        run, _ = transitions.create(plan(step("a"), step("b", "a")), 0.0, PACE)
        _started(run, (0, 0))

        assert _finished(run, (0, 0), Done(b"\x00")).values == {0: b"\x00"}


def _started(run: RunState, at: tuple[int, int], token: str = "token", want: int = 1) -> Effects:
    effects = transitions.start(run, at, token, 0.0, PACE, LimitBook(), want)
    assert isinstance(effects, Effects)
    return effects


def _finished(
    run: RunState,
    at: tuple[int, int],
    outcome: Outcome,
    next_token: str | None = None,
    token: str = "token",
) -> Effects:
    effects = transitions.finish(run, at, token, outcome, next_token, 0.0, PACE, LimitBook())
    assert effects is not None
    return effects
