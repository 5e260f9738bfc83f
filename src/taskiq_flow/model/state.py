"""The changing part of a run: what the transitions read and write."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, cast

from taskiq_flow.events import EventType
from taskiq_flow.model.records import Address, RunStatus, StepRecord, StepStatus

# As a factory `list[int]` takes five times as long as `list`: it looks for a place on every new
# list to note its type there.
new_list = cast("Callable[[], list[Any]]", list)
new_dict = cast("Callable[[], dict[Any, Any]]", dict)
new_deque = cast("Callable[[], deque[Any]]", deque)


class SlotStatus(StrEnum):
    """Where a slot is. One letter, because every store writes it with every step."""

    READY = "R"  # due: when its message is sent again
    RUNNING = "X"  # due: when its lease ends
    TIMER = "T"  # due: when it becomes ready
    BLOCKED = "B"  # behind the run's own limit; no due
    PARKED = "P"  # waits for an event or a child run; due: its timeout
    DONE = "D"


@dataclass(slots=True)
class SlotState:
    """One place where work of a step is claimed.

    ``token`` fences: only the holder of the newest one may finish. ``last_token`` is kept after
    a lost lease, so that a late finish counts as long as nobody else began. ``finish_token`` and
    ``answer`` replay the last finish when its reply was lost. ``items`` are in flight.
    """

    status: SlotStatus
    due: float | None
    ready_at: float
    token: str | None = None
    last_token: str | None = None
    finish_token: str | None = None
    answer: Answer | None = None
    started_at: float | None = None
    attempt: int = 0
    lost: int = 0
    kicks: int = 0
    items: tuple[int, ...] = ()
    note: str | None = None


class OpenSlot(NamedTuple):
    """A slot that is not done, as it is looked at: see `SlotState`."""

    step: int
    slot: int
    status: SlotStatus
    due: float | None
    ready_at: float
    started_at: float | None
    token: str | None
    lost: int
    kicks: int


@dataclass(frozen=True, slots=True)
class Holders:
    """How many slots hold a limit, and the first of them, those of the oldest runs."""

    count: int
    first: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class OpenSlots:
    """What is open of a run at a time of the store's clock, and who holds limits, by their keys."""

    now: float
    slots: tuple[OpenSlot, ...]
    holders: Mapping[str, Holders]


@dataclass(slots=True)
class StepState:
    """A step of one run. ``waiting_for`` counts down to 0; ``cursor`` walks over the items."""

    record: StepRecord
    status: StepStatus
    waiting_for: int
    skipped: int = 0  # of its dependencies
    started_at: float | None = None
    ended_at: float | None = None
    attempt: int = 0
    lost: int = 0
    error: bytes | None = None
    retry_at: float | None = None
    out_length: int | None = None  # its output is stored item by item
    length: int | None = None  # of the items that it maps over
    cursor: int = 0
    left: int = 0
    failed: int = 0
    retries: list[tuple[float, int]] | None = None  # a heap, once an item is retried
    attempts: dict[int, int] | None = None  # of items that failed, once one has

    @property
    def next_retry(self) -> float | None:
        """When the first item that waits for another try is due."""
        return self.retries[0][0] if self.retries else None

    def attempt_of(self, number: int) -> int:
        """How often an item has failed."""
        return 0 if self.attempts is None else self.attempts.get(number, 0)

    def note_attempt(self, number: int, failures: int) -> None:
        """Note how often an item has failed."""
        if self.attempts is None:
            self.attempts = {}
        self.attempts[number] = failures

    def retry_item(self, number: int, due: float) -> None:
        """Note that an item is to be tried again."""
        if self.retries is None:
            self.retries = []
        heapq.heappush(self.retries, (due, number))


@dataclass(slots=True)
class RunState:
    """A run. ``remaining`` steps have not ended; ``running`` slots are held now.

    A store may load only the steps and slots that an operation touches: the slot's own step,
    its successors, and the steps that those take their items from.
    """

    run_id: str
    status: RunStatus
    remaining: int
    created_at: float
    deadline: float | None
    max_parallel: int | None
    publish: bool
    parent: Address | None
    started_at: float | None = None
    ended_at: float | None = None
    failed_step: int | None = None
    error: bytes | None = None
    reason: str | None = None
    failures: int = 0
    running: int = 0
    blocked: deque[tuple[int, int]] | None = None  # made with the first slot behind its limit
    steps: dict[int, StepState] = field(default_factory=new_dict)
    slots: dict[tuple[int, int], SlotState] = field(default_factory=new_dict)
    inbox: dict[str, bytes] = field(default_factory=new_dict)


class Claim(NamedTuple):
    """What a grant is for; the store adds blob and values. ``items`` are (index, attempt)."""

    at: tuple[int, int]
    token: str
    items: tuple[tuple[int, int], ...] = ()
    expand: bool = False


class Answer(NamedTuple):
    """The answer to a finish, kept until the next one of the same slot, to be given again."""

    ready: tuple[tuple[int, int], ...] = ()
    claimed: tuple[int, int] | None = None
    next_token: str | None = None
    ended: bool = False
    retry_at: float | None = None


@dataclass(slots=True)
class Effects:
    """What a transition asks its store to do, beside saving the state that it changed.

    ``ready`` slots are to be sent; ``sleeping`` ones become due by themselves. ``repeated`` says
    that this was answered before: all was saved and told then. ``recorded`` is False where an
    outcome came too late to count.
    """

    ready: list[tuple[int, int]] = field(default_factory=new_list)
    sleeping: list[tuple[int, int]] = field(default_factory=new_list)
    claim: Claim | None = None
    values: dict[int, bytes] = field(default_factory=new_dict)  # outputs by step
    items: Mapping[int, bytes] | None = None  # of the finishing step
    events: list[tuple[EventType, int | None, int | None, int, str]] = field(
        default_factory=new_list
    )
    freed: Sequence[Address] = ()  # waited for a limit, of any run
    ended: bool = False
    retry_at: float | None = None
    repeated: bool = False
    recorded: bool = True
