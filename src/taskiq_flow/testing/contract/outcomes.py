"""What every run store promises of outcomes: each is recorded exactly once."""

from __future__ import annotations

import asyncio

from taskiq_flow.events import EventType
from taskiq_flow.model.records import (
    Aborted,
    Address,
    Done,
    RefusalReason,
    RunStatus,
    StepStatus,
    WakeKind,
)
from taskiq_flow.testing.store_bench import (
    LEASE,
    StoreBench,
    new_token,
    step,
)

MINE, OTHER, FOREIGN = "mine", "other", "foreign"


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
