"""What is shown of all together: sums, workers, queues, tasks and schedules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from taskiq_flow.model.records import RunStatus
from taskiq_flow.operations.models.runs import RunPage


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many runs ended in a stretch of time, by how."""

    start: datetime
    stop: datetime
    completed: int
    failed: int
    cancelled: int


@dataclass(frozen=True, slots=True)
class StepFigure:
    """What a step came to in the newest ended runs: how often it ran and failed, how long it took.

    ``retries`` counts attempts that failed, ``pipeline`` is the pipeline's name.
    """

    pipeline: str
    step: str
    task: str
    count: int
    failed: int
    retries: int
    mean_ms: float
    longest_ms: float


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A live worker process; ``seen_seconds`` is how long ago it last said so."""

    worker_id: str
    host: str
    pid: int
    queues: tuple[str, ...]
    tasks: tuple[str, ...]
    seen_at: datetime
    seen_seconds: float
    version: str = ""


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task that live workers have, and what it came to in the newest ended runs."""

    name: str
    workers: int
    queues: tuple[str, ...]
    count: int = 0
    failed: int = 0
    mean_ms: float | None = None


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue: who serves it, and how many steps run there or wait for a worker.

    Counted in the newest open runs; ``is_exact`` says that those are all. ``note`` says what is
    wrong, for example that no worker serves it.
    """

    name: str
    workers: tuple[str, ...]
    ready: int
    running: int
    retrying: int
    runs: int
    is_exact: bool
    note: str | None = None


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule: when it starts what. ``trigger`` is its rule in words.

    ``runs`` counts ticks that were started, ``skipped`` those left out because a run was going,
    ``missed`` those that nobody was there for, ``failed`` those of which no run could be made.
    """

    schedule_id: str
    pipeline: str
    trigger: str
    is_paused: bool
    next_at: datetime | None
    last_at: datetime | None
    last_run_id: str | None
    runs: int = 0
    missed: int = 0
    skipped: int = 0
    failed: int = 0
    label: str = ""
    note: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Overview:
    """What goes on, and what is wrong.

    ``counts`` are by status, of all runs that are kept. ``slowest`` and ``most_failing`` are of
    the newest ended runs, at most ``sampled`` of them.
    """

    at: datetime
    counts: Mapping[RunStatus, int]
    running: RunPage
    failed: RunPage
    buckets: tuple[Bucket, ...]
    slowest: tuple[StepFigure, ...]
    most_failing: tuple[StepFigure, ...]
    sampled: int
    workers: tuple[WorkerView, ...]
    queues: tuple[QueueView, ...]
    problems: tuple[str, ...]
