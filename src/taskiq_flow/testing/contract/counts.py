"""What every run store promises of counting runs, and of summing up their steps."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from taskiq_flow.model.records import (
    Failed,
    Retry,
    RunFilter,
    RunSnapshot,
    RunStatus,
    StepTotal,
)
from taskiq_flow.testing.store_bench import BenchRun, StoreBench, step

HOSTILE = ("a%", "a_", "a*", "a?", "a[b]", "a\\", "a'\"", "a:b", "A", "ä", "日本", "a\U0010ffffz")
"""Names whose letters mean something to one database or another."""


class CountContract:
    """What a listing would show is counted, and narrowed, by the same filter."""

    async def _counted_runs(self, bench: StoreBench) -> list[BenchRun]:
        """One run a second; those that end do so half a second after they were created."""
        runs: list[BenchRun] = []
        for number in range(12):
            run = await bench.create(
                step("a"),
                name=f"{'even' if number % 2 == 0 else 'odd'} {number % 3}",
                kind=f"kind {number % 2}",
                tags=("all", f"tag {number % 4}"),
            )
            bench.clock.advance(0.5)
            if number < 4:
                await run.run("a")
            elif number < 6:
                await run.run("a", Failed(b"error"))
            elif number == 6:
                await bench.store.cancel(run.run_id, "stop")
            elif number == 7:
                await run.start("a")
            bench.clock.advance(0.5)
            runs.append(run)
        return runs

    async def test_each_filter_and_each_pair_counts_what_it_lists(self, bench: StoreBench) -> None:
        begin = bench.clock()
        await self._counted_runs(bench)
        fields: dict[str, tuple[Any, ...]] = {
            "status": (None, RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.PENDING),
            "name": (None, "odd 1"),
            "kind": (None, "kind 1"),
            "tag": (None, "all", "tag 1"),
            "search": (None, "", "odd", "odd 1", "o 1", "e"),
            "since": (None, begin + 2.0),
            "until": (None, begin + 6.0),
            "ended_since": (None, begin + 1.0),
            "ended_until": (None, begin + 5.5),
        }
        everything = (await bench.store.list_runs(RunFilter())).runs
        singles = [{name: value} for name, values in fields.items() for value in values]
        asked = [RunFilter(**{**one, **other}) for one, other in product(singles, singles)]

        for which in dict.fromkeys(asked):
            wanted = [run for run in everything if _matches(run, which)]
            page = await bench.store.list_runs(which)
            assert [run.run_id for run in page.runs] == [run.run_id for run in wanted], which
            assert await bench.store.count_runs(which) == len(wanted), which

    async def test_pages_of_every_filter_hold_each_run_once(self, bench: StoreBench) -> None:
        begin = bench.clock()
        await self._counted_runs(bench)
        filters = [
            RunFilter(search="even"),
            RunFilter(ended_since=begin, ended_until=begin + 9.0),
            RunFilter(tag="all", kind="kind 0"),
            RunFilter(search="e", tag="all", since=begin + 1.0),
        ]

        for which in filters:
            whole = (await bench.store.list_runs(which)).runs
            found: list[str] = []
            cursor: str | None = None
            while True:
                page = await bench.store.list_runs(which, cursor=cursor, limit=2)
                found += [run.run_id for run in page.runs]
                cursor = page.cursor
                if cursor is None:
                    break
            assert found == [run.run_id for run in whole], which
            assert len(found) > 2

    async def test_counting_stops_where_it_is_told_to(self, bench: StoreBench) -> None:
        await self._counted_runs(bench)
        filters = [RunFilter(), RunFilter(tag="all", kind="kind 0"), RunFilter(search="e")]

        counts = [await bench.store.count_runs(which, at_most=3) for which in filters]

        assert counts == [3, 3, 3]

    @pytest.mark.parametrize("name", HOSTILE)
    async def test_how_names_begin_is_compared_letter_by_letter(
        self, bench: StoreBench, name: str
    ) -> None:
        for other in (*HOSTILE, "a", "b", "x"):
            await bench.create(step("a"), name=other + "...")

        for asked in (name, name[0]):
            page = await bench.store.list_runs(RunFilter(search=asked))
            expected = {f"{n}..." for n in (*HOSTILE, "a", "b", "x") if f"{n}...".startswith(asked)}
            assert {run.name for run in page.runs} == expected
            assert await bench.store.count_runs(RunFilter(search=asked)) == len(expected)

    async def test_a_run_that_is_gone_is_counted_nowhere(self, bench: StoreBench) -> None:
        runs = await self._counted_runs(bench)
        await bench.store.count_runs(RunFilter())
        for run in runs[:6]:
            assert await bench.store.delete(run.run_id)
        again = bench.draft(step("a"), run_id=runs[0].run_id, name="again", tags=("all",))
        await bench.store.create(again.new)

        store, ended = bench.store, RunFilter(ended_since=0.0)
        assert await store.count_runs(RunFilter()) == 7
        assert await store.count_runs(RunFilter(tag="all")) == 7
        assert await store.count_runs(RunFilter(name="even 0")) == 1
        assert await store.count_runs(RunFilter(status=RunStatus.COMPLETED)) == 0
        assert await store.count_runs(RunFilter(search="odd 0")) == 1
        assert await store.count_runs(ended) == 1
        assert [run.run_id for run in (await store.list_runs(ended)).runs] == [runs[6].run_id]
        newest = (await store.list_runs(RunFilter(tag="all"), limit=1)).runs[0]
        assert (newest.run_id, newest.name) == (runs[0].run_id, "again")

    async def test_ends_are_counted_by_the_part_of_a_time_that_they_fall_into(
        self, bench: StoreBench
    ) -> None:
        begin = bench.clock()
        await self._counted_runs(bench)

        found = await bench.store.count_ended(since=begin, until=begin + 8.0, buckets=4)

        ends = [RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED]
        assert [[bucket[status] for status in ends] for bucket in found] == [
            [2, 0, 0],
            [2, 0, 0],
            [0, 2, 0],
            [0, 0, 1],
        ]


class SumContract:
    """What steps came to is read of the newest ended runs, and of no more steps than may be."""

    async def test_steps_of_ended_runs_are_summed_up(self, bench: StoreBench) -> None:
        for number in range(3):
            run = await bench.create(step("a"), step("b", "a"), step("c", "b"), name="sums")
            grant = await run.start("a")
            bench.clock.advance(1.0 + number)
            await run.finish(grant)
            if number == 1:
                await run.run("b", Retry(b"again", 0.0))
            await run.run("b", Failed(b"no"))
        going = await bench.create(step("a"), name="sums")
        await going.run("a", Retry(b"again", 0.0))

        totals = {total.name: total for total in await bench.store.step_totals()}
        newest = {total.name: total for total in await bench.store.step_totals(newest=1)}

        assert totals == {
            "a": StepTotal("sums", "a", "task:a", 3, 0, 0, 6.0, 3.0),
            "b": StepTotal("sums", "b", "task:b", 3, 3, 1, 0.0, 0.0),
        }
        assert newest["a"] == StepTotal("sums", "a", "task:a", 1, 0, 0, 3.0, 3.0)

    async def test_no_more_steps_are_read_than_may_be(self, bench: StoreBench) -> None:
        for count in (2400, 2600):
            run = await bench.create(*(step(f"s{n}") for n in range(count)), name=f"of {count}")
            await run.run("s0", Failed(b"no"))
            bench.clock.advance(1.0)
        both = await bench.store.step_totals()
        one_more = await bench.create(step("s0"), name="one more")
        await one_more.run("s0")

        assert {total.run_name for total in both} == {"of 2400", "of 2600"}
        assert {total.run_name for total in await bench.store.step_totals()} == {
            "one more",
            "of 2600",
        }


def _matches(run: RunSnapshot, which: RunFilter) -> bool:
    ended_at = run.ended_at
    is_over = ended_at is not None
    return all(
        (
            which.status in (None, run.status),
            which.name in (None, run.name),
            which.kind in (None, run.kind),
            which.tag is None or which.tag in run.tags,
            run.name.startswith(which.search or ""),
            which.since is None or run.created_at >= which.since,
            which.until is None or run.created_at < which.until,
            which.ended_since is None or (is_over and ended_at >= which.ended_since),
            which.ended_until is None or (is_over and ended_at < which.ended_until),
        )
    )
