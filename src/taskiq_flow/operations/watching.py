"""Tells those who watch that something changed, and those who follow what it was."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from taskiq_flow.model.records import EventRecord, RunSnapshot
from taskiq_flow.operations.feed import FeedHub
from taskiq_flow.operations.lookup import Lookup
from taskiq_flow.operations.models import Change, EventView
from taskiq_flow.stores.base import RunStore

TICK_SECONDS = 1.0
"""What no event says (items done, progress, log lines) is looked for this often, per run."""

NAMED_RUNS = 20
FOLLOWED_RUNS = 20_000
ALL_REGIONS = frozenset({"run", "steps", "items", "progress", "logs", "events"})
EVENT_PAGE = 500


@dataclass(slots=True)
class _Look:
    """One look at a run that goes on, shared by all who watch it."""

    at: float
    run: RunSnapshot | None
    lines: int


@dataclass(slots=True)
class Watching:
    """What watchers of one store share in this process."""

    store: RunStore
    hub: FeedHub
    lookup: Lookup
    _looks: dict[str, _Look] = field(default_factory=dict[str, _Look])
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict[str, asyncio.Lock])
    _watchers: dict[str, int] = field(default_factory=dict[str, int])

    async def runs(
        self, after: str | None, *, debounce_seconds: float, heartbeat_seconds: float
    ) -> AsyncGenerator[Change]:
        """Say that runs changed; one that was interrupted is told at once if any did meanwhile."""
        async with self.hub.watched() as now:
            position = now if after is None else self.hub.check(after)
            if after is not None and len(await self._behind(position)) == EVENT_PAGE:
                position = now  # not piece by piece, for somebody who was away for long
                yield Change(position, frozenset(), frozenset({"runs"}), is_many=True)
            while True:
                batch = await self.hub.after(position, wait_seconds=heartbeat_seconds)
                position = batch.position
                if not batch.events:
                    yield Change(position, frozenset(), frozenset())
                    continue
                run_ids = {event.run_id for event in batch.events}
                if debounce_seconds > 0:
                    await asyncio.sleep(debounce_seconds)
                    more = await self.hub.after(position, wait_seconds=0)
                    position = more.position
                    run_ids.update(event.run_id for event in more.events)
                named = frozenset(sorted(run_ids)[:NAMED_RUNS])
                yield Change(position, named, frozenset({"runs"}), len(named) < len(run_ids))

    async def run(
        self, run_id: str, after: str | None, *, debounce_seconds: float, heartbeat_seconds: float
    ) -> AsyncGenerator[Change]:
        """Say what changed of one run, until it has ended."""
        self._watchers[run_id] = self._watchers.get(run_id, 0) + 1
        try:
            async with self.hub.watched() as now:
                position = now if after is None else self.hub.check(after)
                before = await self._look(run_id, younger_than=0.0)
                goes_on = before.run is not None and not before.run.status.is_final
                said = time.monotonic()
                # What no event says is told again in any case, as long as there may be more of it.
                may_differ = goes_on and after is not None and after != now
                if may_differ or await self._has_moved(run_id, position):
                    yield Change(now, frozenset({run_id}), ALL_REGIONS)
                position = now
                while before.run is not None and not before.run.status.is_final:
                    batch = await self.hub.after(position, wait_seconds=TICK_SECONDS)
                    position = batch.position
                    heard = any(event.run_id == run_id for event in batch.events)
                    if heard:
                        await asyncio.sleep(debounce_seconds)
                    age = debounce_seconds if heard else TICK_SECONDS * 0.9
                    look = await self._look(run_id, younger_than=age)
                    regions = _changed(before, look)
                    if heard:
                        regions.add("events")
                    before = look
                    if regions or time.monotonic() - said >= heartbeat_seconds:
                        said = time.monotonic()
                        yield Change(position, frozenset({run_id}), frozenset(regions))
        finally:
            self._watchers[run_id] -= 1
            if not self._watchers[run_id]:
                for kept in (self._watchers, self._looks, self._locks):
                    kept.pop(run_id, None)

    async def events_of_all(self, after: str | None) -> AsyncGenerator[tuple[EventView, str]]:
        """The events of all runs in order, each with the position that it was read up to."""
        seen: OrderedDict[str, int] = OrderedDict()
        async with self.hub.watched() as now:
            position = now if after is None else self.hub.check(after)
            while True:
                before = position
                batch = await self.hub.after(position, wait_seconds=3600.0)
                position = batch.position
                last = len(batch.events) - 1
                for number, record in enumerate(batch.events):
                    if not _is_new(seen, record):
                        continue
                    # Inside a batch the place before it: an interrupted reader hears some twice,
                    # which their numbers tell, and misses none.
                    yield await self.lookup.event(record), position if number == last else before

    async def events_of(self, run_id: str, after: int) -> AsyncGenerator[tuple[EventView, str]]:
        """The events of one run in order, until it has ended; a position is an event's number."""
        seq = after
        async with self.hub.watched() as position:
            while True:
                ended = run_id in await self.store.ended_among([run_id])
                fresh = await self.store.events(run_id, after=seq, limit=EVENT_PAGE)
                for record in fresh:
                    seq = record.seq
                    yield await self.lookup.event(record), str(seq)
                    if record.type.ends_run:
                        return
                if fresh:
                    continue
                if ended:
                    return
                heard = False
                while not heard:
                    batch = await self.hub.after(position, wait_seconds=5.0)
                    position = batch.position
                    heard = not batch.events or any(e.run_id == run_id for e in batch.events)

    async def _has_moved(self, run_id: str, position: str) -> bool:
        """Whether anything has happened to a run behind a position; perhaps, if much lies there."""
        events = await self._behind(position)
        return len(events) == EVENT_PAGE or any(event.run_id == run_id for event in events)

    async def _behind(self, position: str) -> list[EventRecord]:
        events, _ = await self.store.feed(after=position, limit=EVENT_PAGE)
        return events

    async def _look(self, run_id: str, *, younger_than: float) -> _Look:
        lock = self._locks.setdefault(run_id, asyncio.Lock())
        async with lock:
            known = self._looks.get(run_id)
            if known is not None and time.monotonic() - known.at < younger_than:
                return known
            run = await self.store.get(run_id)
            after = 0 if known is None else known.lines
            _, lines = await self.store.log(run_id, after=after, limit=200)
            look = _Look(time.monotonic(), run, lines)
            self._looks[run_id] = look
            return look


def _changed(before: _Look, after: _Look) -> set[str]:
    """The regions of a run that two looks differ in."""
    old, new = before.run, after.run
    if new is None or old is None:
        return {"run"}
    regions: set[str] = set()
    if (old.status, old.remaining, old.failures) != (new.status, new.remaining, new.failures):
        regions.add("run")
    if before.lines != after.lines:
        regions.add("logs")
    if old.steps == new.steps:
        return regions
    was = {step.index: step for step in old.steps}
    for step in new.steps:
        known = was.get(step.index)
        if known == step:
            continue
        if known is None or known.status is not step.status or known.attempt != step.attempt:
            regions.add("steps")
        elif (known.items_done, known.length) != (step.items_done, step.length):
            regions.add("items")
        elif known.progress != step.progress:
            regions.add("progress")
        else:
            regions.add("steps")
    return regions


def _is_new(seen: OrderedDict[str, int], record: EventRecord) -> bool:
    if record.seq <= seen.get(record.run_id, 0):
        return False
    seen[record.run_id] = record.seq
    seen.move_to_end(record.run_id)
    if len(seen) > FOLLOWED_RUNS:
        seen.popitem(last=False)
    return True
