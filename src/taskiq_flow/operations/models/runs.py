"""What is shown of a run: as a row, and whole with its steps and values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taskiq_flow.engine.standing import Cause
from taskiq_flow.model.records import RunFilter, RunStatus, StepKind, StepStatus

SHORT = 8
"""So many last characters of an id are shown: the first of a UUIDv7 are the clock."""


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Which runs a listing shows; every field narrows it.

    ``since`` and ``until`` are about the runs' creation, ``ended_since`` and ``ended_until`` about
    their end; all times are aware, the later ones excluded. ``search`` is how the name begins.
    """

    status: RunStatus | None = None
    name: str | None = None
    search: str | None = None
    kind: str | None = None
    tag: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ended_since: datetime | None = None
    ended_until: datetime | None = None

    @property
    def is_narrow(self) -> bool:
        """Whether it asks for runs by two fields or more: no index knows how many these are."""
        fields = (self.status, self.name, self.search, self.kind, self.tag)
        times = (self.since or self.until, self.ended_since or self.ended_until)
        return sum(map(bool, fields)) > 1 or bool(times[1] and (times[0] or any(fields)))

    def as_filter(self) -> RunFilter:
        """The same question for a run store."""
        return RunFilter(
            status=self.status,
            name=self.name,
            search=self.search or None,
            kind=self.kind,
            tag=self.tag,
            since=_seconds(self.since),
            until=_seconds(self.until),
            ended_since=_seconds(self.ended_since),
            ended_until=_seconds(self.ended_until),
        )


@dataclass(frozen=True, slots=True)
class Preview:
    """A stored value as JSON, redacted and cut to a size that a page can show.

    ``type`` is what it is in JSON, or the tag of what stands in for it; ``size`` are the bytes
    that are stored. ``is_cut`` says that ``value`` is not all of it: text, lists and dicts end
    early then, and what is too deep is an ellipsis. ``length`` is that of a list, dict or text.
    """

    value: Any
    type: str
    size: int
    length: int | None = None
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class ErrorView:
    """What went wrong: the type and message of an exception, and its traceback as text."""

    type: str
    message: str
    traceback: str = ""
    step: str | None = None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run as a row of a list. ``pipeline_id`` is the name given to this run, else its id.

    ``steps_done`` counts steps that have ended, however they ended. ``reason`` is why it was
    cancelled, ``error`` why it failed, in one line.
    """

    run_id: str
    pipeline_id: str
    name: str
    kind: str
    status: RunStatus
    tags: tuple[str, ...]
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    duration_ms: float | None
    steps_total: int
    steps_done: int
    failures: int
    error: str | None = None
    reason: str | None = None
    parent_id: str | None = None

    @property
    def short_id(self) -> str:
        return self.run_id[-SHORT:]

    @property
    def title(self) -> str:
        """What to call it: the pipeline's name, else the run's, else the end of its id."""
        return self.name or (self.pipeline_id if self.pipeline_id != self.run_id else self.short_id)


@dataclass(frozen=True, slots=True)
class RunPage:
    """One page of a listing, newest first; ``cursor`` asks for the next one, None at the end.

    ``total`` is how many the query finds at all, where it was asked for; of what two fields or more
    find 1,000 are counted.
    """

    runs: tuple[RunSummary, ...]
    cursor: str | None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class StepDetail:
    """A step of a run with its definition; one that has not started is WAITING.

    ``attempt`` counts tries that failed before the present one, ``attempts_most`` how many there
    may be; ``lost`` counts leases that ran out. ``items_*`` are those of a map. ``event`` is what
    it waits for, ``note`` says why it stands still or did not run. ``is_builtin`` marks work of
    the engine itself. ``progress`` is what its task has said: current, total, message.
    """

    index: int
    name: str
    task: str
    kind: StepKind
    status: StepStatus
    queue: str
    after: tuple[str, ...]
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_ms: float | None = None
    attempt: int = 0
    attempts_most: int = 1
    retry_at: datetime | None = None
    lost: int = 0
    items_total: int | None = None
    items_done: int = 0
    items_failed: int = 0
    progress: Mapping[str, Any] | None = None
    event: str | None = None
    timeout_seconds: float | None = None
    error: ErrorView | None = None
    note: str | None = None
    is_builtin: bool = False
    is_map: bool = False
    is_taken_over: bool = False
    """Its output is that of the run that this one was made of."""


@dataclass(frozen=True, slots=True)
class StandingView:
    """Why steps of a run have not ended: ``text`` says what of them, ``advice`` what helps.

    ``until`` is when it passes by itself. ``steps`` are the first of the ``count`` that share it.
    ``held_by`` are ids of runs that hold the limits that are waited for, oldest first.
    """

    cause: Cause
    text: str
    advice: str
    since: datetime | None
    until: datetime | None
    steps: tuple[str, ...]
    count: int
    is_trouble: bool
    held_by: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.text}; {self.advice}" if self.advice else self.text


@dataclass(frozen=True, slots=True)
class RunDetail:
    """All that a page says of one run, but for its graph, timeline, log and events.

    ``inputs`` are by name, ``outputs`` by output or step name, both of a bounded number
    (``outputs_left_out`` counts the others). ``standing`` says why steps have not ended, trouble
    first; ``note`` is that in a sentence where it does not pass by itself. ``can`` are the actions
    that make sense now: cancel, retry, resume, fork, send_event. ``waits_for`` are names of events
    that steps wait for now.
    """

    summary: RunSummary
    deadline: datetime | None
    steps: tuple[StepDetail, ...]
    inputs: Mapping[str, Preview]
    outputs: Mapping[str, Preview]
    result: Preview | None
    error: ErrorView | None
    failed_step: str | None
    note: str | None
    standing: tuple[StandingView, ...]
    retry_of: str | None
    fork_of: str | None
    retried_as: str | None
    children: RunPage
    can: frozenset[str]
    waits_for: tuple[str, ...]
    outputs_left_out: int = 0

    @property
    def run_id(self) -> str:
        return self.summary.run_id

    def step(self, name: str) -> StepDetail | None:
        return next((step for step in self.steps if step.name == name), None)


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
