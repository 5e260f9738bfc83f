"""What every run store promises of maps, sequences, limits, timers, events and waiting."""

from __future__ import annotations

import asyncio

from taskiq_flow.model.records import (
    Address,
    Done,
    DoneSequence,
    EventType,
    Expanded,
    Failed,
    Grant,
    ItemDone,
    ItemMark,
    ItemRetry,
    Items,
    Limit,
    LostReason,
    OnFailure,
    Parked,
    Refusal,
    RefusalReason,
    Retry,
    RunStatus,
    SequenceValue,
    StepKind,
    StepStatus,
    bound_items_key,
)
from taskiq_flow.model.transitions import EVENT_TIMEOUT_ERROR
from taskiq_flow.stores.base import CHUNK, Held
from taskiq_flow.testing.store_bench import (
    DONE,
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


class SequenceContract:
    """Values that are stored item by item, under the lease of who makes them."""

    async def test_a_step_may_put_out_a_sequence(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("m", "a", kind=StepKind.MAP, slots=2))
        grant = await run.start("a")
        held = Held(grant.address, grant.token)

        assert await bench.store.put_items(held, 0, 0, FIVE[:2])
        assert await bench.store.put_items(held, 0, 2, FIVE[2:])
        finished = await run.finish(grant, DoneSequence(5))

        assert run.names(finished.ready) == ["m", "m"]
        assert await bench.store.values(run.run_id, [0]) == {0: SequenceValue(0, 5)}
        assert [item.value for item in (await run.start("m", want=2)).items] == FIVE[:2]

    async def test_a_map_over_a_plain_list_is_split_by_its_first_worker(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(
            step("a"), step("m", "a", kind=StepKind.MAP, slots=2), step("r", "m")
        )
        first = await run.run("a", Done(b"[1,2]"))
        grant = await run.start("m")

        await bench.store.put_items(
            Held(grant.address, grant.token), bound_items_key(1), 0, marked([b"1", b"2"])
        )
        finished = await run.finish(grant, Expanded(2), "next")

        assert [entry.address.slot for entry in first.ready] == [0]
        assert (grant.expand, grant.values, grant.items) == (True, (b"[1,2]",), ())
        assert finished.grant is not None
        assert [item.value for item in finished.grant.items] == [b"=1"]
        assert not finished.grant.expand
        assert [entry.address for entry in finished.ready] == [run.at("m", 1)]

    async def test_a_lost_expansion_is_done_again(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("m", "a", kind=StepKind.MAP, slots=2))
        await run.run("a")
        first = await run.start("m")
        held = Held(first.address, first.token)
        await bench.store.put_items(held, bound_items_key(1), 0, marked([b"old", b"old"]))
        await bench.wait(LEASE)

        second = await run.start("m")
        assert second.expand
        assert not await bench.store.put_items(held, bound_items_key(1), 0, FIVE)
        again = Held(second.address, second.token)
        await bench.store.put_items(again, bound_items_key(1), 0, marked([b"new"]))
        finished = await run.finish(second, Expanded(1), "next")

        assert finished.grant is not None
        assert [item.value for item in finished.grant.items] == [b"=new"]

    async def test_a_plain_list_without_items_completes_the_map(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("m", "a", kind=StepKind.MAP), step("r", "m"))
        await run.run("a")

        finished = await run.run("m", Expanded(0))

        assert run.names(finished.ready) == ["r"]

    async def test_an_expansion_may_fail_and_retry(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("m", "a", kind=StepKind.MAP))
        await run.run("a")

        await run.run("m", Retry(b"error", 1.0))
        await bench.wait(1.0)

        again = await run.start("m")
        assert (again.expand, again.attempt) == (True, 1)

    async def test_items_of_a_foreign_or_ended_holder_are_not_taken(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"))
        grant = await run.start("a")
        store = bench.store

        assert not await store.put_items(Held(grant.address, "foreign"), 0, 0, FIVE)
        assert not await store.put_items(Held(Address("no-such-run", 0, 0), "t"), 0, 0, FIVE)
        await run.finish(grant)
        assert not await store.put_items(Held(grant.address, grant.token), 0, 0, FIVE)
        assert await store.items(run.run_id, 0, 0, 5) == [None] * 5

    async def test_a_sequence_taken_over_brings_its_items(self, bench: StoreBench) -> None:
        run = await bench.create(
            step("a"),
            step("m", "a", kind=StepKind.MAP, slots=1),
            done={0: SequenceValue(0, 2)},
            items={"a": FIVE[:2]},
            lengths={},
        )

        assert run.names(run.ready) == ["m"]
        assert [item.value for item in (await run.start("m", want=2)).items] == FIVE[:2]
        assert await bench.store.values(run.run_id, [0]) == {0: SequenceValue(0, 2)}

    async def test_items_are_kept_byte_for_byte(self, bench: StoreBench) -> None:
        odd = [b"", b"\x00", b"\xff\xfe", b"=" * 70_000, bytes(range(256)), b"\r\n", b"null"]
        run = await bench.create(step("m", kind=StepKind.MAP, slots=1), items={"m": marked(odd)})

        grant = await run.start("m", want=len(odd))
        await run.finish(grant, items_done(grant))

        assert [item.value for item in grant.items] == marked(odd)
        assert await bench.store.items(run.run_id, 0, 0, len(odd)) == marked(odd)

    async def test_a_failed_item_may_leave_its_error(self, bench: StoreBench) -> None:
        run = await bench.create(step("m", kind=StepKind.MAP), items={"m": FIVE[:1]})
        await bench.store.start(run.at("m"), "t")
        error = ItemMark.FAILED + b"\x00error"

        outcome = Items((ItemDone(0, error),), errors=1)
        await bench.store.finish(run.at("m"), "t", outcome, None)

        assert await bench.store.items(run.run_id, 0, 0, 1) == [error]


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

    async def test_a_limit_is_kept_by_renewing(self, bench: StoreBench) -> None:
        limit = Limit("api", most=1)
        first, second = [await bench.create(step("a", limits=(limit,))) for _ in range(2)]
        grant = await first.start("a")

        for _ in range(4):
            await bench.store.renew([Held(grant.address, grant.token)])
            await bench.wait(LEASE / 2)
            assert await second.refused("a") in (RefusalReason.LIMITED, RefusalReason.WAITING)

    async def test_a_released_slot_gives_its_limit_to_who_waits(self, bench: StoreBench) -> None:
        limit = Limit("api", most=1)
        first, second = [await bench.create(step("a", limits=(limit,))) for _ in range(2)]
        grant = await first.start("a")
        await second.refused("a")

        ready = await bench.store.release(grant.address, grant.token, delay_seconds=60.0)

        assert [entry.address for entry in ready] == [second.at("a")]

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


class WaitingContract:
    """Steps that wait without a worker: timers, events, and whoever parks itself."""

    async def test_a_timer_completes_by_itself(self, bench: StoreBench) -> None:
        run = await bench.create(step("t", kind=StepKind.TIMER, delay_seconds=5.0), step("a", "t"))

        assert run.ready == ()
        assert await run.refused("t") is RefusalReason.WAITING
        assert kicked(await bench.wait(4.5)) == []
        assert kicked(await bench.wait(0.5)) == [run.at("a")]
        assert (await run.step("t")).status is StepStatus.COMPLETED

    async def test_nobody_can_start_a_timer_even_when_it_is_due(self, bench: StoreBench) -> None:
        run = await bench.create(step("t", kind=StepKind.TIMER, delay_seconds=5.0))
        bench.clock.advance(6.0)

        assert await run.refused("t") is RefusalReason.WAITING

    async def test_a_timer_after_a_step_begins_when_that_ends(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("t", "a", kind=StepKind.TIMER, delay_seconds=5.0))
        bench.clock.advance(3.0)
        await run.run("a")

        await bench.wait(4.5)
        assert await run.status() is RunStatus.RUNNING
        await bench.wait(0.5)
        assert await run.status() is RunStatus.COMPLETED

    async def test_an_event_completes_the_step_that_waits_for_it(self, bench: StoreBench) -> None:
        run = await bench.create(step("e", kind=StepKind.EVENT, event="paid"), step("a", "e"))

        assert await bench.store.send_event(run.run_id, "other", b"1") == ()
        ready = await bench.store.send_event(run.run_id, "paid", b"\x00payload")

        assert ready is not None
        assert run.names(ready) == ["a"]
        assert (await run.start("a")).values == (b"\x00payload",)

    async def test_an_event_that_comes_early_is_kept_and_the_last_one_counts(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(
            step("a"), step("e", "a", kind=StepKind.EVENT, event="paid"), step("b", "e")
        )

        assert await bench.store.send_event(run.run_id, "paid", b"first") == ()
        assert await bench.store.send_event(run.run_id, "paid", b"second") == ()
        finished = await run.run("a")

        assert run.names(finished.ready) == ["b"]
        assert (await run.start("b")).values == (b"second",)

    async def test_an_event_reaches_every_step_that_waits_for_it(self, bench: StoreBench) -> None:
        run = await bench.create(
            step("e", kind=StepKind.EVENT, event="go"), step("f", kind=StepKind.EVENT, event="go")
        )

        await bench.store.send_event(run.run_id, "go", b"1")

        assert await run.status() is RunStatus.COMPLETED

    async def test_an_event_that_does_not_come_fails_its_step(self, bench: StoreBench) -> None:
        run = await bench.create(
            step(
                "e", kind=StepKind.EVENT, event="paid", delay_seconds=5.0, on_failure=OnFailure.PASS
            ),
            step("a", "e"),
        )

        assert kicked(await bench.wait(5.0)) == [run.at("a")]

        assert (await run.step("e")).error == EVENT_TIMEOUT_ERROR
        assert await bench.store.send_event(run.run_id, "paid", b"late") == ()
        assert (await run.start("a")).values == (b"null",)

    async def test_an_event_for_an_ended_or_unknown_run_is_refused(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        await run.run("a")

        assert await bench.store.send_event(run.run_id, "paid", b"1") is None
        assert await bench.store.send_event("no-such-run", "paid", b"1") is None

    async def test_a_parked_slot_waits_without_a_lease_and_resumes_with_a_note(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"))
        await run.run("a", Parked())

        assert await bench.wait(10 * LEASE) == []
        assert await run.refused("a") is RefusalReason.WAITING
        ready = await bench.store.resume(run.at("a"), "child ended")

        assert run.names(ready) == ["a"]
        grant = await run.start("a")
        assert (grant.note, grant.attempt, grant.lost) == ("child ended", 0, 0)
        assert EventType.STEP_PARKED in await run.happened("a")

    async def test_the_note_is_there_again_after_a_lost_lease(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        await run.run("a", Parked())
        await bench.store.resume(run.at("a"), "note")
        await run.start("a")

        await bench.wait(LEASE)

        assert (await run.start("a")).note == "note"

    async def test_resuming_what_is_not_parked_changes_nothing(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))

        assert await bench.store.resume(run.at("a"), "note") == ()
        assert await bench.store.resume(Address("no-such-run", 0, 0), "note") == ()
        await run.run("a", Parked())
        answers = await asyncio.gather(*(bench.store.resume(run.at("a"), "note") for _ in range(5)))
        assert sum(len(answer) for answer in answers) == 1

    async def test_a_parked_slot_that_nobody_resumes_fails_in_time(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        await run.run("a", Parked(timeout_seconds=20.0))

        await bench.wait(19.0)
        assert await run.status() is RunStatus.RUNNING
        await bench.wait(1.0)

        assert (await run.snapshot()).error == EVENT_TIMEOUT_ERROR

    async def test_a_parked_slot_leaves_its_room_to_others(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b"), max_parallel=1)
        grant = await run.start("a")
        await run.refused("b")

        finished = await run.finish(grant, Parked())

        assert run.names(finished.ready) == ["b"]
