"""The half of the run store in memory that changes no run: reading, notes, who waits and works."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from heapq import nsmallest
from itertools import islice, pairwise
from typing import Any

from taskiq_flow.exceptions import RunNotFoundError
from taskiq_flow.model.records import (
    EventRecord,
    RunFilter,
    RunSnapshot,
    RunStatus,
    StepTotal,
    Value,
    WorkerRecord,
)
from taskiq_flow.model.state import Holders, OpenSlots
from taskiq_flow.stores.base import (
    HOLDERS_NAMED,
    Ending,
    EndListener,
    Page,
    RunStore,
    StoreOptions,
)
from taskiq_flow.stores.memory_kept import Shared
from taskiq_flow.stores.memory_listing import FINAL, summed_steps
from taskiq_flow.stores.paging import cursor_after, place_of


class MemoryReads(RunStore):
    """Runs in this process as they are read; `MemoryRunStore` changes them."""

    shared = False
    never_waits = True

    def __init__(
        self,
        options: StoreOptions | None = None,
        *,
        clock: Callable[[], float] = time.time,
        _shared: Shared | None = None,
    ) -> None:
        super().__init__("memory://", options or StoreOptions())
        self._clock = clock
        self._data = _shared or Shared()
        self._pace = self.options.pace

    @property
    def beside(self) -> dict[str, Any]:
        """What lives beside the runs, by purpose; see `taskiq_flow.storage.beside`."""
        return self._data.beside

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Runs stay as long as the object does."""

    # -- values

    async def items(self, run_id: str, key: int, start: int, stop: int) -> list[bytes | None]:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            source = run.items.get(key, {}) if run else {}
            return [source.get(index) for index in range(start, stop)]

    async def values(self, run_id: str, keys: Sequence[int]) -> dict[int, Value]:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            return {} if run is None else run.read_values(keys)

    # -- reading

    async def get(self, run_id: str, *, steps: bool = True) -> RunSnapshot | None:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            return None if run is None else run.snapshot(steps=steps)

    async def open_slots(
        self, run_id: str, steps: Sequence[int], *, limits: Sequence[str] = (), limit: int = 200
    ) -> OpenSlots:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            found = () if run is None else run.open_slots(frozenset(steps))[:limit]
            holders = {key: self._data.limits.holders.get(key, {}) for key in limits}
            named = {
                key: Holders(len(held), tuple(nsmallest(HOLDERS_NAMED, held)))
                for key, held in holders.items()
            }
            return OpenSlots(self._clock(), tuple(found), named)

    async def ending(self, run_id: str, keys: Sequence[int]) -> Ending | None:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            if run is None:
                raise RunNotFoundError(run_id)
            if not run.state.status.is_final:
                return None
            return Ending(run.snapshot(steps=False), run.read_values(keys))

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
            before = None if cursor is None else place_of(cursor)
            page = list(islice(data.listing.runs(data.runs, which, before), limit + 1))
            runs = tuple(run.snapshot(steps=False) for run in page[:limit])
            last = runs[-1] if len(page) > limit else None
            return Page(runs, last and cursor_after(last.created_at, last.run_id))

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

    def _listed(self) -> Shared:
        self._data.listing.update(self._data.runs, self._data.ended)
        return self._data

    async def events(self, run_id: str, *, after: int = 0, limit: int = 1000) -> list[EventRecord]:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            return [] if run is None else run.read_events(after, limit)

    async def feed(
        self, *, after: str | None = None, limit: int = 1000, wait_seconds: float = 0.0
    ) -> tuple[list[EventRecord], str]:
        position = self._data.fed if after is None else int(after)
        until = time.monotonic() + wait_seconds
        while True:
            with self._data.lock:
                fresh, position = self._data.read_feed(position, limit)
            if fresh:
                return fresh, str(position)
            if time.monotonic() >= until:
                return [], str(position)
            await asyncio.sleep(0.02)

    # -- notes that steps leave while they run

    async def note_progress(self, run_id: str, step: int, progress: bytes) -> None:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            if run is not None:
                run.notes_made().progress[step] = progress

    async def append_log(self, run_id: str, lines: Sequence[bytes]) -> None:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            if run is not None:
                run.notes_made().append(lines)

    async def log(
        self, run_id: str, *, after: int = 0, limit: int = 1000
    ) -> tuple[list[bytes], int]:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            notes = None if run is None else run.notes
            return ([], after) if notes is None else notes.read(after, limit)

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
