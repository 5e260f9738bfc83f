"""What every run store promises of the life of a run: claims, outcomes, losses, endings."""

from __future__ import annotations

import asyncio

from taskiq_flow.exceptions import BacklogFullError, DuplicatePipelineError, DuplicateTickError
from taskiq_flow.model.records import (
    Aborted,
    Address,
    Done,
    EventType,
    Failed,
    Grant,
    Join,
    LostReason,
    OnFailure,
    Refusal,
    RefusalReason,
    Retry,
    RunStatus,
    StepStatus,
    WakeKind,
)
from taskiq_flow.model.transitions import DEADLINE_ERROR, POISON_ERROR
from taskiq_flow.stores.base import Held
from taskiq_flow.testing.store_bench import (
    KICK,
    LEASE,
    StoreBench,
    error_of,
    kicked,
    new_token,
    step,
)

MINE, OTHER, FOREIGN = "mine", "other", "foreign"


class CreationContract:
    """A run is stored whole, once, or not at all."""

    async def test_a_new_run_is_pending_and_its_first_steps_are_ready(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"), step("b"), step("c", "a", "b"))

        assert run.names(run.ready) == ["a", "b"]
        assert await run.status() is RunStatus.PENDING
        assert (await run.snapshot()).remaining == 3

    async def test_what_is_ready_names_queue_route_and_task(self, bench: StoreBench) -> None:
        run = await bench.create(step("a", route='{"priority":1}', queue="b|q", task="pkg:a"))

        (ready,) = run.ready
        assert (ready.queue, ready.route, ready.task) == ("b|q", '{"priority":1}', "pkg:a")

    async def test_creating_a_run_again_gives_the_same_answer_and_changes_nothing(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"), step("b"), key="k", tick="t", backlog=("q", 1))

        again = await bench.store.create(run.new)

        assert set(again) == set(run.ready)
        assert await run.happened() == [EventType.RUN_CREATED]

    async def test_creating_a_run_again_does_not_send_what_has_started(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"), step("b"))
        await run.start("a")

        assert run.names(await bench.store.create(run.new)) == ["b"]

    async def test_a_second_run_of_a_key_is_refused_while_the_first_goes_on(
        self, bench: StoreBench
    ) -> None:
        first = await bench.create(step("a"), key="nightly")
        second = bench.draft(step("a"), key="nightly")

        error = await error_of(DuplicatePipelineError, bench.store.create(second.new))

        assert error.run_id == first.run_id
        assert await bench.store.get(second.run_id) is None
        assert await bench.store.find("nightly") == first.run_id

    async def test_a_key_may_be_used_again_after_its_run_has_ended(self, bench: StoreBench) -> None:
        first = await bench.create(step("a"), key="nightly")
        await first.run("a")

        second = await bench.create(step("a"), key="nightly")

        assert await bench.store.find("nightly") == second.run_id

    async def test_one_of_many_clients_that_create_one_key_wins(self, bench: StoreBench) -> None:
        drafts = [bench.draft(step("a"), key="nightly") for _ in range(10)]

        answers = await asyncio.gather(
            *(bench.store.create(draft.new) for draft in drafts), return_exceptions=True
        )

        assert sum(isinstance(answer, tuple) for answer in answers) == 1
        assert sum(isinstance(answer, DuplicatePipelineError) for answer in answers) == 9

    async def test_a_tick_fires_once_even_after_its_run_has_ended(self, bench: StoreBench) -> None:
        first = await bench.create(step("a"), tick="report@noon")
        await first.run("a")
        second = bench.draft(step("a"), tick="report@noon")

        await error_of(DuplicateTickError, bench.store.create(second.new))

        assert await bench.store.get(second.run_id) is None

    async def test_a_backlog_is_full_when_as_many_runs_are_pending(self, bench: StoreBench) -> None:
        runs = [await bench.create(step("a"), backlog=("mail", 2)) for _ in range(2)]
        third = bench.draft(step("a"), backlog=("mail", 2))

        await error_of(BacklogFullError, bench.store.create(third.new))
        await runs[0].start("a")
        await bench.store.create(third.new)

        assert await third.status() is RunStatus.PENDING

    async def test_a_pending_run_that_ends_leaves_its_backlog(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), backlog=("mail", 1))
        await bench.store.cancel(run.run_id, "not needed")

        await bench.create(step("a"), backlog=("mail", 1))

    async def test_steps_taken_over_are_done_and_open_what_follows(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b", "a"), step("c"), done={0: b"1"})

        assert run.names(run.ready) == ["b", "c"]
        assert (await run.step("a")).status is StepStatus.COMPLETED
        assert (await run.start("b")).values == (b"1",)

    async def test_a_run_whose_steps_are_all_taken_over_has_ended(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), done={0: b"1"})

        assert run.ready == ()
        assert await run.status() is RunStatus.COMPLETED

    async def test_a_step_taken_over_is_not_run_after_one_it_needs(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b", "a"), step("c", "b"), done={1: b"1"})

        await run.run("c")
        ended = await run.run("a")

        assert (ended.ready, ended.ended) == ((), RunStatus.COMPLETED)

    async def test_a_run_of_a_thousand_steps_is_stored_whole(self, bench: StoreBench) -> None:
        drafts = [step("s0"), *(step(f"s{i}", "s0") for i in range(1, 1000))]

        run = await bench.create(*drafts)
        finished = await run.run("s0")

        assert len(finished.ready) == 999
        assert (await run.snapshot()).remaining == 999


class ClaimContract:
    """A slot has one holder, and the holder's token is what counts."""

    async def test_a_grant_carries_all_that_is_needed(self, bench: StoreBench) -> None:
        run = await bench.create(
            step("a", sources=(-1, -2)), inputs={-1: b"\x00\xff", -2: b""}, timeout_seconds=60.0
        )
        bench.clock.advance(1.5)

        grant = await run.start("a", token=MINE)

        assert (grant.address, grant.token) == (run.at("a"), MINE)
        assert grant.blob == run.new.steps[0].blob
        assert grant.values == (b"\x00\xff", b"")
        assert (grant.attempt, grant.lost, grant.items, grant.expand) == (0, 0, (), False)
        assert grant.granted_at == grant.run_started_at == bench.clock()
        assert grant.ready_at == bench.clock() - 1.5
        assert grant.deadline == bench.clock() + 58.5
        assert grant.run_name == run.run_id

    async def test_a_source_without_a_value_reads_as_none(self, bench: StoreBench) -> None:
        run = await bench.create(step("a", sources=(-1,)))

        assert (await run.start("a")).values == (b"null",)

    async def test_of_fifty_claimants_one_is_granted(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))

        answers = await asyncio.gather(*(run.try_start("a") for _ in range(50)))

        assert sum(isinstance(answer, Grant) for answer in answers) == 1
        assert {a.reason for a in answers if isinstance(a, Refusal)} == {RefusalReason.RUNNING}
        assert await run.happened("a") == [EventType.STEP_STARTED]

    async def test_the_same_token_gets_the_same_grant_again(self, bench: StoreBench) -> None:
        run = await bench.create(step("a", sources=(-1,)), inputs={-1: b"1"})
        first = await run.start("a", token=MINE)
        bench.clock.advance(1.0)

        assert await run.start("a", token=MINE) == first

    async def test_what_is_not_there_is_gone(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b", "a"))

        nowhere = await bench.store.start(Address("no-such-run", 0, 0), "t")

        assert nowhere == Refusal(RefusalReason.GONE)
        assert await run.refused("b") is RefusalReason.GONE
        assert await run.refused("a", slot=1) is RefusalReason.GONE

    async def test_a_finished_step_and_an_ended_run_grant_nothing(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b", "a"))

        await run.run("a")
        assert await run.refused("a") is RefusalReason.DONE
        await run.run("b")
        assert await run.refused("b") is RefusalReason.ENDED

    async def test_starting_moves_run_and_step_to_running(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        bench.clock.advance(2.0)

        await run.start("a")

        snapshot = await run.snapshot()
        assert (snapshot.status, snapshot.started_at) == (RunStatus.RUNNING, bench.clock())
        assert (await run.step("a")).status is StepStatus.RUNNING
        assert await run.happened() == [
            EventType.RUN_CREATED,
            EventType.RUN_STARTED,
            EventType.STEP_STARTED,
        ]

    async def test_a_renewed_lease_is_not_lost(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        grant = await run.start("a")

        for _ in range(8):
            assert await bench.store.renew([Held(grant.address, grant.token)]) == {}
            assert await bench.wait(LEASE / 2) == []

        assert (await run.finish(grant)).ended is RunStatus.COMPLETED

    async def test_renewing_says_which_leases_are_lost_and_why(self, bench: StoreBench) -> None:
        runs = [await bench.create(step("a"), step("b")) for _ in range(3)]
        grants = [await run.start("a") for run in runs]
        await bench.store.cancel(runs[1].run_id, "stop")
        await runs[2].run("b", Failed(b"no"))

        held = [Held(grant.address, grant.token) for grant in grants]
        lost = await bench.store.renew(
            [*held, Held(runs[0].at("b"), "x"), Held(Address("no-such-run", 0, 0), "y")]
        )

        assert lost == {
            grants[1].token: LostReason.CANCELLED,
            grants[2].token: LostReason.ENDED,
            "x": LostReason.TAKEN,
            "y": LostReason.ENDED,
        }

    async def test_renewing_nothing_and_very_much_is_one_call(self, bench: StoreBench) -> None:
        run = await bench.create(*(step(f"s{i}") for i in range(300)))
        grants = [await run.start(f"s{i}") for i in range(300)]

        assert await bench.store.renew([]) == {}
        assert await bench.store.renew([Held(g.address, g.token) for g in grants]) == {}

    async def test_a_released_slot_may_be_taken_again_and_counts_no_attempt(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"))
        grant = await run.start("a")

        ready = await bench.store.release(grant.address, grant.token)

        assert run.names(ready) == ["a"]
        again = await run.start("a")
        assert (again.attempt, again.lost, again.ready_at) == (0, 0, grant.ready_at)

    async def test_a_slot_released_with_delay_waits_and_remembers_since_when_it_was_ready(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"))
        grant = await run.start("a")

        assert await bench.store.release(grant.address, grant.token, delay_seconds=5.0) == ()

        refusal = await run.try_start("a")
        assert refusal == Refusal(RefusalReason.WAITING, retry_at=bench.clock() + 5.0)
        assert kicked(await bench.wait(5.0)) == [run.at("a")]
        assert (await run.start("a")).ready_at == grant.ready_at

    async def test_releasing_twice_or_with_a_foreign_token_changes_nothing(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"))
        grant = await run.start("a")

        assert await bench.store.release(grant.address, FOREIGN) == ()
        assert await run.refused("a") is RefusalReason.RUNNING
        await bench.store.release(grant.address, grant.token)
        assert await bench.store.release(grant.address, grant.token) == ()


class OutcomeContract:
    """An outcome is recorded exactly once."""

    async def test_the_last_step_ends_the_run(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b", "a"))

        first, last = await run.run("a"), await run.run("b")

        assert (first.ended, last.ended) == (None, RunStatus.COMPLETED)
        snapshot = await run.snapshot()
        assert (snapshot.remaining, snapshot.ended_at) == (0, bench.clock())

    async def test_a_join_is_ready_once_whoever_finishes_last(self, bench: StoreBench) -> None:
        branches = [f"b{i}" for i in range(20)]
        run = await bench.create(*(step(name) for name in branches), step("join", *branches))
        grants = [await run.start(name) for name in branches]

        finished = await asyncio.gather(*(run.finish(grant) for grant in grants))

        assert sum(len(answer.ready) for answer in finished) == 1
        assert (await run.start("join")).values == (b'"done"',) * 20

    async def test_a_repeated_finish_gets_the_same_answer(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b", "a"), step("c", "a"))
        grant = await run.start("a")
        token = new_token()

        first = await run.finish(grant, next_token=token)
        events = await run.events()
        again = await run.finish(grant, next_token=token)

        assert again == first
        assert again.grant is not None
        assert again.grant.token == token
        assert await run.events() == events

    async def test_many_repetitions_at_once_record_one_outcome(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b", "a"))
        grant = await run.start("a")
        token = new_token()

        answers = await asyncio.gather(*(run.finish(grant, next_token=token) for _ in range(20)))

        assert len({answer.grant.token for answer in answers if answer.grant}) == 1
        assert all(answer == answers[0] for answer in answers)
        assert await run.happened("a") == [EventType.STEP_STARTED, EventType.STEP_COMPLETED]

    async def test_a_repeated_last_finish_ends_the_run_once(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), publish=True)
        grant = await run.start("a")

        first, again = await run.finish(grant), await run.finish(grant)
        await bench.store.settle(run.run_id, WakeKind.PUBLISH)
        settled = await run.finish(grant)

        assert first == again
        assert first.ended is RunStatus.COMPLETED
        assert [wake.kind for wake in first.wakes] == [WakeKind.PUBLISH]
        assert (settled.ended, settled.wakes) == (RunStatus.COMPLETED, ())
        assert (await run.happened()).count(EventType.RUN_COMPLETED) == 1
        assert await bench.wait(60.0) == []

    async def test_a_repetition_does_not_grant_what_was_lost_or_taken_meanwhile(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"), step("b", "a"))
        grant = await run.start("a")
        await run.finish(grant, next_token=MINE)

        await bench.wait(LEASE)
        lost = await run.finish(grant, next_token=MINE)
        await run.start("b", token=OTHER)
        taken = await run.finish(grant, next_token=MINE)

        assert (lost.recorded, lost.grant) == (True, None)
        assert (taken.recorded, taken.grant) == (True, None)

    async def test_a_repetition_does_not_grant_into_a_run_that_was_cancelled(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"), step("b", "a"))
        grant = await run.start("a")
        await run.finish(grant, next_token=MINE)

        await bench.store.cancel(run.run_id, "stop")

        assert (await run.finish(grant, next_token=MINE)).grant is None

    async def test_a_foreign_token_changes_nothing(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        await run.start("a")

        answer = await bench.store.finish(run.at("a"), FOREIGN, Done(b"2"), None)

        assert not answer.recorded
        assert await run.status() is RunStatus.RUNNING
        assert await bench.store.values(run.run_id, [0]) == {}

    async def test_finishing_what_is_not_there_is_not_recorded(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))

        for address in (Address("no-such-run", 0, 0), run.at("a", 7), run.at("a")):
            assert not (await bench.store.finish(address, "t", Done(b"1"), None)).recorded

    async def test_the_same_worker_goes_on_with_a_step_of_its_queue_and_route(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(
            step("a"),
            step("other queue", "a", queue="q2"),
            step("urgent", "a", route="{}"),
            step("next", "a"),
            step("and next", "a"),
        )

        finished = await run.finish(await run.start("a"), next_token=MINE)

        assert finished.grant is not None
        assert finished.grant.address == run.at("next")
        assert finished.grant.values == (b'"done"',)
        assert run.names(finished.ready) == ["and next", "other queue", "urgent"]
        assert await run.refused("next") is RefusalReason.RUNNING

    async def test_an_outcome_after_a_cancel_is_not_recorded(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        grant = await run.start("a")

        assert await bench.store.cancel(run.run_id, "not needed")

        assert not (await run.finish(grant)).recorded
        snapshot = await run.snapshot()
        assert (snapshot.status, snapshot.reason) == (RunStatus.CANCELLED, "not needed")
        assert (await run.step("a")).status is StepStatus.CANCELLED

    async def test_a_run_is_cancelled_once(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))

        answers = await asyncio.gather(
            *(bench.store.cancel(run.run_id, f"reason {i}") for i in range(5))
        )

        assert sorted(answers) == [False] * 4 + [True]
        assert (await run.happened()).count(EventType.RUN_CANCELLED) == 1
        assert not await bench.store.cancel("no-such-run", "why")

    async def test_cancel_and_finish_at_once_end_the_run_one_way(self, bench: StoreBench) -> None:
        for _ in range(5):
            run = await bench.create(step("a"))
            grant = await run.start("a")

            finished, cancelled = await asyncio.gather(
                run.finish(grant), bench.store.cancel(run.run_id, "stop")
            )

            assert finished.recorded is not cancelled
            ends = {EventType.RUN_COMPLETED, EventType.RUN_CANCELLED}
            assert len([kind for kind in await run.happened() if kind in ends]) == 1

    async def test_a_step_may_abort_its_run(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b", "a"))

        finished = await run.run("a", Aborted("nothing to do"))

        assert (finished.ended, finished.ready) == (RunStatus.CANCELLED, ())
        assert (await run.snapshot()).reason == "nothing to do"


class FailureContract:
    """Failures of user code: retries, and what the last one does to the run."""

    async def test_a_retry_is_due_after_its_delay_and_counted(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))

        finished = await run.run("a", Retry(b"error", delay_seconds=3.0))

        assert finished.retry_at == bench.clock() + 3.0
        retrying = await run.step("a")
        assert (retrying.status, retrying.attempt) == (StepStatus.RETRYING, 1)
        assert (retrying.error, retrying.retry_at) == (b"error", finished.retry_at)
        assert kicked(await bench.wait(3.0)) == [run.at("a")]
        grant = await run.start("a")
        assert (grant.attempt, grant.ready_at) == (1, finished.retry_at)

    async def test_a_retry_may_be_started_by_a_local_timer_but_not_early(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"))
        due = (await run.run("a", Retry(b"error", delay_seconds=3.0))).retry_at

        early = await run.try_start("a")
        bench.clock.advance(3.0)

        assert early == Refusal(RefusalReason.WAITING, retry_at=due)
        assert (await run.start("a")).attempt == 1

    async def test_a_retry_of_a_cancelled_run_never_comes(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        await run.run("a", Retry(b"error", delay_seconds=3.0))

        await bench.store.cancel(run.run_id, "stop")

        assert await bench.wait(30.0) == []

    async def test_a_failure_stops_the_run(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b"), step("c", "a"))

        finished = await run.run("a", Failed(b"error"))

        assert (finished.ended, finished.ready) == (RunStatus.FAILED, ())
        snapshot = await run.snapshot()
        assert (snapshot.failed_step, snapshot.error, snapshot.failures) == (0, b"error", 1)
        assert (await run.step("a")).status is StepStatus.FAILED
        assert await run.refused("b") is RefusalReason.ENDED

    async def test_a_failure_passed_on_reads_as_none(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b", "a"))

        finished = await run.run("a", Failed(b"error", OnFailure.PASS))

        assert run.names(finished.ready) == ["b"]
        assert (await run.start("b")).values == (b"null",)
        failed = await run.step("a")
        assert (failed.status, failed.error) == (StepStatus.FAILED, b"error")

    async def test_a_skipping_failure_skips_what_needs_it_and_runs_the_rest(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(
            step("a"), step("b", "a"), step("c", "b"), step("d"), step("e", "c", "d")
        )

        await run.run("a", Failed(b"error", OnFailure.SKIP))
        last = await run.run("d")

        assert last.ended is RunStatus.COMPLETED
        statuses = {found.name: found.status for found in (await run.snapshot()).steps}
        assert statuses == {
            "a": StepStatus.FAILED,
            "b": StepStatus.SKIPPED,
            "c": StepStatus.SKIPPED,
            "d": StepStatus.COMPLETED,
            "e": StepStatus.SKIPPED,
        }
        assert (await run.snapshot()).failures == 1

    async def test_a_join_of_any_runs_if_one_branch_was_taken(self, bench: StoreBench) -> None:
        run = await bench.create(
            step("if"),
            step("then", "if"),
            step("else", "if"),
            step("end", "then", "else", join=Join.ANY),
        )

        chosen = await run.run("if", Done(b"1", skip=(run.index["then"],)))
        finished = await run.run("else")

        assert run.names(chosen.ready) == ["else"]
        assert run.names(finished.ready) == ["end"]
        assert (await run.start("end")).values == (b"null", b'"done"')

    async def test_a_join_of_any_is_skipped_if_no_branch_was_taken(self, bench: StoreBench) -> None:
        run = await bench.create(
            step("if"),
            step("then", "if"),
            step("else", "if"),
            step("end", "then", "else", join=Join.ANY),
        )

        finished = await run.run("if", Done(b"1", skip=(1, 2)))

        assert finished.ended is RunStatus.COMPLETED
        assert (await run.step("end")).status is StepStatus.SKIPPED

    async def test_a_skip_goes_down_a_long_chain(self, bench: StoreBench) -> None:
        chain = [step("s0"), *(step(f"s{i}", f"s{i - 1}") for i in range(1, 300))]
        run = await bench.create(*chain)

        finished = await run.run("s0", Failed(b"error", OnFailure.SKIP))

        assert finished.ended is RunStatus.COMPLETED
        assert (await run.happened()).count(EventType.STEP_SKIPPED) == 299

    async def test_a_deadline_fails_the_run(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), timeout_seconds=10.0)
        grant = await run.start("a")
        await bench.store.renew([Held(grant.address, grant.token)])

        await bench.wait(9.0)
        assert await run.status() is RunStatus.RUNNING
        await bench.wait(1.0)

        snapshot = await run.snapshot()
        assert (snapshot.status, snapshot.error) == (RunStatus.FAILED, DEADLINE_ERROR)
        assert not (await run.finish(grant)).recorded

    async def test_a_run_that_ended_in_time_has_no_deadline(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), timeout_seconds=10.0)
        await run.run("a")

        assert await bench.wait(20.0) == []
        assert await run.status() is RunStatus.COMPLETED

    async def test_a_run_that_nobody_took_passes_its_deadline_too(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), timeout_seconds=2.0)

        await bench.wait(3.0)

        assert await run.status() is RunStatus.FAILED


class LossContract:
    """Workers that die and messages that are lost: what stood still is found and woken."""

    async def test_a_lost_message_is_sent_again_after_1_2_and_4_times_the_base(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"))
        await bench.due()
        begin = bench.clock()
        kicks: list[float] = []

        for _ in range(round(16 * KICK)):
            bench.clock.advance(1.0)
            kicks += [bench.clock() - begin] * len(kicked(await bench.due()))

        assert kicks == [KICK, 2 * KICK, 4 * KICK, 8 * KICK, 16 * KICK]
        assert (await run.start("a")).lost == 0

    async def test_the_base_grows_with_the_time_that_the_queue_takes(
        self, bench: StoreBench
    ) -> None:
        slow = await bench.create(step("a"))
        bench.clock.advance(KICK - 1)
        await slow.start("a")

        run = await bench.create(step("a"))

        assert run.at("a") not in kicked(await bench.wait(3 * (KICK - 1) - 1))
        assert run.at("a") in kicked(await bench.wait(1.0))

    async def test_a_refused_message_says_nothing_of_the_queue(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        grant = await run.start("a")
        for _ in range(10):
            bench.clock.advance(LEASE / 2)
            await bench.due()
            await bench.store.renew([Held(grant.address, grant.token)])
            await run.refused("a")

        later = await bench.create(step("a"))

        assert later.at("a") in kicked(await bench.wait(KICK))

    async def test_of_two_recoverers_one_is_told(self, bench: StoreBench) -> None:
        runs = [await bench.create(step("a")) for _ in range(20)]
        await bench.due()
        bench.clock.advance(KICK)

        answers = await asyncio.gather(*(bench.due(limit=5) for _ in range(10)))

        told = [address for answer in answers for address in kicked(answer)]
        assert sorted(told) == sorted(run.at("a") for run in runs)

    async def test_due_hands_out_no_more_than_asked_for(self, bench: StoreBench) -> None:
        await asyncio.gather(*(bench.create(step("a")) for _ in range(7)))
        await bench.due()
        bench.clock.advance(KICK)

        assert [len(await bench.due(limit=3)) for _ in range(4)] == [3, 3, 1, 0]

    async def test_a_lost_lease_is_given_out_again_and_counted(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        first = await run.start("a")

        assert kicked(await bench.wait(LEASE)) == [run.at("a")]

        held = Held(first.address, first.token)
        assert await bench.store.renew([held]) == {first.token: LostReason.TAKEN}
        second = await run.start("a")
        assert (second.lost, second.attempt) == (1, 0)
        assert EventType.STEP_LOST in await run.happened("a")
        assert (await run.step("a")).lost == 1

    async def test_a_late_finish_counts_as_long_as_nobody_else_began(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"))
        grant = await run.start("a")
        await bench.wait(LEASE)

        finished = await run.finish(grant, Done(b'"late"'))

        assert (finished.recorded, finished.ended) == (True, RunStatus.COMPLETED)
        assert await bench.store.values(run.run_id, [0]) == {0: b'"late"'}

    async def test_a_late_finish_changes_nothing_once_somebody_else_began(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"))
        late = await run.start("a")
        await bench.wait(LEASE)
        second = await run.start("a")

        assert not (await run.finish(late, Failed(b"late"))).recorded

        assert (await run.finish(second)).ended is RunStatus.COMPLETED
        assert not (await run.finish(late, Failed(b"late"))).recorded

    async def test_a_late_finish_of_a_released_slot_changes_nothing(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"))
        grant = await run.start("a")
        await bench.store.release(grant.address, grant.token)

        assert not (await run.finish(grant)).recorded

    async def test_a_step_that_takes_its_worker_down_too_often_fails_the_run(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a", lost_most=3, on_failure=OnFailure.SKIP))

        for _ in range(3):
            assert await run.status() is not RunStatus.FAILED
            await run.start("a")
            await bench.wait(LEASE)

        snapshot = await run.snapshot()
        assert (snapshot.status, snapshot.error) == (RunStatus.FAILED, POISON_ERROR)
        assert (await run.step("a")).lost == 3

    async def test_a_step_that_may_not_be_lost_fails_with_its_first_lease(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a", lost_most=0))
        await run.start("a")

        await bench.wait(LEASE)

        assert await run.status() is RunStatus.FAILED

    async def test_losses_before_a_retry_are_forgiven(self, bench: StoreBench) -> None:
        run = await bench.create(step("a", lost_most=2))
        await run.start("a")
        await bench.wait(LEASE)
        await run.run("a", Retry(b"error", delay_seconds=1.0))
        await bench.wait(1.0)

        grant = await run.start("a")
        await bench.wait(LEASE)

        assert (grant.lost, grant.attempt) == (0, 1)
        assert await run.status() is RunStatus.RUNNING

    async def test_after_an_outage_no_lease_expires_for_one_more_lease(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"))
        grant = await run.start("a")
        await bench.due()

        bench.clock.advance(10 * LEASE)
        assert await bench.due() == ()
        assert await bench.wait(LEASE / 2) == []
        assert await bench.store.renew([Held(grant.address, grant.token)]) == {}
        assert await bench.wait(LEASE / 2) == []

        assert (await run.finish(grant)).recorded

    async def test_after_an_outage_the_leases_of_the_dead_expire_one_lease_later(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"))
        await run.start("a")
        await bench.due()
        bench.clock.advance(10 * LEASE)

        assert kicked(await bench.wait(LEASE)) == [run.at("a")]

    async def test_an_ended_run_is_not_due(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b"), step("c"))
        await run.start("a")
        await run.run("b", Retry(b"error", delay_seconds=2.0))
        await bench.store.cancel(run.run_id, "stop")

        assert await bench.wait(10 * LEASE) == []

    async def test_a_wide_graph_ends_in_whatever_order_its_steps_do(
        self, bench: StoreBench
    ) -> None:
        for stride in (1, 3, 7):
            names = [f"s{i}" for i in range(15)]
            needs = [{names[i // 2], names[i // 3]} if i else set[str]() for i in range(15)]
            drafts = [
                step(name, *sorted(need - {name})) for name, need in zip(names, needs, strict=True)
            ]
            run = await bench.create(*drafts)
            todo = list(run.ready)

            while todo:
                entry = todo.pop(stride % len(todo))
                grant = await bench.store.start(entry.address, new_token())
                assert isinstance(grant, Grant)
                todo += (await run.finish(grant)).ready

            assert await run.status() is RunStatus.COMPLETED
            assert (await run.happened()).count(EventType.STEP_COMPLETED) == 15
