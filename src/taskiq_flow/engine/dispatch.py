"""The worker's half: start a slot, run it, record the outcome, go on in place."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from taskiq import AsyncBroker

from taskiq_flow.engine.lease import Lease, LeaseKeeper, now_monotonic
from taskiq_flow.engine.sender import Sender, drain_in_place, pending_in_place
from taskiq_flow.engine.work import Interrupted, StepRunner
from taskiq_flow.exceptions import StoreError
from taskiq_flow.model.records import (
    Address,
    Finished,
    Grant,
    LostReason,
    Outcome,
    Ready,
    Refusal,
    RefusalReason,
    Wake,
)
from taskiq_flow.stores.base import Held, RunStore

logger = logging.getLogger("taskiq_flow.engine")

SHARE_AFTER_SECONDS = 0.005
"""A message may announce many slots. If the first is not done by then, the rest are sent on in
`SHARES` messages, so that slow steps spread over workers and quick ones need no messages."""

SHARES = 8

STOP_GRACE_SECONDS, STOP_SECONDS = 0.1, 1.5
"""How long a stopping worker waits for steps that are about to end, and for cancelled ones."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Budget:
    """How far one message may carry a worker before others get their turn."""

    seconds: float = 5.0
    steps: int = 1000


@dataclass(slots=True)
class Dispatcher:
    """Works off the slots that messages name.

    ``on_wake`` is told what a run that ended here leaves to do, ``on_due`` in how many seconds
    something becomes due that this worker knows of.
    """

    broker: AsyncBroker
    store: RunStore
    leases: LeaseKeeper
    sender: Sender
    runner: StepRunner
    budget: Budget
    on_wake: Callable[[Wake], Awaitable[None]]
    on_due: Callable[[float], None]
    stopping: bool = False
    random: random.Random = field(default_factory=random.Random)
    _clock_offset: float = 0.0
    _messages: set[asyncio.Task[Any]] = field(default_factory=set["asyncio.Task[Any]"])
    _background: set[asyncio.Task[None]] = field(default_factory=set["asyncio.Task[None]"])

    async def on_message(
        self, slots: Sequence[Ready], acknowledge: Callable[[], Awaitable[None]]
    ) -> None:
        """Handle one message: acknowledge it as soon as its first slot is claimed or refused.

        The message is only a hint, so it is acknowledged whatever happens: a slot that was not
        started stays due in the store, and an unacknowledged message would hold up others.
        """
        me = asyncio.current_task()
        if me is not None:
            self._messages.add(me)
        later: deque[Ready] = deque()
        outer = pending_in_place.set(later)
        try:
            await self._work_off(deque(slots), acknowledge)
            await drain_in_place(later, self._handle_in_place)
        finally:
            pending_in_place.reset(outer)
            if me is not None:
                self._messages.discard(me)

    async def _handle_in_place(self, slots: deque[Ready]) -> None:
        await self._work_off(slots, _no_acknowledgement)

    async def _work_off(
        self, slots: deque[Ready], acknowledge: Callable[[], Awaitable[None]]
    ) -> None:
        loop = asyncio.get_running_loop()
        acknowledged = False
        try:
            while slots:
                address = slots.popleft().address
                timer = loop.call_later(SHARE_AFTER_SECONDS, self._share, slots) if slots else None
                try:
                    claimed = await self._start(address)
                    if not acknowledged:
                        acknowledged = True
                        await acknowledge()
                    if claimed is not None:
                        await self._drive(*claimed)
                finally:
                    if timer is not None:
                        timer.cancel()
        finally:
            if not acknowledged:
                await acknowledge()

    def _share(self, slots: deque[Ready]) -> None:
        """Send on what is left of a message, a few slots each, to whoever is free."""
        rest = list(slots)
        slots.clear()
        share = -(-len(rest) // SHARES)
        self._later(self._send_parts([rest[at : at + share] for at in range(0, len(rest), share)]))

    async def _send_parts(self, parts: list[list[Ready]]) -> None:
        for part in parts:
            await self.sender.send(part)

    def _later(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # -- one slot after another

    async def _start(self, address: Address) -> tuple[Grant, str, float] | None:
        token = secrets.token_hex(8)
        asked_at = now_monotonic()
        try:
            answer = await self._ask(lambda: self.store.start(address, token), tries=4)
        except StoreError as error:
            logger.warning("Step %s was not started, it stays due: %s", address, error)
            return None
        if isinstance(answer, Refusal):
            if answer.reason is RefusalReason.GONE:
                logger.info("Nothing to do for %s: no such run or slot.", address)
            elif answer.retry_at is not None:
                self._becomes_due(answer.retry_at)
            return None
        self._clock_offset = answer.granted_at - asyncio.get_running_loop().time()
        if answer.deadline is not None:
            self._becomes_due(answer.deadline)
        return answer, token, asked_at

    async def _drive(self, grant: Grant, token: str, asked_at: float) -> None:
        """Run what is granted, and what is granted when that is recorded, within the budget."""
        loop = asyncio.get_running_loop()
        until, left = loop.time() + self.budget.seconds, self.budget.steps
        going: Grant | None = grant
        while going is not None:
            left -= 1
            lease = Lease(going.address, token, asked_at)
            self.leases.hold(lease)
            recorded = False
            try:
                outcome = await self._run(going, lease)
                if outcome is None:
                    return
                go_on = not self.stopping and left > 0 and loop.time() < until
                next_token = secrets.token_hex(8) if go_on else None
                asked_at = now_monotonic()
                finished = await self._finish(lease, outcome, next_token)
                recorded = True
            finally:
                self.leases.drop(token)
                if not recorded and lease.lost is None:
                    # The lease lives exactly as long as this coroutine, however it dies.
                    self._later(self._give_back(lease))
            await self.runner.after_record(going, recorded=finished.recorded)
            await self._follow(going, finished)
            going, token = finished.grant, next_token or ""

    async def _run(self, grant: Grant, lease: Lease) -> Outcome | None:
        """Run one grant in a child task; None when its outcome no longer counts."""
        if now_monotonic() - lease.asked_at > self.store.options.lease_seconds / 2:
            # This worker was stopped for a while; others may have finished the step since.
            lost = await self._ask(lambda: self.store.renew([Held(lease.address, lease.token)]))
            if lost:
                lease.lost = lost.get(lease.token, LostReason.TAKEN)
                return None
        child = self.runner.begin(grant, lease)
        if lease.lost is not None:
            lease.on_lost(lease.lost)
        try:
            return await child
        except Interrupted as interrupted:
            delay = interrupted.delay_seconds
            if delay is not None and not lease.is_over:
                lease.lost = LostReason.TAKEN
                ready = await self._ask(
                    lambda: self.store.release(lease.address, lease.token, delay_seconds=delay)
                )
                await self.sender.send(ready, apart=True)
            return None
        except asyncio.CancelledError:
            if not child.done():
                child.cancel()
            raise

    async def _finish(self, lease: Lease, outcome: Outcome, next_token: str | None) -> Finished:
        """Record an outcome, for as long as it takes: the lease is kept until the store answers."""
        return await self._ask(
            lambda: self.store.finish(lease.address, lease.token, outcome, next_token),
            until=lambda: lease.lost is not None,
        )

    async def _follow(self, grant: Grant, finished: Finished) -> None:
        if not finished.recorded:
            logger.info("The outcome of %s came too late and was dropped.", grant.address)
            return
        if finished.retry_at is not None:
            self._becomes_due(finished.retry_at)
        if finished.ready:
            await self.sender.send(finished.ready)
        for wake in finished.wakes:
            await self.on_wake(wake)

    def _becomes_due(self, at: float) -> None:
        """Look at a moment of the store's clock, which need not be ours."""
        now = asyncio.get_running_loop().time() + self._clock_offset
        self.on_due(max(0.0, at - now))

    async def _give_back(self, lease: Lease) -> None:
        try:
            ready = await self.store.release(lease.address, lease.token)
        except StoreError:
            return  # the lease runs out by itself
        await self.sender.send(ready, apart=True)

    async def _ask(
        self,
        call: Callable[[], Awaitable[T]],
        *,
        tries: int | None = None,
        until: Callable[[], bool] = lambda: False,
    ) -> T:
        """Call the store until it answers. Every call carries its token, so repeating is safe."""
        pause = 0.1
        while True:
            try:
                return await call()
            except StoreError as error:
                if tries is not None:
                    tries -= 1
                if tries == 0 or until():
                    raise
                logger.warning("The store does not answer, trying again: %s", error)
            await asyncio.sleep(pause * (1 + self.random.random()))
            pause = min(pause * 2, 2.0)

    # -- the end of the worker

    async def stop(self) -> None:
        """Cancel what still runs, give its slots back at once, and send them to others.

        What has just finished (a thread that ended while the loop stood still) is recorded first.
        """
        self.stopping = True
        me = asyncio.current_task()
        messages = [task for task in self._messages if task is not me]
        if messages:
            await asyncio.wait(messages, timeout=STOP_GRACE_SECONDS)
        for lease in self.leases.held:
            lease.given_up = True
            lease.on_lost(LostReason.TAKEN)
        going = [task for task in (*messages, *self._background) if not task.done()]
        if going:
            await asyncio.wait(going, timeout=STOP_SECONDS)
        if self._background:
            await asyncio.wait(list(self._background), timeout=STOP_SECONDS)


async def _no_acknowledgement() -> None:
    """A slot that came without a message needs none."""
