"""Engines of event loops that run beside the one in which a broker is at work."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from taskiq_flow.model.records import Ready

if TYPE_CHECKING:
    from taskiq_flow.engine.runtime import Runtime


@dataclass(slots=True)
class Beside:
    """A client's engine for each other event loop that runs, in a thread of its own.

    A step in a thread may start a run with ``asyncio.run``. That must not take the engine out of
    the loop in which it keeps the leases of running steps.
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
                left = self._known.pop(old)
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
