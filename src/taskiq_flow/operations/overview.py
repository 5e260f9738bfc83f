"""Sums up a store by what its indexes count, so a hundred thousand runs cost no more than ten."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from taskiq_flow.model.records import RunFilter, RunSnapshot, RunStatus, StepTotal
from taskiq_flow.operations.models import (
    Bucket,
    Overview,
    RunPage,
    StepFigure,
)
from taskiq_flow.operations.previews import Previewer
from taskiq_flow.operations.runs import run_summary
from taskiq_flow.operations.serving import queue_views, worker_views
from taskiq_flow.stores.base import Page, RunStore

SAMPLED_RUNS = 200
SHOWN_RUNS = 10
SHOWN_FIGURES = 10
BUCKETS_MOST = 200
END_OF_TIME = float(1 << 53)


class _Ends(NamedTuple):
    """How many runs ended how: in each stretch of some hours, and ever."""

    buckets: tuple[Bucket, ...]
    ever: Mapping[RunStatus, int]


async def _ends(store: RunStore, *, hours: float, buckets: int) -> _Ends:
    """Count what has ended, each run once.

    Stretches begin at multiples of their width, so that a chart does not flicker.
    """
    count = max(1, min(buckets, BUCKETS_MOST))
    width = max(1.0, hours * 3600 / count)
    until = (datetime.now(UTC).timestamp() // width + 1) * width
    since = until - width * count
    shown, before, behind = await asyncio.gather(
        store.count_ended(since=since, until=until, buckets=count),
        store.count_ended(since=0.0, until=since, buckets=1),
        store.count_ended(since=until, until=END_OF_TIME, buckets=1),
    )
    stretches = tuple(
        Bucket(
            datetime.fromtimestamp(since + number * width, UTC),
            datetime.fromtimestamp(since + (number + 1) * width, UTC),
            ended.get(RunStatus.COMPLETED, 0),
            ended.get(RunStatus.FAILED, 0),
            ended.get(RunStatus.CANCELLED, 0),
        )
        for number, ended in enumerate(shown)
    )
    counted = [*before, *shown, *behind]
    final = [status for status in RunStatus if status.is_final]
    return _Ends(stretches, {one: sum(ends.get(one, 0) for ends in counted) for one in final})


async def _open_counts(store: RunStore) -> dict[RunStatus, int]:
    """How many runs there are of each status that is not the last."""
    statuses = [status for status in RunStatus if not status.is_final]
    counts = await asyncio.gather(*(store.count_runs(RunFilter(status=one)) for one in statuses))
    return dict(zip(statuses, counts, strict=True))


async def step_figures(store: RunStore) -> tuple[StepFigure, ...]:
    """What steps came to in the newest ended runs."""
    return tuple(_figure(total) for total in await store.step_totals(newest=SAMPLED_RUNS))


async def make_overview(
    store: RunStore, previewer: Previewer, *, hours: float, buckets: int
) -> Overview:
    """Put together what goes on and what is wrong."""
    # Side by side: while a server counts, this process reads the rest.
    (running, failed), counts, ends, figures, workers, queues = await asyncio.gather(
        _newest(store, RunStatus.RUNNING, RunStatus.FAILED),
        _open_counts(store),
        _ends(store, hours=hours, buckets=buckets),
        step_figures(store),
        worker_views(store),
        queue_views(store, previewer),
    )
    counts |= ends.ever
    slowest = sorted((f for f in figures if f.count), key=lambda f: f.mean_ms, reverse=True)
    failing = [figure for figure in figures if figure.failed or figure.retries]
    failing.sort(key=lambda figure: (figure.failed, figure.retries), reverse=True)
    return Overview(
        at=datetime.now(UTC),
        counts=counts,
        running=_page(running.runs, running.cursor, counts[RunStatus.RUNNING], previewer),
        failed=_page(failed.runs, failed.cursor, counts[RunStatus.FAILED], previewer),
        buckets=ends.buckets,
        slowest=tuple(slowest[:SHOWN_FIGURES]),
        most_failing=tuple(failing[:SHOWN_FIGURES]),
        sampled=SAMPLED_RUNS,
        workers=workers,
        queues=queues,
        problems=tuple(queue.note for queue in queues if queue.note is not None),
    )


async def _newest(store: RunStore, *statuses: RunStatus) -> list[Page]:
    which = (RunFilter(status=status) for status in statuses)
    return await asyncio.gather(*(store.list_runs(one, limit=SHOWN_RUNS) for one in which))


def _page(
    runs: Sequence[RunSnapshot], cursor: str | None, total: int, previewer: Previewer
) -> RunPage:
    return RunPage(tuple(run_summary(run, previewer) for run in runs), cursor, total)


def _figure(total: StepTotal) -> StepFigure:
    return StepFigure(
        pipeline=total.run_name,
        step=total.name,
        task=total.task,
        count=total.runs,
        failed=total.failed,
        retries=total.retries,
        mean_ms=total.seconds * 1000 / total.runs if total.runs else 0.0,
        longest_ms=total.longest * 1000,
    )
