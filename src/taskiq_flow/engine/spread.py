"""Works off the slots of one message: side by side while they are quick, shared when they are not.

A message may name a hundred slots. Whoever gets it cannot know whether they take a tenth of a
millisecond, and want no further messages, or a minute, and want all workers there are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from taskiq_flow.model.records import Ready

LOOK_SECONDS = 0.02
"""When so much time has passed without the end of a slot, all that is left is sent on."""

SHARES = 8
"""In how many messages all that is left is sent on; who gets one shares it again."""

BUSY_SECONDS = 0.002
"""A loop that is late by more has much to do itself: that a slot has not ended says nothing of it.

Then, and while slots do end, half of what is left is sent on, of one message at a time: others
that are idle help, and where nobody is, it costs little."""

MOST_LANES = 16
"""So many slots of one message are worked on side by side, that the store's answers come together.

One more with every slot that ends, so that slow ones are not claimed before anybody knows it."""


@dataclass(slots=True)
class Pace:
    """How often this worker sends on half of a message, of all that it works on."""

    _next: float = 0.0

    def allows(self, now: float) -> bool:
        """Whether that is due; then it is not again for a while."""
        if now < self._next:
            return False
        self._next = now + LOOK_SECONDS
        return True


@dataclass(slots=True)
class Spread:
    """The slots of one message; ``room`` is what the worker still has room for, if it is limited.

    ``work`` sees one slot through, ``send_on`` takes those that others shall work on.
    """

    slots: deque[Ready]
    work: Callable[[Ready], Awaitable[None]]
    send_on: Callable[[Sequence[Sequence[Ready]]], None]
    room: asyncio.Semaphore | None
    pace: Pace
    most_lanes: int = MOST_LANES
    _lanes: int = 1
    _ended: int = 0
    _ended_before: int = 0
    _looking: asyncio.TimerHandle | None = None

    async def work_off(self) -> None:
        """Return when no slot is left here."""
        self._look_later()
        try:
            async with asyncio.TaskGroup() as lanes:
                await self._lane(lanes)
        finally:
            if self._looking is not None:
                self._looking.cancel()

    async def _lane(self, lanes: asyncio.TaskGroup) -> None:
        while self.slots:
            await self.work(self.slots.popleft())
            self._ended += 1
            if self.slots and self._lanes < self.most_lanes:
                await self._widen(lanes)

    async def _widen(self, lanes: asyncio.TaskGroup) -> None:
        room = self.room
        if room is not None:
            if room.locked():
                return
            await room.acquire()  # at once: waiting for each other, messages could wait for ever
        self._lanes += 1
        lane = lanes.create_task(self._lane(lanes))
        if room is not None:
            lane.add_done_callback(lambda _: room.release())

    def _look_later(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        if not self.slots:
            return
        assert self._looking is not None
        now = asyncio.get_running_loop().time()
        is_busy = now - self._looking.when() > BUSY_SECONDS
        has_moved, self._ended_before = self._ended > self._ended_before, self._ended
        left = list(self.slots)
        if not has_moved and not is_busy:
            self.slots.clear()
            size = -(-len(left) // SHARES)
            self.send_on([left[at : at + size] for at in range(0, len(left), size)])
            return
        if self.pace.allows(now):
            kept = len(left) // 2
            self.slots.clear()
            self.slots.extend(left[:kept])
            self.send_on([left[kept:]])
        self._look_later()
