"""What every run store promises of claims: grants, renewals and releases."""

from __future__ import annotations

import asyncio

from taskiq_flow.events import EventType
from taskiq_flow.model.records import (
    Address,
    Failed,
    Grant,
    LostReason,
    Refusal,
    RefusalReason,
    RunStatus,
    StepStatus,
)
from taskiq_flow.stores.base import Held
from taskiq_flow.testing.store_bench import (
    LEASE,
    StoreBench,
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
