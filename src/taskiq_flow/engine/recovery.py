"""Finds what stood still and wakes it: the net under every message and every worker."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from taskiq_flow.engine.outage import Outage
from taskiq_flow.engine.sender import Sender
from taskiq_flow.exceptions import StoreError
from taskiq_flow.model.records import Address, Ready, Wake, WakeKind, WorkerRecord
from taskiq_flow.stores.base import RunStore

logger = logging.getLogger("taskiq_flow.engine")

LOOK_SECONDS = 1.0
"""Every worker asks the store about this often, jittered, so that many do not ask at once.

With leases shorter than four of these it asks more often: see `Recovery.pause_seconds`."""

CLAIM = 100
"""Entries claimed in one call; a worker that finds as many asks again at once."""

UNSENT_MOST = 10_000
"""So many slots are kept for a broker that is away; what is more comes due in the store again."""

SETTLE_SECONDS = 0.5
"""A look waits so long for what ended runs leave to be done; the rest is done beside the looks."""

ANNOUNCE_SECONDS, ALIVE_SECONDS = 5.0, 20.0
"""How often a worker says that it lives, and for how long that is believed."""


@dataclass(slots=True)
class Recovery:
    """Asks the store what is due, sends messages for it, and settles what runs left behind."""

    store: RunStore
    sender: Sender
    queues: Callable[[], Sequence[str]]
    worker: Callable[[], WorkerRecord]
    settle: Callable[[Wake], Awaitable[None]]
    random: random.Random = field(default_factory=random.Random)
    _poked: asyncio.Event = field(default_factory=asyncio.Event)
    _pokes: set[int] = field(default_factory=set[int])
    _outage: Outage = field(
        default_factory=lambda: Outage(
            logger,
            "The run store is away; nothing is lost, trying again: %s",
            "The run store is back.",
        )
    )
    _unsent: dict[Address, Ready] = field(default_factory=dict[Address, Ready])
    _unsettled: dict[tuple[str, WakeKind], Wake] = field(
        default_factory=dict["tuple[str, WakeKind]", Wake]
    )
    _settling: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Look about once a second until cancelled. No error ends it."""
        try:
            await self._look_again_and_again()
        finally:
            if self._settling is not None:
                self._settling.cancel()
                await asyncio.wait([self._settling])

    async def _look_again_and_again(self) -> None:
        announced_at = float("-inf")
        loop = asyncio.get_running_loop()
        while True:
            try:
                if loop.time() - announced_at >= ANNOUNCE_SECONDS:
                    await self.store.announce(self.worker(), ttl_seconds=ALIVE_SECONDS)
                    announced_at = loop.time()
                await self.look()
                self._outage.end()
            except StoreError as error:
                self._outage.begin(error)
            except Exception:
                # Recovery must outlive whatever a broker or store throws at it.
                logger.exception("Looking for what is due failed; trying again.")
            await self._rest(self.pause_seconds * (0.75 + 0.5 * self.random.random()))

    @property
    def pause_seconds(self) -> float:
        # Rarer looks than these would seem an outage to the store, after which no lease expires.
        return min(LOOK_SECONDS, self.store.options.lease_seconds / 4)

    async def look(self) -> int:
        """Wake all that is due now; returns how much that was.

        While the broker takes nothing, no more than one page is claimed at a time.
        """
        found = 0
        if self._unsent:
            await self._send(list(self._unsent.values()))
        while True:
            wakes = await self.store.due(self.queues(), limit=CLAIM)
            found += len(wakes)
            await self._wake(wakes)
            if len(wakes) < CLAIM or self._unsent:
                return found

    async def _wake(self, wakes: Sequence[Wake]) -> None:
        ready: list[Ready] = [wake.ready for wake in wakes if wake.ready is not None]
        if ready:
            logger.debug("Sending %d step(s) that stood still or became due.", len(ready))
            await self._send(ready)
        left = [wake for wake in wakes if wake.ready is None]
        if left:
            await self._settle(left)

    async def _settle(self, wakes: Sequence[Wake]) -> None:
        """Do what ended runs left, one after another; what takes long is done beside the looks.

        A result backend that hangs must keep no step from being sent. And looks that are too rare
        would seem an outage to the store, after which no lease expires.
        """
        for wake in wakes:
            if len(self._unsettled) < UNSENT_MOST:
                self._unsettled[wake.run_id, wake.kind] = wake
        if self._settling is None or self._settling.done():
            self._settling = asyncio.get_running_loop().create_task(self._settle_in_turn())
        await asyncio.wait([self._settling], timeout=SETTLE_SECONDS)

    async def _settle_in_turn(self) -> None:
        while self._unsettled:
            name, wake = next(iter(self._unsettled.items()))
            try:
                await self.settle(wake)
            except Exception:
                # Whatever it was, it is due again, and so are the others.
                logger.exception("Settling the end of run %s failed; trying again.", wake.run_id)
            del self._unsettled[name]

    async def _send(self, ready: Sequence[Ready]) -> None:
        """Send, and keep what the broker did not take for the next look.

        A claim counts as a kick, so the store would name these slots ever less often.
        """
        for entry in ready:
            self._unsent.pop(entry.address, None)
        for entry in await self.sender.send(ready):
            if len(self._unsent) < UNSENT_MOST:
                self._unsent[entry.address] = entry

    def look_in(self, seconds: float) -> None:
        """Look in so many seconds too, because something that we know of is due then."""
        loop = asyncio.get_running_loop()
        # One look per hundredth of a second is enough, however many slots are due in it.
        moment = int((loop.time() + seconds) * 100) + 1
        if moment not in self._pokes:
            self._pokes.add(moment)
            loop.call_at(moment / 100, self._poke, moment)

    def _poke(self, moment: int) -> None:
        self._pokes.discard(moment)
        self._poked.set()

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._poked.wait()
        except TimeoutError:
            pass
        self._poked.clear()
