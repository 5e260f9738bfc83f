"""Keeps the leases of running steps alive, from a thread of its own, and hears when one is lost."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from dataclasses import dataclass, field

from taskiq_flow.context import Flag
from taskiq_flow.engine.outage import Outage
from taskiq_flow.exceptions import StoreError
from taskiq_flow.model.records import Address, Grant, LostReason, Outcome
from taskiq_flow.stores.base import Held, RunStore

logger = logging.getLogger("taskiq_flow.engine")

LOOK_SECONDS = 1.0
"""The longest pause between two renewals: a cancel is seen by running code within 2 s."""


@dataclass(slots=True)
class Lease:
    """A lease as its holder sees it, with the task that works under it, once there is one."""

    grant: Grant
    asked_at: float  # monotonic, before the request for it left: it is never younger than this
    confirmed_at: float  # monotonic, when the latest renewal was asked for
    ended: asyncio.Future[None]  # when its work is over, however that went; of its holder's loop
    child: asyncio.Task[Outcome] | None = None
    stopped: Flag | None = None  # for code that cannot be cancelled
    lost: LostReason | None = None
    given_up: bool = False  # this worker stops, and will give the slot back
    handed_on: bool = False  # something else than its coroutine sees to its end

    @classmethod
    def taken(cls, grant: Grant, asked_at: float, loop: asyncio.AbstractEventLoop) -> Lease:
        """A lease that was just granted, to be worked under in this event loop."""
        return cls(grant, asked_at, asked_at, loop.create_future())

    @property
    def address(self) -> Address:
        return self.grant.address

    @property
    def token(self) -> str:
        return self.grant.token

    @property
    def is_over(self) -> bool:
        """Whether what its holder does is of no more use."""
        return self.given_up or self.lost is not None

    def stop(self) -> None:
        """Stop what works under it; to be called in its event loop, when the lease is over.

        Sync code sees the flag, async code is cancelled.
        """
        if self.stopped is not None:
            self.stopped.is_set = True
        if self.child is not None:
            self.child.cancel()
            # One that had not begun says nothing of its end.
            self.child.add_done_callback(lambda _: self.end())

    def end(self) -> None:
        """Wake whoever waits for the end of the work.

        The work says so itself, as the last thing that it does: a callback of its task would come
        a turn of the event loop later.
        """
        if not self.ended.done():
            self.ended.set_result(None)


@dataclass(slots=True)
class LeaseKeeper:
    """All leases of this process.

    A lease is renewed as long as it is held here, and it is held exactly as long as the coroutine
    that owns it runs (`dispatch` gives it up in a ``finally``), also when its run has ended
    meanwhile: until the code has stopped, its places in limits are nobody else's. The thread has
    its own event loop and way into the store, so a step that blocks the main loop keeps its lease.
    """

    store: RunStore
    lease_seconds: float
    random: random.Random = field(default_factory=random.Random)
    taken: int = 0
    _held: dict[str, Lease] = field(default_factory=dict[str, Lease])
    _thread: threading.Thread | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _loop: asyncio.AbstractEventLoop | None = None
    _outage: Outage = field(
        default_factory=lambda: Outage(
            logger,
            "Leases cannot be renewed, steps go on meanwhile: %s",
            "Leases are renewed again.",
        )
    )

    @property
    def pause_seconds(self) -> float:
        """Seconds between two renewals: a quarter of the lease, at most `LOOK_SECONDS`."""
        return min(self.lease_seconds / 4, LOOK_SECONDS)

    def hold(self, lease: Lease) -> None:
        self.taken += 1
        self._held[lease.grant.token] = lease

    def drop(self, token: str) -> None:
        self._held.pop(token, None)

    @property
    def held(self) -> list[Lease]:
        return list(self._held.values())

    def start(self) -> None:
        """Start the thread; may be called again. Lost leases are told to the running loop."""
        self._loop = asyncio.get_running_loop()
        if self._thread is None or not self._thread.is_alive():
            self._stop = threading.Event()
            self._thread = threading.Thread(
                target=self._run, name="taskiq-flow-leases", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Let the thread end; what is still held will run out."""
        self._stop.set()
        self._thread = None

    def _run(self) -> None:
        try:
            asyncio.run(self.keep(self.store.twin(), self._stop))
        except Exception:
            logger.exception("The lease thread ended; leases of this process will run out.")

    async def keep(self, store: RunStore, stop: threading.Event) -> None:
        """Renew until told to stop; the body of the thread, on whichever loop it is run."""
        # Renewals of many workers spread out over the pause.
        await self._rest(stop, self.pause_seconds * self.random.random())
        while not stop.is_set():
            answered = await self.renew_once(store)
            # A lease stands more than one failed renewal, if the next one does not wait as long.
            await self._rest(stop, self.pause_seconds if answered else self.pause_seconds / 4)
        await store.close()

    async def _rest(self, stop: threading.Event, seconds: float) -> None:
        until = asyncio.get_running_loop().time() + seconds
        while not stop.is_set():
            left = until - asyncio.get_running_loop().time()
            if left <= 0:
                return
            await asyncio.sleep(min(left, 0.25))

    async def renew_once(self, store: RunStore) -> bool:
        """Renew what is held now, in one call; False when the store does not answer.

        A store that fails keeps everything as it is.
        """
        held = self.held
        if not held:
            return True
        asked_at = now_monotonic()
        try:
            lost = await store.renew([Held(lease.address, lease.token) for lease in held])
        except StoreError as error:
            # Only an answer can take a lease away; without one the step goes on, and `due`
            # holds back for a lease once the store is there again.
            self._outage.begin(error)
            return False
        except Exception:
            # Without this thread every step of the process would be given away.
            logger.exception("Renewing leases failed; trying again.")
            return False
        self._outage.end()
        for lease in held:
            reason = lost.get(lease.token)
            if reason is None:
                lease.confirmed_at = asked_at
            elif self._held.get(lease.token) is lease:
                lease.lost = reason
                self._stop_work(lease)
        return True

    def _stop_work(self, lease: Lease) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        if loop is asyncio.get_running_loop():
            lease.stop()
        else:
            loop.call_soon_threadsafe(lease.stop)


def now_monotonic() -> float:
    """The clock that ages of leases are measured with: the running loop's, so tests can turn it."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()
