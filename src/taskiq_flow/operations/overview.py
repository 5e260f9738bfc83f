"""Sums up a store by what its indexes count, so a hundred thousand runs cost no more than ten."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

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


async def counts_by_status(store: RunStore) -> dict[RunStatus, int]:
    """How many runs there are of each status."""
    counts = await asyncio.gather(*(store.count_runs(RunFilter(status=one)) for one in RunStatus))
    return dict(zip(RunStatus, counts, strict=True))


async def ended_by_time(store: RunStore, *, hours: float, buckets: int) -> tuple[Bucket, ...]:
    """How many runs ended how in each stretch of the last hours.

    Stretches begin at multiples of their width, so that a chart does not flicker.
    """
    count = max(1, min(buckets, BUCKETS_MOST))
    width = max(1.0, hours * 3600 / count)
    until = (datetime.now(UTC).timestamp() // width + 1) * width
    since = until - width * count
    found = await store.count_ended(since=since, until=until, buckets=count)
    return tuple(
        Bucket(
            datetime.fromtimestamp(since + number * width, UTC),
            datetime.fromtimestamp(since + (number + 1) * width, UTC),
            ended.get(RunStatus.COMPLETED, 0),
            ended.get(RunStatus.FAILED, 0),
            ended.get(RunStatus.CANCELLED, 0),
        )
        for number, ended in enumerate(found)
    )


async def step_figures(store: RunStore) -> tuple[StepFigure, ...]:
    """What steps came to in the newest ended runs."""
    return tuple(_figure(total) for total in await store.step_totals(newest=SAMPLED_RUNS))


async def make_overview(
    store: RunStore, previewer: Previewer, *, hours: float, buckets: int
) -> Overview:
    """Put together what goes on and what is wrong."""
    # Side by side: while a server counts, this process reads the rest.
    (running, failed), counts, ended, figures, workers, queues = await asyncio.gather(
        _newest(store, RunStatus.RUNNING, RunStatus.FAILED),
        counts_by_status(store),
        ended_by_time(store, hours=hours, buckets=buckets),
        step_figures(store),
        worker_views(store),
        queue_views(store, previewer),
    )
    slowest = sorted((f for f in figures if f.count), key=lambda f: f.mean_ms, reverse=True)
    failing = [figure for figure in figures if figure.failed or figure.retries]
    failing.sort(key=lambda figure: (figure.failed, figure.retries), reverse=True)
    return Overview(
        at=datetime.now(UTC),
        counts=counts,
        running=_page(running.runs, running.cursor, counts[RunStatus.RUNNING], previewer),
        failed=_page(failed.runs, failed.cursor, counts[RunStatus.FAILED], previewer),
        buckets=ended,
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
