"""What every run store promises of limits, of one run and over all runs."""

from __future__ import annotations

import asyncio

import pytest

from taskiq_flow.model.records import (
    Address,
    Failed,
    Finished,
    Grant,
    ItemRetry,
    Items,
    Limit,
    LostReason,
    OnFailure,
    Refusal,
    RefusalReason,
    Retry,
    StepKind,
    StepStatus,
)
from taskiq_flow.model.state import Holders
from taskiq_flow.stores.base import HOLDERS_NAMED, Held
from taskiq_flow.testing.store_bench import (
    DONE,
    LEASE,
    StoreBench,
    items_done,
    kicked,
    marked,
    new_token,
    step,
)

FIVE = marked([b"0", b"1", b"2", b"3", b"4"])


class LimitContract:
    """How many at once, and how many a second: of a run, and over all runs."""

    async def test_a_run_holds_no_more_slots_than_it_may(self, bench: StoreBench) -> None:
        run = await bench.create(*(step(name) for name in "abc"), max_parallel=1)
        grant = await run.start("a")

        assert await run.refused("b") is RefusalReason.LIMITED
        assert await run.refused("c") is RefusalReason.LIMITED
        assert await run.refused("c") is RefusalReason.WAITING
        assert run.names((await run.finish(grant)).ready) == ["b"]

    async def test_slots_behind_the_limit_go_in_order_whatever_makes_room(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(*(step(name) for name in "abcd"), max_parallel=1)
        first = await run.start("a")
        for name in "bcd":
            await run.refused(name)

        ready = await bench.store.release(first.address, first.token, delay_seconds=100.0)
        assert run.names(ready) == ["b"]
        await run.start("b")
        woken = kicked(await bench.wait(LEASE))
        assert woken == [run.at("b")]
        assert run.names((await run.run("b")).ready) == ["c"]
        assert run.names((await run.run("c", Retry(b"error", 50.0))).ready) == ["d"]

    async def test_slots_of_a_finished_map_do_not_block_what_waits_behind_them(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(
            step("m", kind=StepKind.MAP, slots=3),
            step("a"),
            items={"m": FIVE[:3]},
            max_parallel=1,
        )
        grant: Grant | None = await run.start("m", 0)
        for name, slot in (("m", 1), ("m", 2), ("a", 0)):
            await run.try_start(name, slot)
        ready: list[Address] = []
        while grant is not None:
            finished = await run.finish(grant, items_done(grant), new_token())
            ready += [entry.address for entry in finished.ready]
            grant = finished.grant
            if grant is not None and grant.address == run.at("a"):
                break

        assert grant is not None or run.at("a") in ready
        assert (await run.step("m")).status is StepStatus.COMPLETED

    async def test_a_slot_behind_the_limit_sleeps_if_only_a_later_retry_is_left(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(
            step("m", kind=StepKind.MAP, slots=2), items={"m": FIVE[:2]}, max_parallel=1
        )
        first = await run.start("m", 0)
        await run.refused("m", 1)
        retry = Items((), retries=(ItemRetry(0, b"error", 3.0),))
        second = (await run.finish(first, retry, "next")).grant
        assert second is not None
        await run.finish(second, items_done(second))

        assert kicked(await bench.wait(3.0)) == [run.at("m", 0), run.at("m", 1)]

    async def test_a_limit_holds_over_all_runs(self, bench: StoreBench) -> None:
        limit = Limit("api", most=2)
        runs = [await bench.create(step("a", limits=(limit,))) for _ in range(3)]
        grants = [await run.start("a") for run in runs[:2]]

        answer = await runs[2].try_start("a")
        finished = await runs[0].finish(grants[0])

        assert isinstance(answer, Refusal)
        assert (answer.reason, answer.retry_at) == (RefusalReason.LIMITED, bench.clock() + 1.0)
        assert [entry.address for entry in finished.ready] == [runs[2].at("a")]
        await runs[2].start("a")

    async def test_many_claimants_of_one_limit_get_as_many_as_it_has(
        self, bench: StoreBench
    ) -> None:
        limit = Limit("api", most=3)
        runs = [await bench.create(step("a", limits=(limit,))) for _ in range(12)]

        answers = await asyncio.gather(*(run.try_start("a") for run in runs))

        assert sum(isinstance(answer, Grant) for answer in answers) == 3

    async def test_a_limit_held_by_a_dead_worker_is_free_when_its_lease_ends(
        self, bench: StoreBench
    ) -> None:
        limit = Limit("api", most=1)
        dead, alive = [await bench.create(step("a", limits=(limit,))) for _ in range(2)]
        await dead.start("a")
        await alive.refused("a")

        await bench.wait(LEASE + 1.0)

        await alive.start("a")
        assert await dead.refused("a") is RefusalReason.LIMITED

    async def test_a_limit_is_kept_through_an_outage_of_the_store(self, bench: StoreBench) -> None:
        limit = Limit("api", most=1)
        first, second = [await bench.create(step("a", limits=(limit,))) for _ in range(2)]
        grant = await first.start("a")
        await bench.due()

        bench.clock.advance(3 * LEASE)

        assert await second.refused("a") is RefusalReason.LIMITED
        await bench.wait(LEASE / 2)
        assert await second.refused("a") in (RefusalReason.LIMITED, RefusalReason.WAITING)
        assert await bench.store.renew([Held(grant.address, grant.token)]) == {}
        await bench.wait(LEASE / 2)
        assert await second.refused("a") in (RefusalReason.LIMITED, RefusalReason.WAITING)

    async def test_a_limit_is_kept_by_renewing(self, bench: StoreBench) -> None:
        limit = Limit("api", most=1)
        first, second = [await bench.create(step("a", limits=(limit,))) for _ in range(2)]
        grant = await first.start("a")

        for _ in range(4):
            await bench.store.renew([Held(grant.address, grant.token)])
            await bench.wait(LEASE / 2)
            assert await second.refused("a") in (RefusalReason.LIMITED, RefusalReason.WAITING)

    async def test_a_place_is_free_when_its_holder_comes_back_after_the_end_of_its_run(
        self, bench: StoreBench
    ) -> None:
        limit = Limit("api", most=1)
        ended = [await bench.create(step("a", limits=(limit,)), step("b")) for _ in range(4)]
        others = [await bench.create(step("a", limits=(limit,))) for _ in range(5)]
        for number, run in enumerate(ended):
            grant = await run.start("a")
            await others[number].refused("a")
            if number % 2:
                await run.run("b", Failed(b"error", OnFailure.STOP))
            else:
                await bench.store.cancel(run.run_id, "enough")
            before = await run.snapshot(), await run.events()

            if number < 2:
                finished = await run.finish(grant)
                assert not finished.recorded
                ready = finished.ready
            else:
                ready = await bench.store.release(grant.address, grant.token)

            assert [entry.address for entry in ready] == [others[number].at("a")]
            assert (await run.snapshot(), await run.events()) == before
            held = await others[number].start("a")
            await others[4].refused("a")
            assert await run.finish(grant) == Finished(recorded=False)
            assert await bench.store.release(grant.address, grant.token) == ()
            assert await others[4].refused("a") in (RefusalReason.LIMITED, RefusalReason.WAITING)
            woken = (await others[number].finish(held)).ready
            assert [entry.address for entry in woken] == [others[4].at("a")]

    @pytest.mark.parametrize("how", ["cancelled", "failed", "step failed"])
    async def test_a_place_is_kept_by_renewing_after_the_end_until_it_is_given_back(
        self, bench: StoreBench, how: str
    ) -> None:
        limit = Limit("api", most=2)
        run = await bench.create(
            step("m", kind=StepKind.MAP, slots=2, limits=(limit,)),
            step("b"),
            items={"m": FIVE[:2]},
        )
        filler, other = [await bench.create(step("a", limits=(limit,))) for _ in range(2)]
        grant, second = await run.start("m", 0), await run.start("m", 1)
        if how == "cancelled":
            await bench.store.release(second.address, second.token, delay_seconds=60.0)
            await bench.store.cancel(run.run_id, "enough")
        else:
            then = OnFailure.STOP if how == "failed" else OnFailure.SKIP
            await run.finish(second, Items((), failed=Failed(b"error", then)))
        why = LostReason.CANCELLED if how == "cancelled" else LostReason.ENDED
        filling = await filler.start("a")
        await other.refused("a")

        for _ in range(4):
            held = [Held(grant.address, grant.token), Held(filling.address, filling.token)]
            assert await bench.store.renew(held) == {grant.token: why}
            await bench.wait(LEASE / 2)
            assert await other.refused("a") in (RefusalReason.LIMITED, RefusalReason.WAITING)
        bench.clock.advance(1.0)
        assert await other.refused("a") is RefusalReason.LIMITED
        ready = await bench.store.release(grant.address, grant.token)

        assert [entry.address for entry in ready] == [other.at("a")]
        await other.start("a")

    async def test_who_holds_a_limit_is_named_the_oldest_runs_first(
        self, bench: StoreBench
    ) -> None:
        mail, api = Limit("mail", most=12), Limit("api", most=1)
        runs = [
            await bench.create(step("a", limits=(mail,)), run_id=f"run-|{number:02}")
            for number in range(HOLDERS_NAMED + 1)
        ]
        many = await bench.create(
            step("m", kind=StepKind.MAP, slots=2, limits=(api,)),
            items={"m": FIVE},
            run_id="run-|many",
        )
        for run in reversed(runs):
            bench.clock.advance(0.25)
            await run.start("a")
        grant = await many.start("m", 1)

        async def holders() -> tuple[Holders, Holders, Holders]:
            asked = ("mail", "api", "never heard of")
            looked = await bench.store.open_slots(many.run_id, [0], limits=asked)
            assert [slot.slot for slot in looked.slots] == [0, 1]
            mail, api, unknown = (looked.holders[key] for key in asked)
            return mail, api, unknown

        first = tuple(run.at("a") for run in runs[:HOLDERS_NAMED])
        held = Holders(1, (many.at("m", 1),))
        assert await holders() == (Holders(HOLDERS_NAMED + 1, first), held, Holders(0, ()))

        await bench.store.release(grant.address, grant.token, delay_seconds=60.0)
        assert (await holders())[1] == Holders(0, ())

    async def test_a_released_slot_gives_its_limit_to_who_waits(self, bench: StoreBench) -> None:
        limit = Limit("api", most=1)
        first, second = [await bench.create(step("a", limits=(limit,))) for _ in range(2)]
        grant = await first.start("a")
        await second.refused("a")

        ready = await bench.store.release(grant.address, grant.token, delay_seconds=60.0)

        assert [entry.address for entry in ready] == [second.at("a")]

    async def test_of_those_that_wait_the_most_urgent_is_next(self, bench: StoreBench) -> None:
        wanted = {"low": -5, "early": 0, "late": 0, "high": 9}
        runs = {
            name: await bench.create(step("a", limits=(Limit("api", most=1, priority=priority),)))
            for name, priority in {"first": 0, **wanted}.items()
        }
        grant = await runs["first"].start("a")
        for name in wanted:
            await runs[name].refused("a")
        await runs["late"].refused("a")

        order: list[str] = []
        for _ in wanted:
            (ready,) = (await runs[order[-1] if order else "first"].finish(grant)).ready
            (name,) = (each for each, run in runs.items() if run.at("a") == ready.address)
            order.append(name)
            grant = await runs[name].start("a")

        assert order == ["high", "early", "late", "low"]

    async def test_who_waits_for_a_limit_looks_again_by_itself(self, bench: StoreBench) -> None:
        limit = Limit("api", most=1)
        first, second = [await bench.create(step("a", limits=(limit,))) for _ in range(2)]
        await first.start("a")
        await second.refused("a")

        assert second.at("a") in kicked(await bench.wait(1.0))

    async def test_a_rate_spaces_starts_evenly_after_its_burst(self, bench: StoreBench) -> None:
        limit = Limit("api", per_second=0.5, burst=2)
        runs = [await bench.create(step("a", limits=(limit,))) for _ in range(4)]

        await runs[0].start("a")
        await runs[1].start("a")
        third = await runs[2].try_start("a")

        assert third == Refusal(RefusalReason.LIMITED, retry_at=bench.clock() + 2.0)
        bench.clock.advance(2.0)
        await runs[2].start("a")
        assert await runs[3].refused("a") is RefusalReason.LIMITED

    async def test_of_several_limits_all_are_taken_or_none(self, bench: StoreBench) -> None:
        one, two = Limit("one", most=1), Limit("two", most=1)
        holder = await bench.create(step("a", limits=(two,)))
        both = await bench.create(step("a", limits=(one, two)))
        other = await bench.create(step("a", limits=(one,)))
        await holder.start("a")

        assert await both.refused("a") is RefusalReason.LIMITED
        await other.start("a")

    async def test_a_step_with_limits_is_not_continued_in_place(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b", "a", limits=(Limit("api", most=5),)))

        finished = await run.finish(await run.start("a"), DONE, "next")

        assert finished.grant is None
        assert run.names(finished.ready) == ["b"]
