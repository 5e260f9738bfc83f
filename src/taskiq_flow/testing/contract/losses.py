"""What every run store promises when workers die and messages are lost."""

from __future__ import annotations

import asyncio

from taskiq_flow.events import EventType
from taskiq_flow.model.records import (
    Done,
    Failed,
    Grant,
    LostReason,
    OnFailure,
    Retry,
    RunStatus,
)
from taskiq_flow.model.transitions import POISON_ERROR
from taskiq_flow.stores.base import Held
from taskiq_flow.testing.store_bench import (
    KICK,
    LEASE,
    StoreBench,
    kicked,
    new_token,
    step,
)


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
