"""What every run store promises of maps over items."""

from __future__ import annotations

import asyncio

from taskiq_flow.events import EventType
from taskiq_flow.model.records import (
    Address,
    Failed,
    Grant,
    ItemDone,
    ItemRetry,
    Items,
    Join,
    LostReason,
    OnFailure,
    Refusal,
    RefusalReason,
    RunStatus,
    SequenceValue,
    StepKind,
    StepStatus,
)
from taskiq_flow.stores.base import CHUNK, Held
from taskiq_flow.testing.store_bench import (
    LEASE,
    BenchRun,
    StoreBench,
    items_done,
    kicked,
    marked,
    new_token,
    step,
)

FIVE = marked([b"0", b"1", b"2", b"3", b"4"])


async def _map(bench: StoreBench, count: int = 5, slots: int = 2, **facts: object) -> BenchRun:
    return await bench.create(
        step("m", kind=StepKind.MAP, slots=slots, **facts),
        step("r", "m"),
        items={"m": marked(str(i).encode() for i in range(count))},
    )


class MapContract:
    """A map runs once for every item, over as many slots as it has, in the items' order."""

    async def test_a_map_has_as_many_slots_as_items_at_the_most(self, bench: StoreBench) -> None:
        wide = await _map(bench, count=2, slots=10)
        narrow = await _map(bench, count=10, slots=2)

        assert [entry.address.slot for entry in wide.ready] == [0, 1]
        assert [entry.address.slot for entry in narrow.ready] == [0, 1]

    async def test_a_slot_is_granted_items_and_goes_on_with_the_next(
        self, bench: StoreBench
    ) -> None:
        run = await _map(bench, slots=1)

        grant = await run.start("m", want=2)
        finished = await run.finish(grant, items_done(grant, want=2), "next")

        assert [(item.number, item.value, item.attempt) for item in grant.items] == [
            (0, b"=0", 0),
            (1, b"=1", 0),
        ]
        assert grant.length == 5
        assert finished.grant is not None
        assert finished.grant.address == grant.address
        assert [item.number for item in finished.grant.items] == [2, 3]

    async def test_slots_share_what_is_left_so_that_they_end_together(
        self, bench: StoreBench
    ) -> None:
        run = await _map(bench, count=8, slots=2)

        first = await run.start("m", 0, want=100)
        second = await run.start("m", 1, want=100)

        assert [len(first.items), len(second.items)] == [4, 2]

    async def test_two_slots_never_get_one_item(self, bench: StoreBench) -> None:
        run = await _map(bench, count=60, slots=12)

        async def work(slot: int) -> list[int]:
            answer = await run.try_start("m", slot, want=2)
            seen: list[int] = []
            grant = answer if isinstance(answer, Grant) else None
            while grant is not None:
                seen += [item.number for item in grant.items]
                finished = await run.finish(grant, items_done(grant, want=2), new_token())
                grant = finished.grant
                if grant is not None and grant.address.step != run.index["m"]:
                    await bench.store.release(grant.address, grant.token)
                    grant = None
            return seen

        seen = await asyncio.gather(*(work(slot) for slot in range(12)))

        assert sorted(number for numbers in seen for number in numbers) == list(range(60))
        assert (await run.step("m")).status is StepStatus.COMPLETED

    async def test_the_last_item_completes_the_map_and_its_results_keep_their_order(
        self, bench: StoreBench
    ) -> None:
        run = await _map(bench, count=2)
        first, second = await run.start("m", 0), await run.start("m", 1)

        await run.finish(second, Items((ItemDone(1, b"=one"),)))
        last = await run.finish(first, Items((ItemDone(0, b"-"),)))

        assert run.names(last.ready) == ["r"]
        assert await bench.store.items(run.run_id, 0, 0, 3) == [b"-", b"=one", None]
        assert (await run.start("r")).values == (SequenceValue(0, 2),)
        assert (await run.step("m")).items_done == 2

    async def test_a_map_over_nothing_is_complete_at_once(self, bench: StoreBench) -> None:
        run = await _map(bench, count=0)

        assert run.names(run.ready) == ["r"]
        assert (await run.start("r")).values == (SequenceValue(0, 0),)
        assert (await run.step("m")).length == 0

    async def test_the_progress_of_a_map_is_counted(self, bench: StoreBench) -> None:
        run = await _map(bench, slots=1)
        grant = await run.start("m", want=2)

        await run.finish(grant, items_done(grant, errors=1))

        found = await run.step("m")
        assert (found.length, found.items_done, found.items_failed) == (5, 2, 1)
        assert (await run.snapshot()).failures == 1

    async def test_a_map_over_a_map_takes_its_results(self, bench: StoreBench) -> None:
        run = await bench.create(
            step("m", kind=StepKind.MAP, slots=1),
            step("n", "m", kind=StepKind.MAP, slots=1),
            items={"m": marked([b"0", b"1"])},
        )
        first = await run.start("m", want=2)
        await run.finish(first, Items((ItemDone(0, b"=\x00"), ItemDone(1, b"-"))))

        grant = await run.start("n", want=2)

        assert [item.value for item in grant.items] == [b"=\x00", b"-"]
        assert grant.length == 2

    async def test_an_item_retries_when_it_is_due_and_the_slot_goes_on_before(
        self, bench: StoreBench
    ) -> None:
        run = await _map(bench, count=2, slots=1)
        first = await run.start("m")

        retry = Items((), retries=(ItemRetry(0, b"error", 3.0),))
        second = (await run.finish(first, retry, "second")).grant
        assert second is not None
        assert [item.number for item in second.items] == [1]
        sleeping = await run.finish(second, items_done(second), "third")
        assert (sleeping.grant, sleeping.retry_at) == (None, bench.clock() + 3.0)
        assert kicked(await bench.wait(3.0)) == [run.at("m")]
        third = await run.start("m")

        assert [(item.number, item.attempt) for item in third.items] == [(0, 1)]
        assert (await run.step("m")).error == b"error"
        assert run.names((await run.finish(third, items_done(third))).ready) == ["r"]

    async def test_a_slot_with_nothing_left_rests_until_a_retry_is_due(
        self, bench: StoreBench
    ) -> None:
        run = await _map(bench, count=2, slots=2)
        due = bench.clock() + 3.0
        await run.finish(await run.start("m"), Items((), (ItemRetry(0, b"error", 3.0),)), "next")

        answer = await run.try_start("m", 1)
        bench.clock.advance(3.0)
        retried = await run.start("m", 1)

        assert answer == Refusal(RefusalReason.WAITING, retry_at=due)
        assert [item.number for item in retried.items] == [0]

    async def test_a_slot_with_nothing_left_at_all_is_done(self, bench: StoreBench) -> None:
        run = await _map(bench, count=2, slots=2)
        first = await run.start("m")
        await run.finish(first, items_done(first), "next")

        assert await run.refused("m", 1) is RefusalReason.DONE

    async def test_the_items_of_a_lost_slot_go_to_who_takes_it(self, bench: StoreBench) -> None:
        run = await _map(bench, slots=1)
        lost = await run.start("m", want=2)

        await bench.wait(LEASE)
        again = await run.start("m")

        assert again.items == lost.items
        assert again.lost == 1
        assert not (await run.finish(lost, items_done(lost))).recorded

    async def test_items_that_were_not_reported_are_granted_again(self, bench: StoreBench) -> None:
        run = await _map(bench, slots=1)
        grant = await run.start("m", want=3)

        finished = await run.finish(grant, Items((ItemDone(1, b"=1"),)), "next")

        assert finished.grant is not None
        assert [item.number for item in finished.grant.items] == [0, 2]

    async def test_a_failed_item_fails_the_map(self, bench: StoreBench) -> None:
        run = await _map(bench, slots=1)
        grant = await run.start("m", want=2)

        finished = await run.finish(grant, Items((ItemDone(0, b"=0"),), (), Failed(b"error")))

        assert finished.ended is RunStatus.FAILED
        found = await run.step("m")
        assert (found.error, found.items_done, found.items_failed) == (b"error", 1, 1)

    async def test_a_slot_of_a_map_that_has_failed_is_told_and_its_items_are_dropped(
        self, bench: StoreBench
    ) -> None:
        run = await _map(bench)
        going, failing = await run.start("m", 0), await run.start("m", 1)
        failed = await run.finish(failing, Items((), (), Failed(b"error", OnFailure.PASS)))

        lost = await bench.store.renew([Held(going.address, going.token)])
        dropped = await run.finish(going, items_done(going), "next")

        assert run.names(failed.ready) == ["r"]
        assert lost == {going.token: LostReason.ENDED}
        assert dropped.grant is None
        assert (await run.step("m")).status is StepStatus.FAILED
        assert await bench.store.items(run.run_id, 0, 0, 1) == [None]
        assert await run.refused("m", 0) is RefusalReason.DONE
        ended = await run.run("r")
        assert ended.ended is RunStatus.COMPLETED
        assert (await run.happened("m")).count(EventType.STEP_FAILED) == 1

    async def test_what_a_failed_map_has_done_is_not_its_output(self, bench: StoreBench) -> None:
        for then, join in ((OnFailure.PASS, Join.ALL), (OnFailure.SKIP, Join.ANY)):
            run = await bench.create(
                step("m", kind=StepKind.MAP, slots=1),
                step("a"),
                step("n", "m", "a", kind=StepKind.MAP, join=join),
                items={"m": FIVE},
            )
            await run.run("a")
            grant = await run.start("m", want=2)
            await run.finish(grant, Items((ItemDone(0, b"=0"),), (), Failed(b"error", then)))

            split = await run.start("n")

            assert (split.expand, split.items, split.length) == (True, (), None)
            assert split.values == (b"null", b'"done"')

    async def test_a_repetition_does_not_grant_into_a_map_that_has_failed(
        self, bench: StoreBench
    ) -> None:
        run = await _map(bench)
        going, failing = await run.start("m", 0), await run.start("m", 1)
        outcome = items_done(going)
        granted = await run.finish(going, outcome, "next")
        await run.finish(failing, Items((), (), Failed(b"error", OnFailure.PASS)))

        again = await run.finish(going, outcome, "next")

        assert granted.grant is not None
        assert (again.recorded, again.grant) == (True, None)

    async def test_a_released_slot_of_a_map_that_has_failed_is_not_sent_again(
        self, bench: StoreBench
    ) -> None:
        run = await _map(bench)
        going, failing = await run.start("m", 0), await run.start("m", 1)
        await run.finish(failing, Items((), (), Failed(b"error", OnFailure.PASS)))

        assert await bench.store.release(going.address, going.token) == ()
        assert await run.refused("m", 0) is RefusalReason.DONE

    async def test_a_dead_slot_of_a_map_that_has_failed_makes_room(self, bench: StoreBench) -> None:
        run = await bench.create(
            step("m", kind=StepKind.MAP, slots=2),
            step("r", "m"),
            step("s"),
            items={"m": FIVE},
            max_parallel=2,
        )
        await run.start("m", 0)
        failing = await run.start("m", 1)
        assert await run.refused("s") is RefusalReason.LIMITED
        await run.finish(failing, Items((), (), Failed(b"error", OnFailure.PASS)))
        going = await run.start("r")
        woken: list[Address] = []

        for _ in range(2):
            await bench.store.renew([Held(going.address, going.token)])
            woken += kicked(await bench.wait(LEASE / 2))

        assert woken == [run.at("s")]

    async def test_a_map_of_several_chunks_is_stored_and_read_whole(
        self, bench: StoreBench
    ) -> None:
        count = 2 * CHUNK + 7
        run = await _map(bench, count=count, slots=1)
        grant = await run.start("m", want=count)

        finished = await run.finish(grant, items_done(grant))

        assert len(grant.items) == count
        assert run.names(finished.ready) == ["r"]
        stored = await bench.store.items(run.run_id, 0, 0, count)
        assert stored == marked(str(i).encode() for i in range(count))
