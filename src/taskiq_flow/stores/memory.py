"""A run store in the memory of one process: the model itself, behind a lock."""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise, takewhile
from typing import Any, TypeAlias

from taskiq_flow.exceptions import (
    BacklogFullError,
    DuplicatePipelineError,
    DuplicateTickError,
    RunNotFoundError,
)
from taskiq_flow.model import transitions
from taskiq_flow.model.limits import LimitBook, after_outage
from taskiq_flow.model.records import (
    NONE_VALUE,
    Address,
    EventRecord,
    EventType,
    Finished,
    Grant,
    ItemGrant,
    LostReason,
    NewRun,
    Outcome,
    Ready,
    Refusal,
    RefusalReason,
    RunFilter,
    RunSnapshot,
    RunStatus,
    SequenceValue,
    StepSnapshot,
    StepStatus,
    StepTotal,
    Value,
    Wake,
    WakeKind,
    WorkerRecord,
    bound_items_key,
    stored_items,
)
from taskiq_flow.model.state import (
    Claim,
    Effects,
    RunState,
    SlotStatus,
    new_dict,
    new_list,
)
from taskiq_flow.stores.base import (
    TICK_SECONDS,
    Ending,
    EndListener,
    Held,
    Page,
    RunStore,
    StoreOptions,
)
from taskiq_flow.stores.memory_listing import FINAL, Listing, Place, summed_steps

LOG_LINES = 10_000
"""Log lines kept of one run."""

FEED_EVENTS = 10_000
"""Events of all runs kept for those who follow the feed."""

PUBLISH_AGAIN_SECONDS = 5.0
"""How long the worker that saw a run end has to publish it before another one does."""

DEADLINE, PUBLISH, NOTIFY = -1, -2, -3
"""Stand for the step where a due entry belongs to the run itself."""


_Event: TypeAlias = tuple[str, int, float, str, int | None, int | None, int, str]
"""An `EventRecord` with its type as a word."""

_WORDS = {kind: kind.value for kind in EventType}


@dataclass(slots=True)
class _Run:
    """A run with all that belongs to it."""

    new: NewRun
    state: RunState
    values: dict[int, bytes]
    items: dict[int, dict[int, bytes]]
    events: list[_Event] = field(default_factory=new_list)
    queued: dict[tuple[int, int], float] = field(default_factory=new_dict)
    unsettled: tuple[WakeKind, ...] = ()  # in the order in which it is settled
    pending: bool = False  # counts against its backlog
    notes: _Notes | None = None  # most runs leave none


@dataclass(slots=True)
class _Notes:
    """What the steps of a run say while they run."""

    progress: dict[int, bytes] = field(default_factory=new_dict)
    log: deque[bytes] = field(default_factory=lambda: deque[bytes](maxlen=LOG_LINES))
    logged: int = 0


