"""How long pages and counts of many ended runs take, asked of the store and of tracking."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from statistics import median
from typing import Any

from benchmarks.app import broker
from benchmarks.bulk import Copy, copy_run
from benchmarks.matrix import Sizes
from taskiq_flow.codec.errors import encode_error
from taskiq_flow.engine.client import RunClient
from taskiq_flow.model.records import Address, Failed, NewRun, RunFilter, RunStatus, StepRecord
from taskiq_flow.stores.base import RunStore
from taskiq_flow.stores.memory import MemoryRunStore
from taskiq_flow.tracking.manager import PipelineTrackingManager

PAGE = 50
SPREAD_SECONDS = 20 * 3600.0
"""The oldest run is so much older than the newest."""

TIMES = 5
"""How often each question is asked."""

BUCKETS = 60

ERROR = encode_error(ValueError("a report that fails"))
STEPS = (StepRecord(0, "step", "task", b"{}"),)


def _run(number: int, namespace: str) -> NewRun:
    """A run that is over when it is stored."""
    return NewRun(
        run_id=f"run-{number:09}",
        namespace=namespace,
        steps=STEPS,
        plan=b"{}",
        kind=("pipeline", "map_reduce", "task")[number % 3],
        name=f"report {number % 50}",
        tags=("all", "even" if number % 2 == 0 else "odd", f"tenant {number % 1000}"),
        done={0: b"1"},
    )


def _end(number: int) -> RunStatus:
    """Of reports whose number ends in a 9 all fail, and of no other one."""
    if number % 10 == 9:
        return RunStatus.FAILED
    return RunStatus.CANCELLED if number % 20 == 8 else RunStatus.COMPLETED


async def load(store: RunStore, count: int) -> None:
    """Store so many ended runs: one of each end really runs, of which the others are copies.

    A store in memory runs all of them.
    """
    numbers = range(count)
    if isinstance(store, MemoryRunStore):
        for number in numbers:
            await _end_as(store, _run(number, store.options.namespace), _end(number))
        return
    newest = time.time()
    for end in (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED):
        example = _run(0, store.options.namespace)._replace(run_id=f"example-{end}")
        await _end_as(store, example, end)
        copies = [
            Copy(run.run_id, run.name, run.kind, tuple(run.tags), newest - age)
            for number in numbers
            if _end(number) is end
            for run in (_run(number, ""),)
            for age in (SPREAD_SECONDS * (count - number) / count,)
        ]
        await copy_run(store, example.run_id, copies)
        await store.delete(example.run_id)


async def _end_as(store: RunStore, run: NewRun, end: RunStatus) -> None:
    if end is not RunStatus.COMPLETED:
        run = run._replace(done={})
    await store.create(run)
    if end is RunStatus.CANCELLED:
        await store.cancel(run.run_id, "not needed")
    elif end is RunStatus.FAILED:
        at = Address(run.run_id, 0, 0)
        await store.start(at, "token")
        await store.finish(at, "token", Failed(ERROR), None)


def filters(begin: float, end: float) -> dict[str, tuple[RunFilter, Callable[[int], bool] | None]]:
    """What is asked for, and which runs that is where their times do not decide it."""
    failed, middle = RunStatus.FAILED, (begin + end) / 2
    span = (end - begin) / 20
    return {
        "nothing": (RunFilter(), lambda _: True),
        "completed": (RunFilter(RunStatus.COMPLETED), lambda n: _end(n) is RunStatus.COMPLETED),
        "failed": (RunFilter(failed), lambda n: n % 10 == 9),
        "name": (RunFilter(name="report 7"), lambda n: n % 50 == 7),
        "kind": (RunFilter(kind="task"), lambda n: n % 3 == 2),
        "wide tag": (RunFilter(tag="all"), lambda _: True),
        "tag": (RunFilter(tag="tenant 7"), lambda n: n % 1000 == 7),
        "created": (RunFilter(since=middle, until=middle + span), None),
        "ended": (RunFilter(ended_since=middle, ended_until=middle + span), None),
        "ended long ago": (RunFilter(ended_until=begin + span), None),
        "beginning of all names": (RunFilter(search="rep"), lambda _: True),
        "beginning of some names": (RunFilter(search="report 4"), lambda n: n % 50 in _FORTIES),
        "failed, name": (RunFilter(failed, "report 9"), lambda n: n % 50 == 9),
        "failed, name that never fails": (RunFilter(failed, "report 7"), lambda _: False),
        "failed, kind": (RunFilter(failed, kind="task"), lambda n: n % 10 == 9 and n % 3 == 2),
        "failed, tag": (RunFilter(failed, tag="tenant 9"), lambda n: n % 1000 == 9),
        "failed, tag that never fails": (RunFilter(failed, tag="even"), lambda _: False),
        "failed, created": (RunFilter(failed, since=middle), None),
        "failed, ended": (RunFilter(failed, ended_since=middle, ended_until=middle + span), None),
        "name, kind": (
            RunFilter(name="report 7", kind="task"),
            lambda n: n % 50 == 7 and n % 3 == 2,
        ),
        "name, tag": (RunFilter(name="report 7", tag="odd"), lambda n: n % 50 == 7),
        "name, another's tag": (RunFilter(name="report 7", tag="even"), lambda _: False),
        "kind, tag": (RunFilter(kind="task", tag="odd"), lambda n: n % 3 == 2 and n % 2 == 1),
        "completed, tag": (
            RunFilter(RunStatus.COMPLETED, tag="odd"),
            lambda n: n % 2 == 1 and _end(n) is RunStatus.COMPLETED,
        ),
        "completed, kind, tag": (
            RunFilter(RunStatus.COMPLETED, kind="task", tag="even"),
            lambda n: n % 3 == 2 and n % 2 == 0 and _end(n) is RunStatus.COMPLETED,
        ),
        "cancelled, kind, another's tag": (
            RunFilter(RunStatus.CANCELLED, kind="task", tag="odd"),
            lambda _: False,
        ),
        "failed, beginning of names": (
            RunFilter(failed, search="report 4"),
            lambda n: n % 50 == 49 and n % 10 == 9,
        ),
        "tag, beginning of names": (
            RunFilter(tag="even", search="report 4"),
            lambda n: n % 50 in _FORTIES and n % 2 == 0,
        ),
        "beginning of names, ended": (RunFilter(search="report 4", ended_since=middle), None),
    }


_FORTIES = {4, *range(40, 50)}


class Stopwatch:
    """Times of calls, by what was asked."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, list[float]] = {}

    async def time(self, title: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        found = None
        for _ in range(TIMES):
            began = time.perf_counter()
            found = await ask()
            took = (time.perf_counter() - began) * 1000
            self.milliseconds.setdefault(title, []).append(took)
        return found

    def facts(self) -> tuple[float, float, str]:
        """The median and the longest time, and what took longest on the whole."""
        every = [took for times in self.milliseconds.values() for took in times]
        slowest = max(self.milliseconds, key=lambda title: median(self.milliseconds[title]))
        time_of_it = median(self.milliseconds[slowest])
        return round(median(every), 2), round(max(every), 2), f"{slowest}: {time_of_it:.1f} ms"


async def listing(sizes: Sizes) -> dict[str, Any]:
    """Store ended runs, then ask for pages and counts of them in every way."""
    manager = PipelineTrackingManager(max_history=sizes.stored * 2).with_auto_storage(broker)
    store = RunClient.of(broker).store
    await store.open()
    await load(store, sizes.stored)
    newest = (await store.list_runs(RunFilter(), limit=1)).runs[0]
    everything = await manager.get_history(limit=1)
    begin = (await store.get(f"run-{0:09}", steps=False) or newest).created_at
    end = newest.created_at
    pages, counts, overview, tracking = Stopwatch(), Stopwatch(), Stopwatch(), Stopwatch()
    right = len(everything) == 1
    for title, (which, matches) in filters(begin, end).items():
        middle = replace(which, until=min(which.until or end, (begin + end) / 2))
        deep = (await store.list_runs(middle, limit=1)).cursor
        page = await pages.time(title, lambda w=which: store.list_runs(w, limit=PAGE))
        for cursor in (page.cursor, deep):
            if cursor is not None:
                await pages.time(
                    f"{title}, further on",
                    lambda w=which, c=cursor: store.list_runs(w, cursor=c, limit=PAGE),
                )
        count = await counts.time(title, lambda w=which: store.count_runs(w))
        if matches is not None:
            numbers = [n for n in range(sizes.stored) if matches(n)]
            shown = {run.run_id for run in page.runs}
            right = right and count == len(numbers) and len(shown) == min(PAGE, count)
            right = right and shown <= {f"run-{number:09}" for number in numbers}
    for title, (ask, share) in asked_of_tracking(manager, begin, end).items():
        found = await tracking.time(title, ask)
        right = right and len(found) == min(PAGE, round(share * sizes.stored))
    buckets = await overview.time(
        "ends by time",
        lambda: store.count_ended(since=begin, until=end + 60.0, buckets=BUCKETS),
    )
    right = right and sum(sum(bucket.values()) for bucket in buckets) == sizes.stored
    await overview.time("one count a bucket", lambda: _bucket_by_bucket(store, begin, end + 1))
    await overview.time("counts by status", lambda: _by_status(store))
    await overview.time("steps", store.step_totals)
    asked = {"tracking": tracking, "page": pages, "count": counts, "overview": overview}
    return {"ok": right, "asked": {name: watch.facts() for name, watch in asked.items()}}


def asked_of_tracking(
    manager: PipelineTrackingManager, begin: float, end: float
) -> dict[str, tuple[Callable[[], Awaitable[Sequence[Any]]], float]]:
    """What a user asks, plain and by each filter, and the share of all runs that fits."""
    since, until = (datetime.fromtimestamp(at, UTC) for at in ((begin + end) / 2, end))
    statuses = {"COMPLETED": 0.85, "FAILED": 0.1, "CANCELLED": 0.05, "RUNNING": 0, "PENDING": 0}
    history: dict[str, tuple[dict[str, Any], float]] = {
        "name": ({"name": "report 7"}, 0.02),
        "type": ({"pipeline_type": "task"}, 1 / 3),
        "tag": ({"tag": "odd"}, 0.5),
        "time": ({"since": since, "until": until}, 0.5),
        "status, tag": ({"status": "COMPLETED", "tag": "odd"}, 0.4),
        "status, tag, nothing fits": ({"status": "FAILED", "tag": "even"}, 0),
    }
    return {
        "list_pipelines()": (lambda: manager.list_pipelines(limit=PAGE), 1),
        **{
            f"list_pipelines({status})": (
                lambda status=status: manager.list_pipelines(status, limit=PAGE),
                share,
            )
            for status, share in statuses.items()
        },
        **{
            f"get_history by {title}": (
                lambda which=which: manager.get_history(limit=PAGE, **which),
                share,
            )
            for title, (which, share) in history.items()
        },
    }


async def _bucket_by_bucket(store: RunStore, begin: float, end: float) -> None:
    width = (end - begin) / BUCKETS
    spans = [(begin + width * number, begin + width * (number + 1)) for number in range(BUCKETS)]
    asked = [RunFilter(RunStatus.FAILED, ended_since=a, ended_until=b) for a, b in spans]
    await asyncio.gather(*[store.count_runs(which) for which in asked])


async def _by_status(store: RunStore) -> None:
    await asyncio.gather(*[store.count_runs(RunFilter(status)) for status in RunStatus])
