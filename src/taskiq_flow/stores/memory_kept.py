"""What a run store in memory keeps: runs with all that belongs to them, and their feed."""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from operator import itemgetter
from typing import Any, TypeAlias

from taskiq_flow.exceptions import BacklogFullError, DuplicatePipelineError, DuplicateTickError
from taskiq_flow.model.limits import LimitBook
from taskiq_flow.model.records import (
    NONE_VALUE,
    Address,
    EventRecord,
    Grant,
    ItemGrant,
    NewRun,
    Ready,
    RunSnapshot,
    SequenceValue,
    StepSnapshot,
    StepStatus,
    Value,
    Wake,
    WakeKind,
    WorkerRecord,
    bound_items_key,
)
from taskiq_flow.model.state import (
    Claim,
    Effects,
    OpenSlot,
    RunState,
    SlotStatus,
    new_dict,
)
from taskiq_flow.stores.base import EndListener
from taskiq_flow.stores.memory_listing import Listing

LOG_LINES = 10_000
"""Log lines kept of one run."""

FEED_EVENTS = 10_000
"""Events of all runs kept for those who follow the feed."""

Journal: TypeAlias = list[Any]
"""The events of a run: its id, and then the six fields of each that its number does not tell.

One list, because a tuple for each would keep the garbage collector busy.
"""

_WIDTH = 6


