"""What every run store promises of claims: grants, renewals and releases."""

from __future__ import annotations

import asyncio

from taskiq_flow.events import EventType
from taskiq_flow.exceptions import BacklogFullError, DuplicatePipelineError
from taskiq_flow.model.records import (
    Address,
    Failed,
    Grant,
    Limit,
    LostReason,
    Refusal,
    RefusalReason,
    RunStatus,
    StepKind,
    StepStatus,
)
from taskiq_flow.stores.base import Held
from taskiq_flow.testing.store_bench import (
    LEASE,
    StoreBench,
    error_of,
    kicked,
    step,
)

MINE, OTHER, FOREIGN = "mine", "other", "foreign"


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

    async def test_a_run_may_be_started_with_its_creation(self, bench: StoreBench) -> None:
        run = bench.draft(
            step("a", sources=(-1,)),
            step("b", "a"),
            inputs={-1: b"\x00\xff"},
            timeout_seconds=60.0,
            key="name",
        )

        grant = await bench.store.create_started(run.new, MINE)

        assert isinstance(grant, Grant)
        assert (grant.address, grant.token) == (run.at("a"), MINE)
        assert (grant.blob, grant.values) == (run.new.steps[0].blob, (b"\x00\xff",))
        assert (grant.attempt, grant.lost, grant.items, grant.expand) == (0, 0, (), False)
        assert grant.granted_at == grant.ready_at == grant.run_started_at == bench.clock()
        assert (grant.deadline, grant.run_name) == (bench.clock() + 60.0, "name")
        assert await run.happened() == [
            EventType.RUN_CREATED,
            EventType.RUN_STARTED,
            EventType.STEP_STARTED,
        ]
        shown = await run.snapshot()
        assert (shown.status, shown.started_at) == (RunStatus.RUNNING, bench.clock())
        assert (await run.step("a")).status is StepStatus.RUNNING
        assert await run.refused("a") is RefusalReason.RUNNING
        assert run.names((await run.finish(grant)).ready) == ["b"]
        await run.run("b")
        assert await run.status() is RunStatus.COMPLETED

    async def test_a_creation_that_starts_answers_again_the_same(self, bench: StoreBench) -> None:
        run = bench.draft(step("a", sources=(-1,)), inputs={-1: b"1"})
        first = await bench.store.create_started(run.new, MINE)
        bench.clock.advance(1.0)

        assert isinstance(first, Grant)
        assert await bench.store.create_started(run.new, MINE) == first
        assert await bench.store.create_started(run.new, OTHER) == ()
        await run.finish(first)
        assert await bench.store.create_started(run.new, MINE) == ()

    async def test_a_run_that_was_started_with_its_creation_is_kept_by_renewing_it(
        self, bench: StoreBench
    ) -> None:
        kept, left = (bench.draft(step("a")) for _ in range(2))
        for run in (kept, left):
            assert isinstance(await bench.store.create_started(run.new, MINE), Grant)
        bench.clock.advance(LEASE * 0.75)
        assert await bench.store.renew([Held(kept.at("a"), MINE)]) == {}
        bench.clock.advance(LEASE * 0.75)

        assert kicked(await bench.due()) == [left.at("a")]
        again = await left.start("a", token=OTHER)
        assert again.lost == 1

    async def test_a_run_that_was_started_with_its_creation_may_be_given_back(
        self, bench: StoreBench
    ) -> None:
        run = bench.draft(step("a"))
        grant = await bench.store.create_started(run.new, MINE)
        assert isinstance(grant, Grant)

        ready = await bench.store.release(grant.address, grant.token)

        assert run.names(ready) == ["a"]
        assert (await run.start("a", token=OTHER)).lost == 0

    async def test_what_may_have_to_wait_is_not_started_with_its_run(
        self, bench: StoreBench
    ) -> None:
        limited = bench.draft(step("a", limits=(Limit("limit", 1),)))
        two = bench.draft(step("a"), step("b"))
        timer = bench.draft(step("a", kind=StepKind.TIMER, delay_seconds=1.0), step("b", "a"))

        answers = [await bench.store.create_started(run.new, MINE) for run in (limited, two, timer)]

        named = [
            run.names(answer)
            for run, answer in zip((limited, two, timer), answers, strict=True)
            if not isinstance(answer, Grant)
        ]
        assert named == [["a"], ["a", "b"], []]
        assert {await run.status() for run in (limited, two, timer)} == {RunStatus.PENDING}

    async def test_a_run_that_may_not_be_created_is_not_started(self, bench: StoreBench) -> None:
        await bench.create(step("a"), key="name")
        run = bench.draft(step("a"), key="name")

        await error_of(DuplicatePipelineError, bench.store.create_started(run.new, MINE))

        assert await bench.store.get(run.run_id) is None

    async def test_a_run_that_was_started_with_its_creation_is_not_in_the_backlog(
        self, bench: StoreBench
    ) -> None:
        full = ("backlog", 1)
        first, second, third = (bench.draft(step("a"), backlog=full) for _ in range(3))

        assert isinstance(await bench.store.create_started(first.new, MINE), Grant)
        await second.store.create(second.new)

        await error_of(BacklogFullError, bench.store.create_started(third.new, MINE))

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
