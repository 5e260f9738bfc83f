"""What every run store promises of listing and removing runs."""

from __future__ import annotations

from typing import Any

import pytest

from taskiq_flow.exceptions import TrackingQueryError
from taskiq_flow.model.records import (
    Failed,
    RefusalReason,
    RunFilter,
    RunStatus,
    StepKind,
)
from taskiq_flow.stores.base import Page
from taskiq_flow.testing.store_bench import (
    BenchRun,
    StoreBench,
    marked,
    step,
)


class ListingContract:
    """Listings are by index, newest first, in pages."""

    async def _runs(self, bench: StoreBench) -> list[BenchRun]:
        runs: list[BenchRun] = []
        for number in range(12):
            runs.append(
                await bench.create(
                    step("a"),
                    name=f"name {number % 2}",
                    kind=f"kind {number % 3}",
                    tags=(f"tag {number % 4}", "all"),
                )
            )
            bench.clock.advance(1.0)
        await runs[0].run("a")
        await runs[1].run("a", Failed(b"error"))
        await bench.store.cancel(runs[2].run_id, "stop")
        await runs[3].start("a")
        return runs

    async def test_every_filter_narrows_a_listing(self, bench: StoreBench) -> None:
        runs = await self._runs(bench)
        begin = runs[0].new.run_id
        first = await bench.store.get(begin)
        assert first is not None
        at = first.created_at
        wanted: list[tuple[RunFilter, list[int]]] = [
            (RunFilter(), list(range(12))),
            (RunFilter(status=RunStatus.COMPLETED), [0]),
            (RunFilter(status=RunStatus.FAILED), [1]),
            (RunFilter(status=RunStatus.CANCELLED), [2]),
            (RunFilter(status=RunStatus.RUNNING), [3]),
            (RunFilter(status=RunStatus.PENDING), list(range(4, 12))),
            (RunFilter(name="name 1"), [1, 3, 5, 7, 9, 11]),
            (RunFilter(kind="kind 2"), [2, 5, 8, 11]),
            (RunFilter(tag="tag 3"), [3, 7, 11]),
            (RunFilter(tag="all", since=at + 4.0), list(range(4, 12))),
            (RunFilter(until=at + 4.0), [0, 1, 2, 3]),
            (RunFilter(since=at + 2.0, until=at + 5.0), [2, 3, 4]),
            (RunFilter(RunStatus.PENDING, "name 1", "kind 2", "all"), [5, 11]),
            (RunFilter(tag="no such tag"), []),
        ]

        for which, numbers in wanted:
            page = await bench.store.list_runs(which)
            expected = [runs[number].run_id for number in reversed(numbers)]
            assert [found.run_id for found in page.runs] == expected, which
            assert page.cursor is None

    async def test_pages_hold_every_run_once_though_new_ones_come(self, bench: StoreBench) -> None:
        runs = await self._runs(bench)
        found: list[str] = []
        cursor: str | None = None

        for _ in range(3):
            page: Page = await bench.store.list_runs(RunFilter(tag="all"), cursor=cursor, limit=5)
            found += [run.run_id for run in page.runs]
            cursor = page.cursor
            bench.clock.advance(1.0)
            await bench.create(step("a"), tags=("all",))

        assert found == [run.run_id for run in reversed(runs)]
        assert cursor is None

    async def test_runs_of_one_moment_are_paged_too(self, bench: StoreBench) -> None:
        runs = [await bench.create(step("a")) for _ in range(9)]
        found: list[str] = []
        cursor: str | None = None

        while True:
            page: Page = await bench.store.list_runs(RunFilter(), cursor=cursor, limit=2)
            found += [run.run_id for run in page.runs]
            cursor = page.cursor
            if cursor is None:
                break

        assert sorted(found) == sorted(run.run_id for run in runs)

    async def test_a_cursor_that_no_page_gave_is_refused(self, bench: StoreBench) -> None:
        await bench.create(step("a"))
        strange: list[Any] = ["", "x", "1", "1 ", " a", "nan 1", "1e999 1", "1 \ud800", "1 \0", 5]

        for cursor in strange:
            with pytest.raises(TrackingQueryError, match="not the cursor of a page"):
                await bench.store.list_runs(RunFilter(), cursor=cursor)

    async def test_a_listing_is_without_steps(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        await run.run("a")

        (listed,) = (await bench.store.list_runs(RunFilter())).runs

        assert listed == await bench.store.get(run.run_id, steps=False)

    async def test_many_runs_are_read_at_once_as_each_of_them_alone(
        self, bench: StoreBench
    ) -> None:
        runs = await self._runs(bench)
        others = [await bench.create(*(step(f"s{n}") for n in range(3))) for _ in range(2)]
        await others[0].run("s1")
        await others[0].start("s2")
        asked = [run.run_id for run in (*others, *runs)]
        await bench.store.delete(runs[0].run_id)

        found = await bench.store.get_all([asked[1], "no-such-run", *asked])

        assert [run.run_id for run, _ in found] == [asked[1], *asked[:2], *asked[3:]]
        for run, plan in found:
            assert run == await bench.store.get(run.run_id)
            assert plan == await bench.store.plan(run.run_id)
        for run, _ in await bench.store.get_all(asked, steps=False):
            assert run == await bench.store.get(run.run_id, steps=False)
        assert await bench.store.get_all([]) == []

    async def test_an_ended_run_is_deleted_with_all_that_belongs_to_it(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(
            step("a"),
            step("m", kind=StepKind.MAP),
            items={"m": marked([b"1"])},
            key="k",
            tags=("t",),
            inputs={-1: b"1"},
            publish=True,
        )
        await bench.store.append_log(run.run_id, [b"line"])
        await run.run("a")
        await bench.store.cancel(run.run_id, "stop")

        assert await bench.store.delete(run.run_id)

        store, run_id = bench.store, run.run_id
        assert await store.get(run_id) is None
        assert await store.plan(run_id) is None
        assert await store.find("k") is None
        assert await store.values(run_id, [0, -1]) == {}
        assert await store.items(run_id, -1_000_000_001, 0, 1) == [None]
        assert await store.events(run_id) == []
        assert (await store.log(run_id))[0] == []
        assert (await store.list_runs(RunFilter(tag="t"))).runs == ()
        assert await run.refused("a") is RefusalReason.GONE
        assert await bench.wait(60.0) == []
        assert not await store.delete(run_id)

    async def test_a_run_that_goes_on_is_not_deleted(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))

        assert not await bench.store.delete(run.run_id)
        assert not await bench.store.delete("no-such-run")
        assert await run.status() is RunStatus.PENDING

    async def test_purging_removes_runs_that_ended_before(self, bench: StoreBench) -> None:
        runs = [await bench.create(step("a")) for _ in range(4)]
        for run in runs[:3]:
            await run.run("a")
            bench.clock.advance(10.0)

        assert await bench.store.purge(before=bench.clock() - 15.0, limit=1) == 1
        assert await bench.store.purge(before=bench.clock() - 15.0) == 1
        assert await bench.store.purge(before=bench.clock() - 15.0) == 0

        left = [await bench.store.get(run.run_id) is not None for run in runs]
        assert left == [False, False, True, True]

    async def test_deleting_the_latest_run_of_a_key_frees_the_key(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), key="k")
        await run.run("a")
        await bench.store.delete(run.run_id)

        again = await bench.create(step("a"), key="k")

        assert await bench.store.find("k") == again.run_id

    async def test_deleting_an_older_run_of_a_key_leaves_the_latest(
        self, bench: StoreBench
    ) -> None:
        older = await bench.create(step("a"), key="k")
        await older.run("a")
        latest = await bench.create(step("a"), key="k")

        await bench.store.delete(older.run_id)

        assert await bench.store.find("k") == latest.run_id
