"""What a run is created with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from taskiq_flow.model.records.values import Value
from taskiq_flow.model.records.words import Join, OnFailure, StepKind


class Address(NamedTuple):
    """One place where work is claimed: a slot of a step of a run."""

    run_id: str
    step: int
    slot: int


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound that holds over all runs and workers of a namespace.

    ``most`` holders at once, or ``per_second`` starts (evenly spaced after ``burst``). Of those
    that wait for one of the ``most`` places, the highest ``priority`` is woken first.
    """

    key: str
    most: int | None = None
    per_second: float | None = None
    burst: int = 1
    priority: int = 0


class StepRecord(NamedTuple):
    """The immutable part of a step, as the store needs it.

    ``blob`` is everything that the worker needs and the store does not read.
    ``sources`` are the keys of the values handed over with a grant: a step's index, or a
    negative number for a run input. ``queue`` names broker and queue: a worker only hears of
    steps of queues that it serves. ``route`` are the labels of the step's message (JSON);
    a step continues in place only after one of the same queue and route.
    """

    index: int  # pyright: ignore[reportIncompatibleMethodOverride] - nobody searches a step
    name: str
    task: str
    blob: bytes
    successors: tuple[int, ...] = ()
    need: int = 0
    sources: tuple[int, ...] = ()
    queue: str = ""
    route: str = ""
    kind: StepKind = StepKind.TASK
    slots: int = 1
    items_from: int | None = None
    join: Join = Join.ALL
    lost_most: int = 8
    delay_seconds: float | None = None
    event: str | None = None
    on_failure: OnFailure = OnFailure.STOP
    limits: tuple[Limit, ...] = ()


_NOTHING: Mapping[int, Any] = {}


def bound_items_key(step: int) -> int:
    """The key of items that a map step was given itself; outputs have keys from 0 up,
    run inputs from -1 down."""
    return -1_000_000_000 - step


class NewRun(NamedTuple):
    """A run to be stored; ``inputs`` by negative key, ``lengths`` of items bound at the start.

    ``key`` is the name under which only one run may be going at a time. ``tick`` is unique for
    a week at least (a schedule's firing): a second run of the same tick is not created.
    ``backlog`` bounds how many runs of one key may be PENDING. ``done`` are steps of an earlier
    run whose outputs this one takes over instead of running them; None for one that stays
    skipped.
    """

    run_id: str
    namespace: str
    steps: Sequence[StepRecord]
    plan: bytes
    kind: str
    name: str = ""
    key: str | None = None
    tags: tuple[str, ...] = ()
    inputs: Mapping[int, bytes] = _NOTHING
    lengths: Mapping[int, int] = _NOTHING
    done: Mapping[int, Value | None] = _NOTHING
    timeout_seconds: float | None = None
    max_parallel: int | None = None
    publish: bool = False
    queue: str = ""
    parent: Address | None = None
    tick: str | None = None
    backlog: tuple[str, int] | None = None
    meta: bytes = b""
