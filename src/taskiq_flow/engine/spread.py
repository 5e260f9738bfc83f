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
"""When so much time has passed without the end of a slot, all that is left is sent on; while some
end, half of it is, so that other workers help with many that are neither quick nor slow."""

SHARES = 8
"""In how many messages all that is left is sent on; who gets one shares it again."""

MOST_LANES = 16
"""So many slots of one message are worked on side by side, that the store's answers come together.

One more with every slot that ends, so that slow ones are not claimed before anybody knows it."""


@dataclass(slots=True)
class Spread:
    """The slots of one message; ``room`` is what the worker still has room for, if it is limited.

    ``work`` sees one slot through, ``send_on`` takes those that others shall work on.
    """

    slots: deque[Ready]
    work: Callable[[Ready], Awaitable[None]]
    send_on: Callable[[Sequence[Sequence[Ready]]], None]
    room: asyncio.Semaphore | None
    most_lanes: int = MOST_LANES
    _lanes: int = 1
    _ended: int = 0
    _ended_before: int = 0
    _was_late: bool = False
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
        late = asyncio.get_running_loop().time() - self._looking.when() > LOOK_SECONDS / 2
        if late and not self._was_late:
            # The process stood still, or was kept busy: that says nothing of these slots.
            self._was_late = True
            self._look_later()
            return
        self._was_late = False
        left = list(self.slots)
        self.slots.clear()
        if self._ended == self._ended_before:
            size = -(-len(left) // SHARES)
            self.send_on([left[at : at + size] for at in range(0, len(left), size)])
            return
        self._ended_before = self._ended
        kept = len(left) // 2
        self.slots.extend(left[:kept])
        self.send_on([left[kept:]])
        self._look_later()
