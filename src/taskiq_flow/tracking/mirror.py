"""Copies what changes to a storage of the user's own; runs do not wait for it."""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections import defaultdict
from dataclasses import dataclass

from taskiq_flow.exceptions import StoreError
from taskiq_flow.tracking.source import RunSource
from taskiq_flow.tracking.storage import TrackingStorage

logger = logging.getLogger("taskiq_flow.tracking")

WAITING_MOST = 10_000
"""So many runs wait to be saved; a change of another one is dropped until its next change."""

SAVE_SECONDS = 5.0
"""A storage that takes longer for one record counts as failing."""

SETTLE_SECONDS = 1.0
"""So long the caller of `wait_result` waits for the end of its run to be saved, at most."""

CLOSE_SECONDS = 2.0

RETRY_SECONDS, RETRY_MOST_SECONDS = 0.5, 60.0

PACE = 5.0
PACE_MOST_SECONDS = 2.0
"""A run that goes on is saved again after so many times what saving it took: a long one would
otherwise be copied as often as it has steps."""


@dataclass(slots=True)
class _Entry:
    """A run whose record is to be saved, not before a time."""

    due: float
    source: RunSource
    at_once: bool = False
    failures: int = 0


class Mirror:
    """Saves the records of changed runs, one at a time, as they are when their turn comes.

    Changes of a run that come faster than the storage are saved as one. What fails is logged and
    tried again, ever less often.
    """

    def __init__(self, storage: TrackingStorage, *, waiting_most: int = WAITING_MOST) -> None:
        self.storage, self.dropped = storage, 0
        self._most = waiting_most
        self._entries: dict[str, _Entry] = {}
        self._turns: list[tuple[float, str]] = []
        self._next: dict[str, float] = {}
        self._waiters: defaultdict[str, list[asyncio.Future[None]]] = defaultdict(list)
        self._failing = False
        self._saving_since: float | None = None
        self._writer: asyncio.Task[None] | None = None
        self._news: asyncio.Event | None = None

    def mark(self, run_id: str, source: RunSource, *, at_once: bool = False) -> None:
        """Say that a run has changed; never waits."""
        now = time.monotonic()
        due = now if at_once else max(now, self._next.get(run_id, 0.0))
        entry = self._entries.get(run_id)
        if entry is None:
            if len(self._entries) >= self._most:
                self._drop(run_id)
                return
            self._entries[run_id] = _Entry(due, source, at_once)
        elif due < entry.due and not entry.failures:
            entry.due, entry.at_once = due, at_once
        else:
            return
        heapq.heappush(self._turns, (due, run_id))
        self._wake()

    async def settle(self, run_id: str, source: RunSource) -> None:
        """Wait a moment until the end of a run is saved; not at all while the storage fails."""
        self.mark(run_id, source, at_once=True)
        if self._seems_stuck or run_id not in self._entries:
            return
        saved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[run_id].append(saved)
        await asyncio.wait([saved], timeout=SETTLE_SECONDS)

    async def close(self) -> None:
        """Save what is waiting, as far as that goes quickly."""
        writer, self._writer = self._writer, None
        if writer is None or writer.get_loop() is not asyncio.get_running_loop():
            return
        if not self._seems_stuck:
            for run_id, entry in self._entries.items():
                entry.due, entry.at_once = 0.0, True
                heapq.heappush(self._turns, (0.0, run_id))
            self._wake()
            await asyncio.wait([writer], timeout=CLOSE_SECONDS)
        if self._entries:
            logger.warning("%d run(s) are not up to date in %r.", len(self._entries), self.storage)
        writer.cancel()
        # A storage that does not let itself be cancelled is left behind.
        await asyncio.wait([writer], timeout=SETTLE_SECONDS)

    @property
    def _seems_stuck(self) -> bool:
        since = self._saving_since
        return self._failing or (
            since is not None and time.monotonic() - since > SETTLE_SECONDS / 2
        )

    def _wake(self) -> None:
        writer = self._writer
        here = asyncio.get_running_loop()
        if writer is None or writer.done() or writer.get_loop() is not here:
            self._news = asyncio.Event()
            self._writer = asyncio.create_task(self._write())
        if self._news is not None:
            self._news.set()

    async def _write(self) -> None:
        assert self._news is not None
        while self._entries:
            self._news.clear()
            if not self._turns:
                self._turns = [(entry.due, run_id) for run_id, entry in self._entries.items()]
                heapq.heapify(self._turns)
            due, run_id = self._turns[0]
            entry = self._entries.get(run_id)
            if entry is None or entry.due != due:
                heapq.heappop(self._turns)  # saved meanwhile, or due at another time
                continue
            pace = 0.0 if entry.at_once else self._next.get(run_id, 0.0)
            if pace > due:  # it changed while it was saved last
                entry.due = pace
                heapq.heapreplace(self._turns, (pace, run_id))
                continue
            pause = due - time.monotonic()
            if pause > 0:
                await self._rest(pause)
                continue
            heapq.heappop(self._turns)
            del self._entries[run_id]
            self._saving_since = time.monotonic()
            await self._save(run_id, entry)
            self._saving_since = None

    async def _rest(self, seconds: float) -> None:
        assert self._news is not None
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _save(self, run_id: str, entry: _Entry) -> None:
        waiters = self._waiters.pop(run_id, [])
        began = time.monotonic()
        try:
            status = await entry.source.status(run_id)
            if status is not None:
                async with asyncio.timeout(SAVE_SECONDS):
                    await self.storage.save_status(status)
        except StoreError as error:
            logger.info("Run %s is mirrored later: %s", run_id, error)
            self._try_again(run_id, entry)
        except Exception as error:  # any storage, any error: no run may suffer from it
            if not self._failing:
                logger.warning(
                    "The tracking storage %r fails, trying again; run %s: %r",
                    self.storage, run_id, error, exc_info=error,
                )  # fmt: skip
            self._failing = True
            self._try_again(run_id, entry)
        else:
            if self._failing:
                logger.warning("The tracking storage %r works again.", self.storage)
            self._failing = False
            took = time.monotonic() - began
            if status is not None and not status.is_finished():
                if len(self._next) >= WAITING_MOST:
                    self._next.clear()
                self._next[run_id] = time.monotonic() + min(PACE * took, PACE_MOST_SECONDS)
            else:
                self._next.pop(run_id, None)
        finally:
            for saved in waiters:
                if not saved.done():
                    saved.set_result(None)

    def _try_again(self, run_id: str, entry: _Entry) -> None:
        failures = entry.failures + 1
        pause = min(RETRY_SECONDS * 2 ** min(entry.failures, 20), RETRY_MOST_SECONDS)
        if run_id in self._entries or len(self._entries) >= self._most:
            return  # has changed again and is saved anyway, or there is no room
        due = time.monotonic() + pause
        self._entries[run_id] = _Entry(due, entry.source, entry.at_once, failures)
        heapq.heappush(self._turns, (due, run_id))

    def _drop(self, run_id: str) -> None:
        self.dropped += 1
        if self.dropped.bit_count() == 1:  # the 1st, 2nd, 4th, 8th, …
            logger.warning(
                "The tracking storage %r is too slow: %d change(s) dropped, of run %s last.",
                self.storage, self.dropped, run_id,
            )  # fmt: skip
