"""What every run store promises of stored values."""

from __future__ import annotations

from taskiq_flow.exceptions import RunNotFoundError
from taskiq_flow.model.records import (
    Done,
    RunFilter,
    RunStatus,
    StepKind,
)
from taskiq_flow.testing.store_bench import (
    StoreBench,
    error_of,
    marked,
    step,
)

ODD_BYTES = [b"", b"\x00", b"\xff\xfe\x00", b'[]{}"\\', "ä€𝄞".encode(), b"9007199254740993"]


class ValueContract:
    """Values are opaque: what goes in comes out, byte for byte, and only when asked for."""

    async def test_inputs_outputs_plan_and_meta_are_kept_byte_for_byte(
        self, bench: StoreBench
    ) -> None:
        for odd in [*ODD_BYTES, bytes(range(256)) * 400]:
            run = await bench.create(step("a", blob=odd), inputs={-1: odd}, plan=odd, meta=odd)
            grant = await run.start("a")
            await run.finish(grant, Done(odd))

            assert grant.blob == odd
            assert await bench.store.values(run.run_id, [0, -1]) == {0: odd, -1: odd}
            assert await bench.store.plan(run.run_id) == odd
            assert (await run.snapshot()).meta == odd

    async def test_names_and_notes_may_be_any_text(self, bench: StoreBench) -> None:
        for odd in ["*?[a]", "a|b:c", "ä€𝄞 'quoted' \"twice\"", "%s_%", "\\"]:
            run = await bench.create(
                step(odd, task=odd),
                run_id=f"r {odd}",
                name=odd,
                key=odd,
                tags=(odd,),
                kind=odd,
            )
            await run.start(odd, token=odd)
            await bench.store.cancel(run.run_id, odd)

            snapshot = await run.snapshot()
            assert (snapshot.name, snapshot.key, snapshot.tags) == (odd, odd, (odd,))
            assert (snapshot.kind, snapshot.reason, snapshot.steps[0].name) == (odd, odd, odd)
            assert await bench.store.find(odd) == run.run_id
            page = await bench.store.list_runs(RunFilter(tag=odd, name=odd, kind=odd))
            assert [found.run_id for found in page.runs] == [run.run_id]

    async def test_keys_without_a_value_are_left_out(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b"), inputs={-1: b"1"})
        await run.run("a")

        found = await bench.store.values(run.run_id, [0, 1, -1, -2, 99])

        assert found == {0: b'"done"', -1: b"1"}
        assert await bench.store.values("no-such-run", [0]) == {}
        assert await bench.store.values(run.run_id, []) == {}

    async def test_items_are_read_by_range(self, bench: StoreBench) -> None:
        values = marked(str(i).encode() for i in range(10))
        run = await bench.create(step("m", kind=StepKind.MAP, slots=1), items={"m": values})
        grant = await run.start("m", want=10)
        await run.finish(grant, Done(b"1"))
        key = -1_000_000_000

        assert await bench.store.items(run.run_id, key, 3, 6) == values[3:6]
        assert await bench.store.items(run.run_id, key, 8, 12) == [*values[8:], None, None]
        assert await bench.store.items(run.run_id, key, 4, 4) == []
        assert await bench.store.items("no-such-run", key, 0, 2) == [None, None]

    async def test_an_ending_comes_with_the_values_asked_for(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b", "a"))

        assert await bench.store.ending(run.run_id, [1]) is None
        await run.run("a", Done(b"1"))
        await run.run("b", Done(b"2"))
        ending = await bench.store.ending(run.run_id, [1])

        assert ending is not None
        assert ending.snapshot.status is RunStatus.COMPLETED
        assert dict(ending.values) == {1: b"2"}
        await error_of(RunNotFoundError, bench.store.ending("no-such-run", []))
