"""What is read of runs, steps, events and workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from taskiq_flow.events import EventType
from taskiq_flow.model.records.runs import Address
from taskiq_flow.model.records.words import RunStatus, StepKind, StepStatus


class EventRecord(NamedTuple):
    """One event of a run; ``seq`` counts from 1 without gaps, ``at`` is the store's clock.

    ``attempt`` counts tries from 1 where the event belongs to one; ``detail`` is the reason of
    a cancel, the name of an event, or the due time of a retry.
    """

    run_id: str
    seq: int
    at: float
    type: EventType
    step: int | None
    slot: int | None
    attempt: int
    detail: str


@dataclass(frozen=True, slots=True)
class StepSnapshot:
    """A step as it stands; counts of items only for a map."""

    index: int
    name: str
    task: str
    kind: StepKind
    status: StepStatus
    started_at: float | None
    ended_at: float | None
    attempt: int
    lost: int
    error: bytes | None
    retry_at: float | None = None
    length: int | None = None
    items_done: int = 0
    items_failed: int = 0
    progress: bytes | None = None


class RunSnapshot(NamedTuple):
    """A run as it stands, without its plan and values (and without steps in a listing)."""

    run_id: str
    namespace: str
    name: str
    key: str | None
    kind: str
    status: RunStatus
    tags: tuple[str, ...]
    created_at: float
    started_at: float | None
    ended_at: float | None
    deadline: float | None
    remaining: int
    total: int
    failed_step: int | None
    error: bytes | None
    reason: str | None
    failures: int
    parent: Address | None
    meta: bytes
    steps: tuple[StepSnapshot, ...] = ()


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a listing shows; every field narrows it.

    ``since`` and ``until`` (which is the first moment after) are about the runs' creation, the
    ``ended`` pair about their end. ``search`` is how their names begin, letter by letter.
    """

    status: RunStatus | None = None
    name: str | None = None
    kind: str | None = None
    tag: str | None = None
    since: float | None = None
    until: float | None = None
    ended_since: float | None = None
    ended_until: float | None = None
    search: str | None = None

    @property
    def is_about_ends(self) -> bool:
        return self.ended_since is not None or self.ended_until is not None


class StepTotal(NamedTuple):
    """What one step came to over some ended runs; times in seconds, of its runs from start to end.

    ``runs`` is how often it ran, ``failed`` how often it failed for good, ``retries`` how many
    of its attempts (of itself, not of its items) failed.
    """

    run_name: str
    name: str
    task: str
    runs: int
    failed: int
    retries: int
    seconds: float
    longest: float


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A process that can run steps: which queues it serves, which tasks it has."""

    worker_id: str
    namespace: str
    queues: tuple[str, ...]
    tasks: tuple[str, ...]
    seen_at: float
    host: str = ""
    pid: int = 0
    version: str = ""
