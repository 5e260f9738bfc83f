"""What every run store promises of values that are stored item by item."""

from __future__ import annotations

from taskiq_flow.model.records import (
    Address,
    Done,
    DoneSequence,
    Expanded,
    ItemDone,
    ItemMark,
    Items,
    Retry,
    SequenceValue,
    StepKind,
    bound_items_key,
)
from taskiq_flow.stores.base import Held
from taskiq_flow.testing.store_bench import (
    LEASE,
    StoreBench,
    items_done,
    marked,
    step,
)

FIVE = marked([b"0", b"1", b"2", b"3", b"4"])


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

    async def test_an_outcome_without_its_items_is_refused(self, bench: StoreBench) -> None:
        """A server that took over from one that failed may have forgotten them."""
        run = await bench.create(step("a"), step("m", "a", kind=StepKind.MAP, slots=2))
        grant = await run.start("a")
        held = Held(grant.address, grant.token)
        await bench.store.put_items(held, 0, 0, FIVE[:4])

        assert not (await run.finish(grant, DoneSequence(5))).recorded
        await bench.store.put_items(held, 0, 4, FIVE[4:])
        assert (await run.finish(grant, DoneSequence(5))).recorded

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
