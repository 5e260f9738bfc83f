"""Engines of event loops that run beside the one in which a broker is at work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from taskiq_flow.model.records import Ready, RunSnapshot

if TYPE_CHECKING:
    from taskiq_flow.engine.runtime import Runtime

T = TypeVar("T")

logger = logging.getLogger("taskiq_flow.engine")

HOME_SECONDS = 6.0
"""Longer than a message may take; a loop at home that is blocked for so long is not waited for."""


@dataclass(slots=True)
class Beside:
    """A client's engine for each other event loop that runs, in a thread of its own.

    A step in a thread may start a run with ``asyncio.run``. That must not take the engine out of
    the loop in which it keeps the leases of running steps. Connections of the broker and of its
    result backend belong to that loop as well: one that this loop leaves behind, closed, would end
    the worker that takes it up. So what needs them is done at home.
    """

    home: Runtime
    _known: dict[asyncio.AbstractEventLoop, Runtime] = field(
        default_factory=dict["asyncio.AbstractEventLoop", "Runtime"]
    )

    def here(self) -> Runtime:
        """The engine for the running event loop: that at home, unless it is at work in another."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return self.home
        if self.home.works_in in (None, running):
            return self.home
        found = self._known.get(running)
        if found is None:
            for old in [loop for loop in list(self._known) if loop.is_closed()]:
                left = self._known.pop(old, None)
                if left is not None:  # two threads may look at once
                    left.leases.stop()
                    left.dispatcher.runner.leave_loop()
                    left.store.leave()
            found = self._known[running] = self._make()
        return found

    def _make(self) -> Runtime:
        home = self.home
        return type(home)(
            broker=home.broker,
            store=home.store.twin(),
            config=home.config,
            own_middlewares=home.own_middlewares,
            hook=home.hook,
            home=home,
            stamps=home.stamps,
            endings=home.endings,
        )

    def take(self, ready: Sequence[Ready]) -> None:
        """Begin at home what was started here; when nobody is there, it stays in the store."""
        hand_over, loop = self.home.sender.hand_over, self.home.works_in
        if hand_over is not None and loop is not None:
            loop.call_soon_threadsafe(hand_over, ready)

    async def send(self, ready: Sequence[Ready], apart: bool) -> list[Ready]:
        """Send from home what was started here; returns what was not sent, as a sender does."""
        try:
            return await self._at_home(lambda: self.home.sender.send(ready, apart=apart))
        except TimeoutError as error:
            logger.warning(
                "%d step(s) of run %s are sent later, by a worker that looks into the store: %s",
                len(ready),
                ready[0].address.run_id,
                error,
            )
            return list(ready)

    async def settle_cancelled(self, run: RunSnapshot) -> None:
        """Settle at home the end of a run that was cancelled here."""
        try:
            await self._at_home(lambda: self.home.settler.settle_cancelled(run))
        except TimeoutError as error:
            logger.info("The end of run %s is left to the workers: %s", run.run_id, error)

    async def _at_home(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        loop = self.home.works_in
        if loop is None:
            raise TimeoutError("the event loop of the broker has stopped")
        work = make()
        try:
            answer = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
        except RuntimeError as error:  # closed just now
            work.close()
            raise TimeoutError("the event loop of the broker was closed") from error
        done, _ = await asyncio.wait([answer], timeout=HOME_SECONDS)
        if not done:
            answer.cancel()
            raise TimeoutError(f"the event loop of the broker did not answer in {HOME_SECONDS} s")
        if answer.cancelled():
            raise TimeoutError("the event loop of the broker was stopped meanwhile")
        return answer.result()
