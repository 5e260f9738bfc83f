"""Wakes those who wait for a run to end: one subscription or one poller per process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field

from taskiq_flow.engine.together import Together
from taskiq_flow.exceptions import StoreError
from taskiq_flow.model.records import RunStatus
from taskiq_flow.stores.base import RunStore

logger = logging.getLogger("taskiq_flow.engine")

POLL_FIRST_SECONDS, POLL_MOST_SECONDS = 0.02, 1.0
"""A store that cannot push is asked after 20 ms, then less and less often, for all at once."""

RECHECK_SECONDS = 5.0
"""One that pushes is asked this often all the same: a notice may be lost with a connection."""


@dataclass(slots=True)
class Waiter:
    """Futures of runs that somebody in this process waits for."""

    store: RunStore
    _waiting: dict[str, set[asyncio.Future[RunStatus | None]]] = field(
        default_factory=dict[str, "set[asyncio.Future[RunStatus | None]]"]
    )
    _pushes: bool | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _poller: asyncio.Task[None] | None = None
    _new: asyncio.Event | None = None
    _look_up: Together[str, dict[str, RunStatus]] = field(init=False)

    def __post_init__(self) -> None:
        self._look_up = Together(self.store.ended_among)

    async def wait(self, run_id: str, *, timeout_seconds: float | None = None) -> RunStatus | None:
        """Wait until a run has ended; None when the time is up. Cancelling the wait is free.

        Registers, subscribes, and only then looks: an end in between is not missed.
        """
        await self._listen()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[RunStatus | None] = loop.create_future()
        self._waiting.setdefault(run_id, set()).add(future)
        try:
            known = await self._known_end(run_id)
            if known is not None:
                return known
            self._poll()
            timer = (
                None
                if timeout_seconds is None
                else loop.call_later(timeout_seconds, _give_up, future)
            )
            try:
                return await future
            finally:
                if timer is not None:
                    timer.cancel()
        finally:
            futures = self._waiting.get(run_id)
            if futures is not None:
                futures.discard(future)
                if not futures:
                    del self._waiting[run_id]

    def close(self) -> None:
        """Stop polling; whoever still waits goes on waiting on the next `wait`."""
        if self._poller is not None:
            self._poller.cancel()
            self._poller = None

    async def _known_end(self, run_id: str) -> RunStatus | None:
        if self.store.shared:
            # Whoever begins to wait in the same turn of the loop is looked up by the same call.
            return (await self._look_up.add([run_id])).get(run_id)
        return (await self.store.ended_among([run_id])).get(run_id)

    async def _listen(self) -> None:
        if self._pushes is None:
            self._loop = asyncio.get_running_loop()
            self._pushes = await self.store.listen(self._on_end)

    def _on_end(self, run_id: str, status: RunStatus) -> None:
        if run_id not in self._waiting or self._loop is None:
            return
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._resolve(run_id, status)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._resolve, run_id, status)

    def _resolve(self, run_id: str, status: RunStatus) -> None:
        for future in self._waiting.get(run_id, ()):
            if not future.done():
                future.set_result(status)

    def _poll(self) -> None:
        going = self._poller is not None and not self._poller.done()
        if going and self._pushes:
            return  # whoever begins to wait now makes it look no sooner
        if self._new is None:
            self._new = asyncio.Event()
        self._new.set()
        if not going:
            self._poller = asyncio.create_task(self._ask_in_turns(self._new))

    async def _ask_in_turns(self, new: asyncio.Event) -> None:
        """Ask for all waited runs at once; soon after somebody new waits, else less often."""
        pause = POLL_FIRST_SECONDS
        while self._waiting:
            if self._pushes:
                await asyncio.sleep(RECHECK_SECONDS)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await new.wait()
                pause = min(pause * 1.5, POLL_MOST_SECONDS)
                if new.is_set():
                    new.clear()
                    pause = POLL_FIRST_SECONDS
                    await asyncio.sleep(pause)
            try:
                ended = await self.store.ended_among(list(self._waiting))
            except StoreError as error:
                logger.warning("The store did not answer whether runs have ended: %s", error)
                continue
            except Exception:
                # Without this task whoever waits would wait for ever.
                logger.exception("Asking whether runs have ended failed; asking again.")
                continue
            for run_id, status in ended.items():
                self._resolve(run_id, status)


def _give_up(future: asyncio.Future[RunStatus | None]) -> None:
    if not future.done():
        future.set_result(None)
