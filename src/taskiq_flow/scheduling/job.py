"""A scheduled job as it is stored: what runs, when, and how far it has come."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from taskiq_flow.scheduling.triggers import Trigger, trigger_from_json, trigger_to_json

ONCE_TAG = "once"
"""Background tasks that are to run once, at a time, are no jobs: they are runs that begin with a
timer, and are found by this tag."""


class Overlap(StrEnum):
    """What becomes of a tick while the run of an earlier one is still going."""

    SKIP = "skip"  # it is left out, and counted
    QUEUE = "queue"  # it waits, and runs when the one before it has ended
    CANCEL_RUNNING = "cancel_running"  # the earlier run is cancelled
    ALLOW = "allow"  # they run side by side


class CatchUp(StrEnum):
    """What becomes of ticks that passed while no scheduler could fire them."""

    NONE = "none"  # they are counted as missed
    LAST = "last"  # one run stands for all of them
    ALL = "all"  # each is run, in order


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How the ticks of a job are treated.

    ``max_instances`` bounds the runs at once where ``overlap`` is skip or queue. A tick is late
    by ``jitter_seconds`` at the most on purpose; one that is later than ``misfire_grace_seconds``
    is missed whatever ``catch_up`` says.
    """

    overlap: Overlap = Overlap.SKIP
    catch_up: CatchUp = CatchUp.LAST
    jitter_seconds: float = 0.0
    misfire_grace_seconds: float | None = None
    max_instances: int = 1


@dataclass(frozen=True, slots=True)
class Claim:
    """A scheduler is firing ticks of the job, since a time."""

    by: str
    at: float


@dataclass(frozen=True, slots=True)
class JobState:
    """How far a job has come.

    About every tick up to ``decided_until`` it is known what becomes of it: it was counted, or is
    in ``waiting``, in order, and will be fired. ``last_tick`` is the one fired last.
    """

    decided_until: float
    waiting: tuple[float, ...] = ()
    claim: Claim | None = None
    last_tick: float | None = None
    last_fired_at: float | None = None
    last_run_id: str | None = None
    last_error: str | None = None
    fired: int = 0
    skipped: int = 0
    missed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """One record of the store, written by compare-and-set only.

    ``work`` is the digest of what is run, which is stored apart. ``key`` is the name of its runs
    that was asked for. ``kind`` says whose job it is: a pipeline's if it is empty, and that of a
    background task else, which its own application fires. A job that is ``gone`` is about to be
    deleted.
    """

    job_id: str
    label: str
    pipeline: str
    trigger: Trigger
    options: JobOptions
    work: str
    created_at: float
    state: JobState
    key: str | None = None
    kind: str = ""
    paused: bool = False
    gone: bool = False

    @property
    def run_keys(self) -> tuple[str | None, ...]:
        """The names that a run of the job may have: as only one run of a name is going at a
        time, they are what keeps runs from overlapping."""
        name = self.key or f"schedule:{self.job_id}"
        match self.options.overlap:
            case Overlap.ALLOW:
                return (self.key,)
            case Overlap.CANCEL_RUNNING:
                return (name,)
            case _:
                more = range(2, self.options.max_instances + 1)
                return (name, *(f"{name}#{number}" for number in more))

    def fire_at(self, tick: float) -> float:
        """When a tick is fired: the same for every scheduler, jitter included."""
        if not self.options.jitter_seconds:
            return tick
        digest = hashlib.sha256(f"{self.job_id}:{tick}".encode()).digest()
        share = int.from_bytes(digest[:6]) / (1 << 48)
        return tick + share * self.options.jitter_seconds

    def tick_name(self, tick: float) -> str:
        """What no two runs may have."""
        return f"{self.job_id}:{iso(tick)}"

    def next_tick(self) -> float | None:
        """The first tick about which nothing is decided; None when there is none any more."""
        return next(self.trigger.ticks(self.state.decided_until, self.created_at), None)

    def with_state(self, **changes: Any) -> Job:
        return replace(self, state=replace(self.state, **changes))

    def to_json(self) -> str:
        state = self.state
        claim = state.claim and {"by": state.claim.by, "at": state.claim.at}
        data = {
            **_plain(self),
            "trigger": trigger_to_json(self.trigger),
            "options": _plain(self.options),
            "state": {**_plain(state), "claim": claim},
        }
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Job:
        data: dict[str, Any] = json.loads(text)
        options: dict[str, Any] = data.pop("options")
        overlap, catch_up = Overlap(options.pop("overlap")), CatchUp(options.pop("catch_up"))
        state: dict[str, Any] = data.pop("state")
        claim: dict[str, Any] | None = state.pop("claim")
        waiting: list[float] = state.pop("waiting")
        return cls(
            trigger=trigger_from_json(data.pop("trigger")),
            options=JobOptions(overlap, catch_up, **options),
            state=JobState(
                waiting=tuple(waiting), claim=None if claim is None else Claim(**claim), **state
            ),
            **data,
        )


class Result(StrEnum):
    """What became of a tick."""

    FIRED = "fired"
    SKIPPED = "skipped"
    FAILED = "failed"  # its run could not be made, and never will be


class Outcome(NamedTuple):
    """What became of one tick, with its run or what went wrong."""

    tick: float
    result: Result
    run_id: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ScheduledJob:
    """A job as it is shown; ``str()`` of it is its id, which every method takes as well.

    ``next_tick`` is None while it is paused. ``waiting`` ticks run when the one before them has
    ended. ``failed`` counts ticks of which no run could be made; what becomes of a run is said by
    the run, and all runs of a job have the tag ``schedule:<job_id>``.
    """

    job_id: str
    label: str
    pipeline: str
    trigger: str
    options: JobOptions = field(repr=False)
    paused: bool
    created_at: datetime
    next_tick: datetime | None
    last_tick: datetime | None
    last_fired_at: datetime | None
    last_run_id: str | None
    last_error: str | None
    waiting: int
    fired: int
    skipped: int
    missed: int
    failed: int

    @classmethod
    def of(cls, job: Job) -> ScheduledJob:
        state = job.state
        coming = state.waiting[0] if state.waiting else job.next_tick()
        return cls(
            job_id=job.job_id,
            label=job.label,
            pipeline=job.pipeline,
            trigger=str(job.trigger),
            options=job.options,
            paused=job.paused,
            created_at=datetime.fromtimestamp(job.created_at, UTC),
            next_tick=None if job.paused else _shown(coming),
            last_tick=_shown(state.last_tick),
            last_fired_at=_shown(state.last_fired_at),
            last_run_id=state.last_run_id,
            last_error=state.last_error,
            waiting=len(state.waiting),
            fired=state.fired,
            skipped=state.skipped,
            missed=state.missed,
            failed=state.failed,
        )

    @property
    def id(self) -> str:
        return self.job_id

    @property
    def next_run_time(self) -> datetime | None:
        """Another name of ``next_tick``."""
        return self.next_tick

    def __str__(self) -> str:
        return self.job_id


def _plain(record: Job | JobOptions | JobState) -> dict[str, Any]:
    """The fields as they are; `dataclasses.asdict` copies them deeply, which takes long."""
    return {name: getattr(record, name) for name in record.__slots__}


def iso(at: float) -> str:
    """A time as text, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _shown(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)
