"""What a worker is given: places to work at, leases, refusals, answers."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from taskiq_flow.model.records.runs import Address
from taskiq_flow.model.records.values import Value
from taskiq_flow.model.records.words import RunStatus


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


class LostReason(StrEnum):
    """Why a lease could not be renewed."""

    TAKEN = "taken"  # it expired, and the slot was given back or taken by another worker
    CANCELLED = "cancelled"  # its run was cancelled
    ENDED = "ended"  # its run, or its step, ended otherwise


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

    It is also False when the run had ended: then ``ready`` are who waited for the slot's limits.

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
