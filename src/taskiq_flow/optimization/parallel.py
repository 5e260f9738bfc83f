"""How many steps this process works on at once, and each run that it starts."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass, field

from taskiq_flow.exceptions import InvalidTaskOptionError
from taskiq_flow.model.numbers import is_count

__all__ = ["max_parallel_tasks", "set_max_parallel_tasks"]


def set_max_parallel_tasks(most: int | None) -> None:
    """Let this process work on so many steps at once, and no more; None removes that.

    Every run that this process starts from now on carries it as well, unless its pipeline says
    less: of all that is said the lowest number counts. What is running goes on. A step that waits
    for another run keeps its place, so there have to be more places than such steps.

    Raises:
        InvalidTaskOptionError: It is not a whole number of 1 or more.
    """
    if most is not None and not is_count(most):
        rule = "must be a whole number, 1 or more, or None"
        raise InvalidTaskOptionError("max_parallel_tasks", most, rule)
    room.resize(most)


def max_parallel_tasks() -> int | None:
    """What was set last; None for no limit."""
    return room.most


def lowest(*limits: int | None) -> int | None:
    """The smallest of the numbers that were given."""
    return min([each for each in limits if each is not None], default=None)


@dataclass(slots=True)
class Room:
    """The places of this process; whoever waits for one is served in order, in any event loop."""

    most: int | None = None
    _taken: dict[asyncio.AbstractEventLoop, int] = field(
        default_factory=dict["asyncio.AbstractEventLoop", int]
    )
    _waiting: deque[_Waiter] = field(default_factory=deque["_Waiter"])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def resize(self, most: int | None) -> None:
        with self._lock:
            self.most = most
            self._serve()

    def try_enter(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Take a place in the running event loop, if there is one now that nobody waits for."""
        with self._lock:
            if self._waiting or not self._has_place():
                return False
            self._take(loop)
            return True

    async def enter(self) -> None:
        """Take a place as soon as there is one."""
        loop = asyncio.get_running_loop()
        if self.try_enter(loop):
            return
        waiter = _Waiter(loop, loop.create_future())
        with self._lock:
            self._waiting.append(waiter)
            self._serve()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            with self._lock:
                if waiter.served:
                    self._give_back(loop)
                else:
                    self._waiting.remove(waiter)
                self._serve()
            raise

    def leave(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give back a place that was taken in an event loop, which may be closed by now."""
        with self._lock:
            self._give_back(loop)
            self._serve()

    def _has_place(self) -> bool:
        if self.most is None:
            return True
        # What was cut off with its event loop leaves no more.
        for loop in [loop for loop in self._taken if loop.is_closed()]:
            del self._taken[loop]
        return sum(self._taken.values()) < self.most

    def _take(self, loop: asyncio.AbstractEventLoop) -> None:
        self._taken[loop] = self._taken.get(loop, 0) + 1

    def _give_back(self, loop: asyncio.AbstractEventLoop) -> None:
        left = self._taken.get(loop, 0) - 1
        if left > 0:
            self._taken[loop] = left
        else:
            self._taken.pop(loop, None)

    def _serve(self) -> None:
        while self._waiting and self._has_place():
            waiter = self._waiting.popleft()
            if waiter.call():
                waiter.served = True
                self._take(waiter.loop)


@dataclass(slots=True, eq=False)
class _Waiter:
    loop: asyncio.AbstractEventLoop
    turn: asyncio.Future[None]
    served: bool = False

    def call(self) -> bool:
        """Say that it is its turn; False when its event loop is gone."""
        if self.loop.is_closed():
            return False
        self.loop.call_soon_threadsafe(self._wake)
        return True

    def _wake(self) -> None:
        if not self.turn.done():
            self.turn.set_result(None)


room = Room()
"""The places of this process, whichever brokers it has."""