@dataclass(slots=True)
class KeptRun:
    """A run with all that belongs to it."""

    new: NewRun
    state: RunState
    values: dict[int, bytes]
    items: dict[int, dict[int, bytes]]
    journal: Journal
    queued: dict[tuple[int, int], float] = field(default_factory=new_dict)
    unsettled: tuple[WakeKind, ...] = ()  # in the order in which it is settled
    pending: bool = False  # counts against its backlog
    notes: Notes | None = None  # most runs leave none

    def read_events(self, after: int, limit: int) -> list[EventRecord]:
        last = min(len(self.journal) // _WIDTH, after + limit)
        return [_event(self.journal, seq) for seq in range(after + 1, last + 1)]

    def unsettled_wakes(self) -> tuple[Wake, ...]:
        run_id, parent = self.new.run_id, self.new.parent
        return tuple([Wake(kind, run_id, parent=parent) for kind in self.unsettled])

    def notes_made(self) -> Notes:
        """Its notes, from the first one on."""
        if self.notes is None:
            self.notes = Notes()
        return self.notes

    def ready(self, slots: Sequence[tuple[int, int]]) -> tuple[Ready, ...]:
        """Slots as they are announced."""
        return tuple([self._ready(*at) for at in slots]) if slots else ()

    def _ready(self, step: int, number: int) -> Ready:
        record = self.new.steps[step]
        address = Address(self.new.run_id, step, number)
        return Ready(address, record.queue, record.route, record.task)

    def grant(self, claim: Claim, now: float) -> Grant:
        state = self.state
        index = claim.at[0]
        record, step, slot = self.new.steps[index], state.steps[index], state.slots[claim.at]
        items: tuple[ItemGrant, ...] = ()
        if claim.items:
            source = self.items.get(self._items_key(index), {})
            items = tuple(ItemGrant(i, source[i], attempt) for i, attempt in claim.items)
        return Grant(
            address=Address(self.new.run_id, *claim.at),
            token=claim.token,
            blob=record.blob,
            values=tuple([self._value(key) for key in record.sources]),
            attempt=slot.attempt,
            lost=slot.lost,
            granted_at=now if slot.started_at is None else slot.started_at,
            ready_at=slot.ready_at,
            run_started_at=state.started_at or state.created_at,
            run_name=self.new.key or self.new.run_id,
            deadline=state.deadline,
            items=items,
            length=step.length,
            expand=claim.expand,
            note=slot.note,
            step_started_at=step.started_at,
        )

    def _items_key(self, step: int) -> int:
        source = self.new.steps[step].items_from
        if source is not None and self.state.steps[source].out_length is not None:
            return source
        return bound_items_key(step)

    def _value(self, key: int) -> Value:
        if key >= 0:
            length = self.state.steps[key].out_length
            if length is not None and key not in self.values:
                return SequenceValue(key, length)
        return self.values.get(key, NONE_VALUE)

    def delay_of(self, at: tuple[int, int], now: float) -> float | None:
        """How long the first message for a slot has taken; None where nothing can be said."""
        slot = self.state.slots.get(at)
        if slot is None or slot.status is not SlotStatus.READY or slot.kicks > 0:
            return None
        released = slot.started_at is not None and slot.started_at >= slot.ready_at
        return None if released or self.new.steps[at[0]].limits else now - slot.ready_at

    def read_values(self, keys: Sequence[int]) -> dict[int, Value]:
        found: dict[int, Value] = {}
        for key in keys:
            if key in self.values:
                found[key] = self.values[key]
                continue
            step = self.state.steps.get(key)
            if step and step.out_length is not None and step.status is StepStatus.COMPLETED:
                found[key] = SequenceValue(key, step.out_length)
        return found

    def open_slots(self, steps: frozenset[int]) -> list[OpenSlot]:
        """Slots of these steps that are not done, in order."""
        if self.state.status.is_final:
            return []
        return [
            OpenSlot(
                step=at[0],
                slot=at[1],
                status=slot.status,
                due=slot.due,
                ready_at=slot.ready_at,
                started_at=slot.started_at,
                token=slot.token,
                lost=slot.lost,
                kicks=slot.kicks,
            )
            for at, slot in sorted(self.state.slots.items(), key=itemgetter(0))
            if at[0] in steps and slot.status is not SlotStatus.DONE
        ]

    def snapshot(self, *, steps: bool) -> RunSnapshot:
        state, new = self.state, self.new
        started = (
            tuple(
                self._step_snapshot(index)
                for index, step in state.steps.items()
                if step.started_at is not None or step.ended_at is not None
            )
            if steps
            else ()
        )
        return RunSnapshot(
            run_id=new.run_id,
            namespace=new.namespace,
            name=new.name,
            key=new.key,
            kind=new.kind,
            status=state.status,
            tags=new.tags,
            created_at=state.created_at,
            started_at=state.started_at,
            ended_at=state.ended_at,
            deadline=state.deadline,
            remaining=state.remaining,
            total=len(new.steps),
            failed_step=state.failed_step,
            error=state.error,
            reason=state.reason,
            failures=state.failures,
            parent=new.parent,
            meta=new.meta,
            steps=started,
        )

    def _step_snapshot(self, index: int) -> StepSnapshot:
        step, record = self.state.steps[index], self.new.steps[index]
        status = step.status
        if self.state.status.is_final and not status.is_final:
            status = StepStatus.CANCELLED
        return StepSnapshot(
            index=index,
            name=record.name,
            task=record.task,
            kind=record.kind,
            status=status,
            started_at=step.started_at,
            ended_at=step.ended_at,
            attempt=step.attempt,
            lost=step.lost,
            error=step.error,
            retry_at=step.retry_at,
            length=step.length,
            items_done=0 if step.length is None else step.length - step.left,
            items_failed=step.failed,
            progress=None if self.notes is None else self.notes.progress.get(index),
        )


@dataclass(slots=True)
class Notes:
    """What the steps of a run say while they run."""

    progress: dict[int, bytes] = field(default_factory=new_dict)
    log: deque[bytes] = field(default_factory=lambda: deque[bytes](maxlen=LOG_LINES))
    logged: int = 0

    def append(self, lines: Sequence[bytes]) -> None:
        self.log.extend(lines)
        self.logged += len(lines)

    def read(self, after: int, limit: int) -> tuple[list[bytes], int]:
        """Lines after a position, and the position after them; the oldest may be gone."""
        first = self.logged - len(self.log)
        start = max(after, first)
        lines = list(islice(self.log, start - first, start - first + limit))
        return lines, start + len(lines)


@dataclass(slots=True)
class Shared:
    """What a store and its twins have in common."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    runs: dict[str, KeptRun] = field(default_factory=dict[str, KeptRun])
    by_key: dict[str, str] = field(default_factory=dict[str, str])
    ticks: dict[str, float] = field(default_factory=dict[str, float])  # when each fired, in order
    backlog: dict[str, int] = field(default_factory=dict[str, int])
    due: dict[str, list[tuple[float, str, int, int]]] = field(
        default_factory=dict[str, list[tuple[float, str, int, int]]]
    )
    limits: LimitBook = field(default_factory=LimitBook)
    ended: dict[str, None] = field(default_factory=dict[str, None])  # in order
    # For each event the journal that has it, and its number there.
    feed: deque[Journal | int] = field(
        default_factory=lambda: deque["Journal | int"](maxlen=2 * FEED_EVENTS)
    )
    fed: int = 0
    last_due: float | None = None
    hold_until: float = 0.0
    delays: dict[str, float] = field(default_factory=dict[str, float])
    workers: dict[str, tuple[WorkerRecord, float]] = field(
        default_factory=dict[str, tuple[WorkerRecord, float]]
    )
    listeners: list[EndListener] = field(default_factory=list[EndListener])
    beside: dict[str, Any] = field(default_factory=new_dict)
    listing: Listing = field(default_factory=Listing)
    elsewhere: dict[str, Shared] = field(default_factory=dict[str, "Shared"])  # by namespace

    def admit(self, new: NewRun) -> None:
        """Refuse a run that may not be created now."""
        if new.key is not None:
            other = self.runs.get(self.by_key.get(new.key, ""))
            if other is not None and not other.state.status.is_final:
                raise DuplicatePipelineError(new.key, other.new.run_id)
        if new.tick is not None and new.tick in self.ticks:
            raise DuplicateTickError(new.tick)
        if new.backlog is not None:
            name, most = new.backlog
            if self.backlog.get(name, 0) >= most:
                raise BacklogFullError(name, most)

    def forget_ticks(self, before: float) -> None:
        """Forget ticks that fired before a time."""
        for tick in [*takewhile(lambda tick: self.ticks[tick] < before, self.ticks)]:
            del self.ticks[tick]

    def record(self, run: KeptRun, effects: Effects, now: float) -> None:
        """Add events to a run's own and to the feed."""
        journal, feed = run.journal, self.feed
        seq = len(journal) // _WIDTH
        for event in effects.events:
            seq += 1
            journal.append(now)
            journal.extend(event)
            feed.append(journal)
            feed.append(seq)
        self.fed += len(effects.events)

    def take_due(self, queue: str, now: float, most: int) -> list[tuple[float, str, int, int]]:
        """Take the first entries of a queue that are due, in order."""
        heap, found = self.due.get(queue, []), list[tuple[float, str, int, int]]()
        while heap and heap[0][0] <= now and len(found) < most:
            found.append(heapq.heappop(heap))
        return found

    def read_feed(self, position: int, limit: int) -> tuple[list[EventRecord], int]:
        """Events after a position, and the position after them; the oldest may be gone."""
        kept = len(self.feed) // 2
        first = max(position, self.fed - kept)
        start = 2 * (kept - (self.fed - first))
        found: list[Any] = list(islice(self.feed, start, start + 2 * limit))
        fresh = [_event(journal, seq) for journal, seq in zip(found[::2], found[1::2], strict=True)]
        return fresh, first + len(fresh)


def _event(journal: Journal, seq: int) -> EventRecord:
    end = seq * _WIDTH + 1
    return EventRecord(journal[0], seq, *journal[end - _WIDTH : end])
