"""Listings and counts of the runs of a namespace, asked of its indexes in Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from taskiq_flow.model.records import RunFilter, RunSnapshot, RunStatus, StepTotal
from taskiq_flow.stores import redis_arguments as arguments
from taskiq_flow.stores import redis_replies as replies
from taskiq_flow.stores.base import SUMMED_STEPS, Page
from taskiq_flow.stores.paging import cursor_after, place_of
from taskiq_flow.stores.step_sums import StepSums

ENDLESS = 1 << 62
"""More runs than there can be."""

CALLS_MOST = 10
"""Calls that are made for one page; each looks at some 1,000 runs at the most (see redis.lua)."""


class RedisListings:
    """An answer may take several calls, so that none of them holds up the server for long.

    ``run`` calls an operation of the script: its name, a run (or where to go on), its arguments.
    """

    def __init__(self, run: Callable[..., Awaitable[Any]]) -> None:
        self._run = run

    async def page(self, which: RunFilter, cursor: str | None, limit: int) -> Page:
        at, last = ("", "") if cursor is None else place_of(cursor)
        found: list[RunSnapshot] = []
        for _ in range(CALLS_MOST):
            asked = arguments.filter_arguments(which, at, limit + 1 - len(found))
            page, whole, seen, at = await self._run("list_runs", last, *asked)
            last = seen.decode()
            found += map(replies.snapshot, page)
            if len(found) > limit:
                del found[limit:]
                return Page(tuple(found), cursor_after(found[-1].created_at, found[-1].run_id))
            if whole:
                return Page(tuple(found), None)
        return Page(tuple(found), cursor_after(float(at), last))

    async def count(self, where: RunFilter, at_most: int | None) -> int:
        most = ENDLESS if at_most is None else at_most
        count, whole, last, at = 0, False, "", ""
        while not whole and count < most:
            asked = arguments.filter_arguments(where, at, most - count)
            counted, whole, last, at = await self._run("count_runs", last, *asked)
            count += counted
        return count

    async def ended(self, since: float, until: float, buckets: int) -> list[dict[RunStatus, int]]:
        edges = [since + (until - since) * number / buckets for number in range(buckets + 1)]
        counts = await self._run("count_ended", "", *map(repr, edges))
        return replies.counts_by_status(counts)

    async def step_totals(self, newest: int) -> list[StepTotal]:
        run_ids = replies.newest(await self._run("ended_last", "", newest), newest)
        sums = StepSums()
        while run_ids and sums.has_room:
            runs = await self._run("step_rows", "", SUMMED_STEPS, *run_ids)
            run_ids = run_ids[len(runs) :]
            for total, name, steps in runs:
                sums.add_run(total, name.decode(), map(replies.step_times, steps))
        return sums.totals()