@dataclass(slots=True)
class _Shared:
    """What a store and its twins have in common."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    runs: dict[str, _Run] = field(default_factory=dict[str, _Run])
    by_key: dict[str, str] = field(default_factory=dict[str, str])
    ticks: dict[str, float] = field(default_factory=dict[str, float])  # when each fired, in order
    backlog: dict[str, int] = field(default_factory=dict[str, int])
    due: dict[str, list[tuple[float, str, int, int]]] = field(
        default_factory=dict[str, list[tuple[float, str, int, int]]]
    )
    limits: LimitBook = field(default_factory=LimitBook)
    ended: dict[str, None] = field(default_factory=dict[str, None])  # in order
    feed: deque[_Event] = field(default_factory=lambda: deque["_Event"](maxlen=FEED_EVENTS))
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
    elsewhere: dict[str, _Shared] = field(default_factory=dict[str, "_Shared"])  # by namespace


class MemoryRunStore(RunStore):
    """Runs in this process; gone with it.

    Safe to use from several threads: the lease thread renews through a `twin`.
    """

    shared = False

    def __init__(
        self,
        options: StoreOptions | None = None,
        *,
        clock: Callable[[], float] = time.time,
        _shared: _Shared | None = None,
    ) -> None:
        super().__init__("memory://", options or StoreOptions())
        self._clock = clock
        self._data = _shared or _Shared()
        self._pace = self.options.pace

    @property
    def beside(self) -> dict[str, Any]:
        """What lives beside the runs, by purpose; see `taskiq_flow.storage.beside`."""
        return self._data.beside

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Runs stay as long as the object does."""

    def twin(self, *, namespace: str | None = None) -> MemoryRunStore:
        if namespace in (None, self.options.namespace):
            return MemoryRunStore(self.options, clock=self._clock, _shared=self._data)
        options = replace(self.options, namespace=namespace)
        with self._data.lock:
            shared = self._data.elsewhere.setdefault(namespace, _Shared())
        return MemoryRunStore(options, clock=self._clock, _shared=shared)

    # -- the life of a run

    async def create(
        self, new: NewRun, items: Mapping[int, Iterable[bytes]] | None = None
    ) -> tuple[Ready, ...]:
        stored = {
            step if step in new.done else bound_items_key(step): dict(enumerate(values))
            for step, values in (items or {}).items()
        }
        with self._data.lock:
            known = self._data.runs.get(new.run_id)
            if known is not None:
                slots = known.state.slots.items()
                waiting = [at for at, slot in slots if slot.status is SlotStatus.READY]
                return self._ready(known, () if known.state.status.is_final else waiting)
            self._admit(new)
            now = self._clock()
            state, effects = transitions.create(new, now, self._pace_of(new.queue))
            run = _Run(new=new, state=state, values=dict(new.inputs), items=stored)
            self._data.runs[new.run_id] = run
            if new.key is not None:
                self._data.by_key[new.key] = new.run_id
            if new.tick is not None:
                self._forget_ticks(now - max(TICK_SECONDS, self.options.retention_seconds))
                self._data.ticks[new.tick] = now
            if new.backlog is not None:
                run.pending = True
                name = new.backlog[0]
                self._data.backlog[name] = self._data.backlog.get(name, 0) + 1
            if state.deadline is not None:
                self._queue(run, (DEADLINE, 0), state.deadline)
            return self._apply(run, effects, now)

    def _forget_ticks(self, before: float) -> None:
        ticks = self._data.ticks
        for tick in [*takewhile(lambda tick: ticks[tick] < before, ticks)]:
            del ticks[tick]

    def _admit(self, new: NewRun) -> None:
        if new.key is not None:
            other = self._data.runs.get(self._data.by_key.get(new.key, ""))
            if other is not None and not other.state.status.is_final:
                raise DuplicatePipelineError(new.key, other.new.run_id)
        if new.tick is not None and new.tick in self._data.ticks:
            raise DuplicateTickError(new.tick)
        if new.backlog is not None:
            name, most = new.backlog
            if self._data.backlog.get(name, 0) >= most:
                raise BacklogFullError(name, most)

    async def start(self, address: Address, token: str, *, want: int = 1) -> Grant | Refusal:
        with self._data.lock:
            run = self._data.runs.get(address.run_id)
            if run is None:
                return Refusal(RefusalReason.GONE)
            now = self._clock()
            at = (address.step, address.slot)
            delay = self._delay_of(run, at, now)
            data = self._data
            data.limits.holds_back = after_outage(
                now, data.last_due, data.hold_until, self._pace.lease
            )
            answer = transitions.start(
                run.state, at, token, now, self._pace, self._data.limits, want
            )
            if isinstance(answer, Refusal):
                self._queue_slot(run, at)
                return answer
            if delay is not None:
                self._observe_delay(run.new.steps[address.step].queue, delay)
            self._apply(run, answer, now)
            claim = answer.claim
            if claim is None:  # pragma: no cover - a start that is not refused claims
                return Refusal(RefusalReason.DONE)
            self._queue_slot(run, at)
            return self._grant(run, claim, now)

    async def finish(
        self, address: Address, token: str, outcome: Outcome, next_token: str | None
    ) -> Finished:
        with self._data.lock:
            run = self._data.runs.get(address.run_id)
            if run is None:
                return Finished(recorded=False)
            now = self._clock()
            at = (address.step, address.slot)
            items = stored_items(outcome, address.step)
            if items is not None and len(run.items.get(items[0], ())) < items[1]:
                return Finished(recorded=False)
            effects = transitions.finish(
                run.state, at, token, outcome, next_token, now, self._pace, self._data.limits
            )
            if effects is None:
                return Finished(recorded=False)
            if effects.items:
                run.items.setdefault(address.step, {}).update(effects.items)
            if effects.repeated:
                ready = self._ready(run, effects.ready)
            else:
                ready = self._apply(run, effects, now)
            self._queue_slot(run, at)
            grant = None
            if effects.claim is not None:
                self._queue_slot(run, (effects.claim.step, effects.claim.slot))
                grant = self._grant(run, effects.claim, now)
            return Finished(
                recorded=True,
                ready=ready,
                grant=grant,
                ended=run.state.status if effects.ended else None,
                retry_at=effects.retry_at,
                wakes=self._unsettled(run) if effects.ended else (),
            )

    async def renew(self, held: Sequence[Held]) -> dict[str, LostReason]:
        lost: dict[str, LostReason] = {}
        with self._data.lock:
            now = self._clock()
            for lease in held:
                run = self._data.runs.get(lease.address.run_id)
                at = (lease.address.step, lease.address.slot)
                reason = transitions.renew(
                    run.state if run else None, at, lease.token, now, self._pace, self._data.limits
                )
                if reason is not None:
                    lost[lease.token] = reason
                elif run is not None:
                    self._queue_slot(run, at)
        return lost

    async def release(
        self, address: Address, token: str, *, delay_seconds: float = 0.0
    ) -> tuple[Ready, ...]:
        with self._data.lock:
            run = self._data.runs.get(address.run_id)
            if run is None:
                return ()
            now = self._clock()
            at = (address.step, address.slot)
            effects = transitions.release(
                run.state, at, token, delay_seconds, now, self._pace, self._data.limits
            )
            if effects is None:
                return ()
            self._queue_slot(run, at)
            return self._apply(run, effects, now)

    async def due(self, queues: Sequence[str], *, limit: int = 100) -> tuple[Wake, ...]:
        with self._data.lock:
            now = self._clock()
            data = self._data
            if data.last_due is None or now - data.last_due > self._pace.lease / 2:
                data.hold_until = now + self._pace.lease if data.last_due is not None else 0.0
            data.last_due = now
            wakes: list[Wake] = []
            for queue in queues:
                heap = data.due.get(queue, [])
                while heap and heap[0][0] <= now and len(wakes) < limit:
                    when, run_id, step, number = heapq.heappop(heap)
                    run = data.runs.get(run_id)
                    if run is not None and run.queued.get((step, number)) == when:
                        del run.queued[step, number]
                        if self._is_due(run, (step, number), when):
                            wakes.extend(self._wake(run, (step, number), now))
            return tuple(wakes)

    def _is_due(self, run: _Run, at: tuple[int, int], when: float) -> bool:
        """Whether an entry tells the truth; a slot that is due later is queued for then."""
        slot = run.state.slots.get(at)
        if slot is None or slot.due is None or slot.due <= when or run.state.status.is_final:
            return True
        self._queue(run, at, slot.due)
        return False

    def _wake(self, run: _Run, at: tuple[int, int], now: float) -> Iterable[Wake]:
        if at[0] in (PUBLISH, NOTIFY):
            kind = WakeKind.PUBLISH if at[0] == PUBLISH else WakeKind.NOTIFY
            if kind not in run.unsettled:
                return ()
            self._queue(run, at, now + PUBLISH_AGAIN_SECONDS)
            return (Wake(kind, run.new.run_id, parent=run.new.parent),)
        if at[0] == DEADLINE:
            effects = transitions.pass_deadline(run.state, now)
        else:
            pace = self._pace_of(run.new.steps[at[0]].queue)
            effects = transitions.wake(run.state, at, now, pace, self._data.hold_until)
            self._queue_slot(run, at)
        if effects is None:
            return ()
        ready = self._apply(run, effects, now)
        wakes = [Wake(WakeKind.KICK, entry.address.run_id, ready=entry) for entry in ready]
        if effects.ended:
            wakes.extend(self._unsettled(run))
        return wakes

    def _unsettled(self, run: _Run) -> tuple[Wake, ...]:
        return tuple(Wake(kind, run.new.run_id, parent=run.new.parent) for kind in run.unsettled)

    async def settle(self, run_id: str, kind: WakeKind) -> None:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            if run is not None:
                run.unsettled = tuple(left for left in run.unsettled if left is not kind)

    async def cancel(self, run_id: str, reason: str) -> bool:
        return (
            self._change(run_id, lambda run, now: transitions.cancel(run, reason, now)) is not None
        )

    async def resume(self, address: Address, note: str) -> tuple[Ready, ...]:
        at = (address.step, address.slot)
        ready = self._change(
            address.run_id,
            lambda run, now: transitions.resume(run, at, note, now, self._pace),
        )
        return ready or ()

    async def send_event(self, run_id: str, name: str, payload: bytes) -> tuple[Ready, ...] | None:
        return self._change(
            run_id, lambda run, now: transitions.receive(run, name, payload, now, self._pace)
        )

    def _change(
        self, run_id: str, rule: Callable[[RunState, float], Effects | None]
    ) -> tuple[Ready, ...] | None:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            if run is None:
                return None
            now = self._clock()
            effects = rule(run.state, now)
            return None if effects is None else self._apply(run, effects, now)

    # -- doing what the rules ask for

    def _apply(self, run: _Run, effects: Effects, now: float) -> tuple[Ready, ...]:
        """Save values and events, queue what became due, and name what is to be sent."""
        if effects.values:
            run.values.update(effects.values)
        if effects.events:
            self._record(run, effects, now)
        for at in effects.ready:
            self._queue_slot(run, at)
        for at in effects.sleeping:
            self._queue_slot(run, at)
        ready = self._ready(run, effects.ready)
        for address in effects.freed:
            ready += self._hurry(address, now)
        if run.pending and run.state.status is not RunStatus.PENDING:
            run.pending = False
            name = run.new.backlog[0] if run.new.backlog else ""
            self._data.backlog[name] -= 1
        if effects.ended:
            self._end(run, now)
        return ready

    def _record(self, run: _Run, effects: Effects, now: float) -> None:
        run_id = run.new.run_id
        events, feed = run.events, self._data.feed
        for kind, step, number, attempt, detail in effects.events:
            # The word and not the member: a tuple of plain values costs the collector nothing.
            event = (run_id, len(events) + 1, now, _WORDS[kind], step, number, attempt, detail)
            events.append(event)
            feed.append(event)
        self._data.fed += len(effects.events)

    def _hurry(self, address: Address, now: float) -> tuple[Ready, ...]:
        run = self._data.runs.get(address.run_id)
        if run is None:
            return ()
        effects = transitions.hurry(run.state, (address.step, address.slot), now, self._pace)
        return () if effects is None else self._apply(run, effects, now)

    def _end(self, run: _Run, now: float) -> None:
        if run.new.parent is not None:
            run.unsettled += (WakeKind.NOTIFY,)
            self._queue(run, (NOTIFY, 0), now + PUBLISH_AGAIN_SECONDS)
        if run.new.publish:
            run.unsettled += (WakeKind.PUBLISH,)
            self._queue(run, (PUBLISH, 0), now + PUBLISH_AGAIN_SECONDS)
        for listener in self._data.listeners:
            listener(run.new.run_id, run.state.status)
        self._data.ended[run.new.run_id] = None
        while len(self._data.ended) > self.options.retained_runs:
            self._drop(next(iter(self._data.ended)))

    def _drop(self, run_id: str) -> None:
        self._data.ended.pop(run_id, None)
        run = self._data.runs.pop(run_id, None)
        if run is None:
            return
        self._data.listing.forget(run)
        key = run.new.key
        if key is not None and self._data.by_key.get(key) == run_id:
            del self._data.by_key[key]

    def _queue_slot(self, run: _Run, at: tuple[int, int]) -> None:
        if run.state.status.is_final:
            return  # its slots keep their due times; queued again, they would be due for ever
        slot = run.state.slots.get(at)
        if slot is not None and slot.due is not None:
            self._queue(run, at, slot.due)

    def _queue(self, run: _Run, at: tuple[int, int], due: float) -> None:
        """Put a due time into its queue's heap, unless an earlier one of the slot is there."""
        queued = run.queued.get(at)
        if queued is not None and queued <= due:
            return
        run.queued[at] = due
        queue = run.new.steps[at[0]].queue if at[0] >= 0 else run.new.queue
        heapq.heappush(self._data.due.setdefault(queue, []), (due, run.new.run_id, *at))

    def _ready(self, run: _Run, slots: Sequence[tuple[int, int]]) -> tuple[Ready, ...]:
        if not slots:
            return ()
        run_id = run.new.run_id
        steps = run.new.steps
        return tuple(
            Ready(
                Address(run_id, step, number),
                steps[step].queue,
                steps[step].route,
                steps[step].task,
            )
            for step, number in slots
        )

    def _grant(self, run: _Run, claim: Claim, now: float) -> Grant:
        state = run.state
        record = run.new.steps[claim.step]
        slot = state.slots[claim.step, claim.slot]
        step = state.steps[claim.step]
        items: tuple[ItemGrant, ...] = ()
        if claim.items:
            source = run.items.get(self._items_key(run, claim.step), {})
            items = tuple(ItemGrant(i, source[i], attempt) for i, attempt in claim.items)
        return Grant(
            address=Address(run.new.run_id, claim.step, claim.slot),
            token=claim.token,
            blob=record.blob,
            values=tuple([self._value(run, key) for key in record.sources]),
            attempt=slot.attempt,
            lost=slot.lost,
            granted_at=now if slot.started_at is None else slot.started_at,
            ready_at=slot.ready_at,
            run_started_at=state.started_at or state.created_at,
            run_name=run.new.key or run.new.run_id,
            deadline=state.deadline,
            items=items,
            length=step.length,
            expand=claim.expand,
            note=slot.note,
            step_started_at=step.started_at,
        )

    def _items_key(self, run: _Run, step: int) -> int:
        source = run.new.steps[step].items_from
        if source is not None and run.state.steps[source].out_length is not None:
            return source
        return bound_items_key(step)

    def _value(self, run: _Run, key: int) -> Value:
        if key >= 0:
            length = run.state.steps[key].out_length
            if length is not None and key not in run.values:
                return SequenceValue(key, length)
        return run.values.get(key, NONE_VALUE)

    def _delay_of(self, run: _Run, at: tuple[int, int], now: float) -> float | None:
        """How long the first message for a slot has taken; None where nothing can be said."""
        slot = run.state.slots.get(at)
        if slot is None or slot.status is not SlotStatus.READY or slot.kicks > 0:
            return None
        released = slot.started_at is not None and slot.started_at >= slot.ready_at
        return None if released or run.new.steps[at[0]].limits else now - slot.ready_at

    def _observe_delay(self, queue: str, seconds: float) -> None:
        known = self._data.delays.get(queue, 0.0)
        self._data.delays[queue] = max(seconds, known * 0.9)

    def _pace_of(self, queue: str) -> transitions.Pace:
        """Wait three times what the queue has lately taken before a message counts as lost."""
        base = max(self._pace.kick, 3 * self._data.delays.get(queue, 0.0))
        return self._pace if base == self._pace.kick else self._pace._replace(kick=base)

    # -- values

    async def put_items(self, held: Held, key: int, start: int, values: Sequence[bytes]) -> bool:
        with self._data.lock:
            run = self._data.runs.get(held.address.run_id)
            if run is None or run.state.status.is_final:
                return False
            slot = run.state.slots.get((held.address.step, held.address.slot))
            if slot is None or slot.token != held.token:
                return False
            run.items.setdefault(key, {}).update(enumerate(values, start))
            return True

    async def items(self, run_id: str, key: int, start: int, stop: int) -> list[bytes | None]:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            source = run.items.get(key, {}) if run else {}
            return [source.get(index) for index in range(start, stop)]

    async def values(self, run_id: str, keys: Sequence[int]) -> dict[int, Value]:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            return {} if run is None else self._values(run, keys)

    def _values(self, run: _Run, keys: Sequence[int]) -> dict[int, Value]:
        found: dict[int, Value] = {}
        for key in keys:
            if key in run.values:
                found[key] = run.values[key]
                continue
            step = run.state.steps.get(key)
            if step and step.out_length is not None and step.status is StepStatus.COMPLETED:
                found[key] = SequenceValue(key, step.out_length)
        return found

    # -- reading

    async def get(self, run_id: str, *, steps: bool = True) -> RunSnapshot | None:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            return None if run is None else self._snapshot(run, steps=steps)

    async def ending(self, run_id: str, keys: Sequence[int]) -> Ending | None:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            if run is None:
                raise RunNotFoundError(run_id)
            if not run.state.status.is_final:
                return None
            return Ending(self._snapshot(run, steps=False), self._values(run, keys))

    def _snapshot(self, run: _Run, *, steps: bool) -> RunSnapshot:
        state, new = run.state, run.new
        started = (
            tuple(
                self._step_snapshot(run, index)
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

    def _step_snapshot(self, run: _Run, index: int) -> StepSnapshot:
        step, record = run.state.steps[index], run.new.steps[index]
        status = step.status
        if run.state.status.is_final and not status.is_final:
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
            progress=None if run.notes is None else run.notes.progress.get(index),
        )

    async def find(self, key: str) -> str | None:
        with self._data.lock:
            return self._data.by_key.get(key)

    async def plan(self, run_id: str) -> bytes | None:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            return None if run is None else run.new.plan

    async def list_runs(
        self, which: RunFilter, *, cursor: str | None = None, limit: int = 100
    ) -> Page:
        with self._data.lock:
            data = self._listed()
            before = None if cursor is None else _place(cursor)
            page = list(islice(data.listing.runs(data.runs, which, before), limit + 1))
            runs = tuple(self._snapshot(run, steps=False) for run in page[:limit])
            cursor = f"{runs[-1].created_at!r} {runs[-1].run_id}" if len(page) > limit else None
            return Page(runs, cursor)

    async def count_runs(self, where: RunFilter, *, at_most: int | None = None) -> int:
        with self._data.lock:
            data = self._listed()
            return data.listing.count(data.runs, where, at_most)

    async def count_ended(
        self, *, since: float, until: float, buckets: int
    ) -> list[dict[RunStatus, int]]:
        edges = [since + (until - since) * number / buckets for number in range(buckets + 1)]
        with self._data.lock:
            count = self._listed().listing.count_ended
            return [{status: count(*span, status) for status in FINAL} for span in pairwise(edges)]

    async def step_totals(self, *, newest: int = 200) -> list[StepTotal]:
        with self._data.lock:
            last = islice(reversed(self._data.ended), newest)
            return summed_steps(self._data.runs[run_id] for run_id in last)

    def _listed(self) -> _Shared:
        self._data.listing.update(self._data.runs, self._data.ended)
        return self._data

    async def delete(self, run_id: str) -> bool:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            if run is None or not run.state.status.is_final:
                return False
            self._drop(run_id)
            return True

    async def purge(self, *, before: float, limit: int = 1000) -> int:
        with self._data.lock:
            old = [
                run_id
                for run_id, run in self._data.runs.items()
                if run.state.ended_at is not None and run.state.ended_at < before
            ][:limit]
            for run_id in old:
                self._drop(run_id)
            return len(old)

    async def events(self, run_id: str, *, after: int = 0, limit: int = 1000) -> list[EventRecord]:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            return [] if run is None else [_event(e) for e in run.events[after : after + limit]]

    async def feed(
        self, *, after: str | None = None, limit: int = 1000, wait_seconds: float = 0.0
    ) -> tuple[list[EventRecord], str]:
        position = self._data.fed if after is None else int(after)
        until = time.monotonic() + wait_seconds
        while True:
            with self._data.lock:
                fresh, position = self._fresh(position, limit)
            if fresh:
                return fresh, str(position)
            if time.monotonic() >= until:
                return [], str(position)
            await asyncio.sleep(0.02)

    def _fresh(self, position: int, limit: int) -> tuple[list[EventRecord], int]:
        """Events after a position, and the position after them; the oldest may be gone."""
        kept = len(self._data.feed)
        first = max(position, self._data.fed - kept)
        start = kept - (self._data.fed - first)
        fresh = [_event(e) for e in islice(self._data.feed, start, start + limit)]
        return fresh, first + len(fresh)

    # -- notes that steps leave while they run

    async def note_progress(self, run_id: str, step: int, progress: bytes) -> None:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            if run is not None:
                _notes_of(run).progress[step] = progress

    async def append_log(self, run_id: str, lines: Sequence[bytes]) -> None:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            if run is not None:
                notes = _notes_of(run)
                notes.log.extend(lines)
                notes.logged += len(lines)

    async def log(
        self, run_id: str, *, after: int = 0, limit: int = 1000
    ) -> tuple[list[bytes], int]:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            notes = None if run is None else run.notes
            if notes is None:
                return [], after
            first = notes.logged - len(notes.log)
            start = max(after, first)
            lines = list(islice(notes.log, start - first, start - first + limit))
            return lines, start + len(lines)

    # -- who waits, who works

    async def listen(self, listener: EndListener) -> bool:
        with self._data.lock:
            if listener not in self._data.listeners:
                self._data.listeners.append(listener)
        return True

    async def ended_among(self, run_ids: Sequence[str]) -> dict[str, RunStatus]:
        with self._data.lock:
            found: dict[str, RunStatus] = {}
            for run_id in run_ids:
                run = self._data.runs.get(run_id)
                if run is None:
                    found[run_id] = RunStatus.CANCELLED
                elif run.state.status.is_final:
                    found[run_id] = run.state.status
            return found

    async def announce(self, worker: WorkerRecord, *, ttl_seconds: float) -> None:
        with self._data.lock:
            self._data.workers[worker.worker_id] = (worker, self._clock() + ttl_seconds)

    async def withdraw(self, worker_id: str) -> None:
        with self._data.lock:
            self._data.workers.pop(worker_id, None)

    async def workers(self) -> list[WorkerRecord]:
        with self._data.lock:
            now = self._clock()
            return [worker for worker, until in self._data.workers.values() if until > now]

    async def health(self) -> dict[str, Any]:
        return {"store": "memory", "durable": False, "runs": len(self._data.runs)}


def _notes_of(run: _Run) -> _Notes:
    if run.notes is None:
        run.notes = _Notes()
    return run.notes


def _event(kept: _Event) -> EventRecord:
    run_id, seq, at, kind, step, number, attempt, detail = kept
    return EventRecord(run_id, seq, at, EventType(kind), step, number, attempt, detail)


def _place(cursor: str) -> Place:
    created_at, _, run_id = cursor.partition(" ")
    return float(created_at), run_id
