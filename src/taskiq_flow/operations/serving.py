"""Says who works, on which queues and tasks, and which queues nobody serves."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from taskiq_flow.engine.results import RunResults
from taskiq_flow.engine.standing import nobody_serves
from taskiq_flow.model.records import (
    RunFilter,
    RunSnapshot,
    RunStatus,
    StepKind,
    StepStatus,
    WorkerRecord,
)
from taskiq_flow.operations.models import QueueView, StepDetail, StepFigure, TaskView, WorkerView
from taskiq_flow.operations.previews import Previewer
from taskiq_flow.operations.runs import step_details
from taskiq_flow.stores.base import RunStore

OPEN_RUNS = 16
"""Of so many open runs of each status the steps are counted by queue."""

STEPS_MOST = 5_000
"""No further run is looked into when the runs so far had this many steps."""


async def worker_views(store: RunStore) -> tuple[WorkerView, ...]:
    """The live workers, by host and process."""
    found = [_worker(record) for record in await store.workers()]
    return tuple(sorted(found, key=lambda worker: (worker.host, worker.pid, worker.worker_id)))


def task_views(
    workers: Iterable[WorkerView], figures: Iterable[StepFigure]
) -> tuple[TaskView, ...]:
    """The tasks of live workers, and those of the newest ended runs."""
    held: dict[str, list[WorkerView]] = defaultdict(list)
    for worker in workers:
        for task in worker.tasks:
            held[task].append(worker)
    ran: dict[str, list[StepFigure]] = defaultdict(list)
    for figure in figures:
        ran[figure.task].append(figure)
    return tuple(
        _task(name, held.get(name, []), ran.get(name, [])) for name in sorted({*held, *ran})
    )


async def queue_views(store: RunStore, previewer: Previewer) -> tuple[QueueView, ...]:
    """The queues that workers serve, and those that the newest open runs need."""
    workers = await store.workers()
    counts, is_exact = await _count_steps(store, previewer)
    served: dict[str, list[str]] = defaultdict(list)
    for worker in workers:
        for queue in worker.queues:
            served[queue].append(worker.worker_id)
    return tuple(
        _queue(name, served.get(name, []), counts.get(name, _Counts()), is_exact=is_exact)
        for name in sorted({*served, *counts})
    )


@dataclass(slots=True)
class _Counts:
    steps: Counter[StepStatus] = field(default_factory=Counter[StepStatus])
    runs: set[str] = field(default_factory=set[str])


async def _count_steps(store: RunStore, previewer: Previewer) -> tuple[Mapping[str, _Counts], bool]:
    counts: dict[str, _Counts] = defaultdict(_Counts)
    is_exact, steps = True, 0
    chosen: list[str] = []
    for status in (RunStatus.RUNNING, RunStatus.PENDING):
        page = await store.list_runs(RunFilter(status=status), limit=OPEN_RUNS)
        is_exact = is_exact and page.cursor is None
        for run in page.runs:
            steps += run.total
            if steps > STEPS_MOST and chosen:
                is_exact = False
                break
            chosen.append(run.run_id)
    for run, plan in await RunResults(store).with_plans(chosen):
        queues = [step.queue for step in plan.steps]
        _add(counts, run, queues, step_details(run, plan, previewer))
    return counts, is_exact


def _add(
    counts: dict[str, _Counts], run: RunSnapshot, queues: Sequence[str], steps: Iterable[StepDetail]
) -> None:
    for step in steps:
        if step.kind not in (StepKind.TASK, StepKind.MAP) or step.status not in _COUNTED:
            continue
        of_queue = counts[queues[step.index]]
        of_queue.steps[step.status] += 1
        of_queue.runs.add(run.run_id)


_COUNTED = frozenset({StepStatus.READY, StepStatus.RUNNING, StepStatus.RETRYING})


def _queue(name: str, workers: Sequence[str], counts: _Counts, *, is_exact: bool) -> QueueView:
    waiting = counts.steps[StepStatus.READY] + counts.steps[StepStatus.RETRYING]
    note = None
    if waiting and not workers:
        note = "; ".join(nobody_serves(name))
    return QueueView(
        name=name,
        workers=tuple(workers),
        ready=counts.steps[StepStatus.READY],
        running=counts.steps[StepStatus.RUNNING],
        retrying=counts.steps[StepStatus.RETRYING],
        runs=len(counts.runs),
        is_exact=is_exact,
        note=note,
    )


def _worker(record: WorkerRecord) -> WorkerView:
    now = time.time()
    seen_at = record.seen_at or now  # a store in memory keeps no time: its one process is here
    return WorkerView(
        worker_id=record.worker_id,
        host=record.host,
        pid=record.pid,
        queues=record.queues,
        tasks=record.tasks,
        seen_at=datetime.fromtimestamp(seen_at, UTC),
        seen_seconds=max(0.0, now - seen_at),
        version=record.version,
    )


def _task(name: str, workers: Sequence[WorkerView], figures: Sequence[StepFigure]) -> TaskView:
    count = sum(figure.count for figure in figures)
    spent = sum(figure.mean_ms * figure.count for figure in figures)
    return TaskView(
        name=name,
        workers=len(workers),
        queues=tuple(sorted({queue for worker in workers for queue in worker.queues})),
        count=count,
        failed=sum(figure.failed for figure in figures),
        mean_ms=spent / count if count else None,
    )
