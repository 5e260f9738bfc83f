"""Hands events to one observer, in order and in a task of its own, however slow it is."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from taskiq_flow.exceptions import StoreError
from taskiq_flow.model.records import EventRecord

logger = logging.getLogger("taskiq_flow.observers")

WAITING_MOST = 10_000
"""So many events wait for a slow observer; the oldest of more are dropped."""

PAUSE_SECONDS, PAUSE_MOST_SECONDS = 0.1, 5.0


class Delivery:
    """A bounded queue before one observer; what it raises is logged and forgotten.

    ``handle`` may read the store: while that is away the event is kept, and tried again.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[EventRecord], Awaitable[None]],
        *,
        most: int = WAITING_MOST,
    ) -> None:
        self.name, self.dropped = name, 0
        self._handle, self._most = handle, most
        self._waiting: deque[EventRecord] = deque()
        self._working: asyncio.Task[None] | None = None

    def put(self, event: EventRecord) -> None:
        """Take an event; never waits."""
        if len(self._waiting) >= self._most:
            self._waiting.popleft()
            self.dropped += 1
            if self.dropped.bit_count() == 1:  # the 1st, 2nd, 4th, 8th, …
                logger.warning(
                    "%s is too slow: %d event(s) dropped so far.", self.name, self.dropped
                )
        self._waiting.append(event)
        working, here = self._working, asyncio.get_running_loop()
        if working is None or working.done() or working.get_loop() is not here:
            self._working = asyncio.create_task(self._work())

    async def close(self, *, timeout_seconds: float = 0.0) -> None:
        """Stop, after waiting so long for what is on its way."""
        working, self._working = self._working, None
        if working is None or working.get_loop() is not asyncio.get_running_loop():
            return
        await asyncio.wait([working], timeout=timeout_seconds)
        if not working.done():
            working.cancel()
            # One that does not let itself be cancelled is left behind.
            await asyncio.wait([working], timeout=1.0)

    async def _work(self) -> None:
        while self._waiting:
            await self._deliver(self._waiting.popleft())

    async def _deliver(self, event: EventRecord) -> None:
        pause = PAUSE_SECONDS
        while True:
            try:
                await self._handle(event)
            except StoreError as error:
                logger.info("%s hears of run %s later: %s", self.name, event.run_id, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, PAUSE_MOST_SECONDS)
                continue
            except Exception:  # foreign code; a run must not suffer from it
                logger.exception("%s failed on %s of run %s", self.name, event.type, event.run_id)
            return
