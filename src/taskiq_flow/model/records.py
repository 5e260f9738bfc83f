"""What goes into a run store and what comes out of it: frozen facts, values as opaque bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

from taskiq_flow.events import EventType


class RunStatus(StrEnum):
    """Where a run is; the last three are final."""

    PENDING = "PENDING"  # stored, no step has started
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    is_final: bool

    def __init__(self, word: str) -> None:
        self.is_final = word in {"COMPLETED", "FAILED", "CANCELLED"}


class StepStatus(StrEnum):
    """Where a step is; the last four are final."""

    WAITING = "WAITING"  # for the steps it needs
    READY = "READY"  # a worker may take it
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"  # between two attempts
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    CANCELLED = "CANCELLED"  # its run ended first

    is_final: bool

    def __init__(self, word: str) -> None:
        self.is_final = word in {"COMPLETED", "FAILED", "SKIPPED", "CANCELLED"}


class StepKind(StrEnum):
    """What makes a step complete."""

    TASK = "task"  # a worker ran it
    MAP = "map"  # workers ran it for every item
    TIMER = "timer"  # time passed; no worker needed
    EVENT = "event"  # an event of its name arrived; no worker needed


class Join(StrEnum):
    """When a step with skipped dependencies runs all the same."""

    ALL = "all"  # never: one skipped dependency skips it
    ANY = "any"  # if at least one dependency was not skipped


class OnFailure(StrEnum):
    """What the final failure of a step does to its run."""

    STOP = "stop"  # the run fails
    PASS = "pass"  # noqa: S105 - dependants run, with ``None`` in its place
    SKIP = "skip"  # dependants are skipped, all others run
    LATER = "later"  # the same, and then the run fails


NONE_VALUE = b"null"
"""The stored form of ``None``, which a failed step leaves for those who read it."""


class Address(NamedTuple):
    """One place where work is claimed: a slot of a step of a run."""

    run_id: str
    step: int
    slot: int


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound that holds over all runs and workers of a namespace.

    ``most`` holders at once, or ``per_second`` starts (evenly spaced after ``burst``).
    """

    key: str
    most: int | None = None
    per_second: float | None = None
    burst: int = 1


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


class SequenceValue(NamedTuple):
    """Stands for a value that is stored item by item, under ``key``."""

    key: int
    length: int


Value: TypeAlias = bytes | SequenceValue

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


class Ready(NamedTuple):
    """A slot that a message should be sent for."""

    address: Address
    queue: str
    route: str
    task: str


class ItemGrant(NamedTuple):
    """One item of a map step to run; ``value`` carries its mark, see `ItemMark`."""

    number: int
    value: bytes
    attempt: int


class ItemMark:
    """First byte of every stored item, so that order survives what was dropped."""

    VALUE = b"="
    DROPPED = b"-"  # filtered out, or failed where errors are skipped
    FAILED = b"!"  # followed by the error; reads as None


class Grant(NamedTuple):
    """A lease on a slot, with all that is needed to run it.

    ``attempt`` counts failures of user code before this try; ``lost`` counts leases that
    expired before it. ``granted_at`` and ``deadline`` are the store's clock. ``expand`` asks the
    worker to split the first source into items. ``note`` is what a parked slot was resumed with.
    ``step_started_at`` is when the step's first attempt began.
    """

    address: Address
    token: str
    blob: bytes
    values: tuple[Value, ...]
    attempt: int
    lost: int
    granted_at: float
    ready_at: float
    run_started_at: float
    run_name: str
    deadline: float | None = None
    items: tuple[ItemGrant, ...] = ()
    length: int | None = None
    expand: bool = False
    note: str | None = None
    step_started_at: float | None = None


class RefusalReason(StrEnum):
    """Why a slot was not granted."""

    GONE = "gone"  # no such run or slot (any more)
    ENDED = "ended"  # its run has ended
    DONE = "done"
    RUNNING = "running"  # somebody else holds it
    WAITING = "waiting"  # not due yet, or for another step
    LIMITED = "limited"  # a limit is used up; a message comes when it is free


class Refusal(NamedTuple):
    """The answer to a start that may not be; ``retry_at`` is when it becomes due, if known."""

    reason: RefusalReason
    retry_at: float | None = None


# --- outcomes: what a worker reports -------------------------------------------------------


class Done(NamedTuple):
    """The step returned ``value``; ``skip`` names successors that are not taken."""

    value: bytes
    skip: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DoneSequence:
    """The step returned ``length`` items, already stored one by one."""

    length: int


@dataclass(frozen=True, slots=True)
class Expanded:
    """The items of a map step, ``length`` of them, are stored; its slots may open."""

    length: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The step failed for good."""

    error: bytes
    then: OnFailure = OnFailure.STOP


@dataclass(frozen=True, slots=True)
class Retry:
    """The step failed and is due again after ``delay_seconds``."""

    error: bytes
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Aborted:
    """The step asked for its run to end as CANCELLED."""

    reason: str


@dataclass(frozen=True, slots=True)
class Parked:
    """The step waits for something without a worker, at most until ``timeout_seconds``."""

    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ItemDone:
    """One item is finished; ``value`` carries its mark."""

    number: int
    value: bytes


@dataclass(frozen=True, slots=True)
class ItemRetry:
    """One item failed and is due again after ``delay_seconds``."""

    number: int
    error: bytes
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Items:
    """What became of some of a slot's items; ``failed`` ends the step after recording them.

    ``errors`` counts the items among ``done`` whose value is a FAILED mark or a skipped error.
    ``want`` is how many items the worker would take next (the store may give fewer).
    """

    done: tuple[ItemDone, ...]
    retries: tuple[ItemRetry, ...] = ()
    failed: Failed | None = None
    errors: int = 0
    want: int = 1


Outcome: TypeAlias = Done | DoneSequence | Expanded | Failed | Retry | Aborted | Parked | Items


def stored_items(outcome: Outcome, step: int) -> tuple[int, int] | None:
    """The key and the number of items that an outcome says have been stored, if it is of such.

    They were stored in calls before it: a store that failed over may have forgotten them, and
    refuses the outcome then.
    """
    match outcome:
        case DoneSequence(length=length):
            return step, length
        case Expanded(length=length):
            return bound_items_key(step), length
        case _:
            return None


class WakeKind(StrEnum):
    """What `due` found to be done."""

    KICK = "kick"  # send a message for the slot
    PUBLISH = "publish"  # hand the outcome of an ended run to the result backend
    NOTIFY = "notify"  # tell the parent step that its child run has ended


class Wake(NamedTuple):
    """One thing that stood still and was claimed by the caller of `due`."""

    kind: WakeKind
    run_id: str
    ready: Ready | None = None
    parent: Address | None = None


class Finished(NamedTuple):
    """The answer to `finish`; ``recorded`` is False for a stale token, which changed nothing.

    ``retry_at`` is when this slot, or one that it opened, is due by itself (store's clock), so
    that the worker can look then instead of at the next round. ``wakes`` are what an ended run
    leaves to do (publish, notify); `due` repeats them until they are settled.
    """

    recorded: bool
    ready: tuple[Ready, ...] = ()
    grant: Grant | None = None
    ended: RunStatus | None = None
    retry_at: float | None = None
    wakes: tuple[Wake, ...] = ()


class LostReason(StrEnum):
    """Why a lease could not be renewed."""

    TAKEN = "taken"  # it expired, and the slot was given back or taken by another worker
    CANCELLED = "cancelled"  # its run was cancelled
    ENDED = "ended"  # its run, or its step, ended otherwise


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
