"""The loop of a scheduler, which outlives outages."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from taskiq_flow.exceptions import StorageUnavailableError, StoreError

logger = logging.getLogger("taskiq_flow.scheduling")

SHORTEST_WAIT: Final = 0.02


class Service:
    """Calls a round again and again: when something is due, when it is woken, and to look around.

    A round returns when something is due next, by the clock.
    """

    def __init__(
        self, go: Callable[[], Awaitable[float]], clock: Callable[[], float], poll_seconds: float
    ) -> None:
        self._go, self._clock, self._poll_seconds = go, clock, poll_seconds
        self._loop: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._stopping = False

    @property
    def running(self) -> bool:
        return self._loop is not None and not self._loop.done()

    def start(self) -> None:
        if not self.running:
            self._stopping, self._woken = False, asyncio.Event()  # it belongs to a loop
            self._loop = asyncio.get_running_loop().create_task(self._run())

    def wake(self) -> None:
        """Let the next round begin at once."""
        self._woken.set()

    async def stop(self) -> None:
        """Let the round that is going be the last one, and wait for it."""
        self._stopping = True
        self._woken.set()
        if self._loop is not None:
            await asyncio.wait([self._loop])
            self._loop = None

    async def _run(self) -> None:
        away = False
        while not self._stopping:
            wait = self._poll_seconds
            self._woken.clear()
            try:
                next_at = await self._go()
                wait = min(max(next_at - self._clock(), SHORTEST_WAIT), self._poll_seconds)
                if away:
                    logger.info("The store answers again; schedules go on.")
                away = False
            except (StoreError, StorageUnavailableError) as error:
                if not away:
                    logger.warning("Schedules wait for the store: %s", error)
                away = True
            except Exception:
                # A mistake here must not end all schedules of a process for good.
                logger.exception("A look at the schedules failed; trying again.")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._woken.wait()
