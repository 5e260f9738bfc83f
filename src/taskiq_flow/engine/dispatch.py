"""The worker's half: start a slot, run it, record the outcome, go on in place."""

from __future__ import annotations

import asyncio
import functools
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskiq import AsyncBroker

from taskiq_flow.engine.asking import ask
from taskiq_flow.engine.begun import Acknowledge, Begun
from taskiq_flow.engine.ids import new_token
from taskiq_flow.engine.lease import Lease, LeaseKeeper
from taskiq_flow.engine.returning import Returns
from taskiq_flow.engine.sender import Sender, drain_in_place, pending_in_place
from taskiq_flow.engine.spread import Pace, Spread
from taskiq_flow.engine.step import Interrupted
from taskiq_flow.engine.work import StepRunner
from taskiq_flow.exceptions import StoreError
from taskiq_flow.model.records import (
    Address,
    Finished,
    Grant,
    Items,
    LostReason,
    Outcome,
    Ready,
    Refusal,
    RefusalReason,
    Retry,
    Wake,
)
from taskiq_flow.optimization.parallel import room
from taskiq_flow.stores.base import RunStore

logger = logging.getLogger("taskiq_flow.engine")

STOP_GRACE_SECONDS, STOP_SECONDS = 0.1, 1.5
"""How long a stopping worker waits for steps that are about to end, and for cancelled ones."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How far one message may carry a worker before others get their turn."""

    seconds: float = 5.0
    steps: int = 1000


@dataclass(slots=True)
class Dispatcher:
    """Works off the slots that messages name.

    ``on_wake`` is told what a run that ended here leaves to do, ``on_due`` in how many seconds
    something becomes due that this worker knows of, ``on_retry`` of tries to be made again.
    """

    broker: AsyncBroker
    store: RunStore
    leases: LeaseKeeper
    sender: Sender
    runner: StepRunner
    budget: Budget
    on_wake: Callable[[Wake], Awaitable[None]]
    on_due: Callable[[float], None]
    on_retry: Callable[[Grant, Outcome], Awaitable[None]] | None = None
    stopping: bool = False
    random: random.Random = field(default_factory=random.Random)
    new_token: Callable[[], str] = new_token
    _clock_offset: float = 0.0
    _pace: Pace = field(default_factory=Pace)
    _messages: set[asyncio.Task[Any]] = field(default_factory=set["asyncio.Task[Any]"])
    returns: Returns = field(init=False)

    def __post_init__(self) -> None:
        self.returns = Returns(self.store, self.leases, self.sender, self.runner, self.random)

    async def on_message(
        self, slots: Sequence[Ready], acknowledge: Acknowledge | None = None
    ) -> None:
        """Handle one message: acknowledge it as soon as its first slot is claimed or refused.

        The message is only a hint, so it is acknowledged whatever happens: a slot that was not
        started stays due in the store, and an unacknowledged message would hold up others.
        """
        if self.sender.awaits_in_place:
            await self._see_to(self._work_off_in_place(slots, acknowledge))
        else:
            await self._see_to(self._work_off(slots, acknowledge))

    async def on_lease(self, lease: Lease) -> None:
        """Work off a slot that was started with the creation of its run.

        Whoever created it has its lease from `hold`, and has taken its place in the `room`.
        """
        loop = asyncio.get_running_loop()
        try:
            await self._see_to(self._see_through_in_room(Begun(None), lease, loop))
        finally:
            room.leave(loop)

    async def _see_to(self, work: Coroutine[Any, Any, None]) -> None:
        me = asyncio.current_task()
        if me is not None:
            self._messages.add(me)
        try:
            await work
        finally:
            if me is not None:
                self._messages.discard(me)

    async def _work_off_in_place(
        self, slots: Sequence[Ready], acknowledge: Acknowledge | None
    ) -> None:
        later: deque[Ready] = deque()
        outer = pending_in_place.set(later)
        try:
            await self._work_off(slots, acknowledge)
            await drain_in_place(later, self._work_off)
        finally:
            pending_in_place.reset(outer)

    async def _work_off(
        self, slots: Sequence[Ready], acknowledge: Acknowledge | None = None
    ) -> None:
        begun = Begun(acknowledge)
        try:
            if len(slots) == 1:
                await self._see_through(begun, slots[0])
            else:
                await self._spread(begun, slots)
        finally:
            await begun.say()

    async def _spread(self, begun: Begun, slots: Sequence[Ready]) -> None:
        receiver = self.runner.invoker.receiver
        room = None if receiver is None else receiver.sem
        work = functools.partial(self._see_through, begun)
        spread = Spread(deque(slots), work, self._send_on, room, self._pace)
        if self.sender.awaits_in_place:
            spread.most_lanes = 1
        await spread.work_off()

    def _send_on(self, parts: Sequence[Sequence[Ready]]) -> None:
        self.returns.later(self._send_parts(parts))

    async def _send_parts(self, parts: Sequence[Sequence[Ready]]) -> None:
        for part in parts:
            await self.sender.send(part)

    # -- one slot after another

    async def _see_through(self, begun: Begun, entry: Ready) -> None:
        """Run what is granted, and what is granted when that is recorded, within the budget.

        However this ends, the slot that is held then is given back.
        """
        loop = asyncio.get_running_loop()
        if not room.try_enter(loop):
            # Others may take the slot meanwhile, so its message is not kept back.
            await begun.say()
            await room.enter()
        try:
            held = await self._start(entry.address, loop)
            await self._see_through_in_room(begun, held, loop)
        finally:
            room.leave(loop)

    async def _see_through_in_room(
        self, begun: Begun, held: Lease | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        until, left = loop.time() + self.budget.seconds, self.budget.steps
        try:
            await begun.say()
            while held is not None:
                left -= 1
                outcome = await self._run(held)
                if outcome is None:
                    return
                if isinstance(outcome, (Retry, Items)):
                    await self.tell_retry(held.grant, outcome)
                now, grant = loop.time(), held.grant
                next_token = None
                if left > 0 and now < until and not self.stopping:
                    next_token = self.new_token()
                finished, held = await self._record(held, outcome, next_token, now)
                if self.runner.children.created:
                    await self._send_child(grant, recorded=finished.recorded)
                if self.runner.calls:
                    await self.runner.after_record(grant, recorded=finished.recorded)
                await self._follow(grant, finished)
        finally:
            if held is not None:
                self.returns.let_go(held)

    async def tell_retry(self, grant: Grant, outcome: Outcome) -> None:
        """Let those know who want to hear of tries that will be made again, if any will be."""
        if isinstance(outcome, Items) and not outcome.retries:
            return
        if self.on_retry is not None:
            await self.on_retry(grant, outcome)

    async def _start(self, address: Address, loop: asyncio.AbstractEventLoop) -> Lease | None:
        token, asked_at = self.new_token(), loop.time()
        try:
            call = functools.partial(self.store.start, address, token)
            answer = await ask(call, self.random, tries=4)
        except StoreError as error:
            logger.warning("Step %s was not started, it stays due: %s", address, error)
            self.returns.give_back(address, token)
            return None
        except asyncio.CancelledError:
            # The call may have been obeyed.
            self.returns.give_back(address, token)
            raise
        if isinstance(answer, Refusal):
            if answer.reason is RefusalReason.GONE:
                logger.info("Nothing to do for %s: no such run or slot.", address)
            elif answer.retry_at is not None:
                self._becomes_due(answer.retry_at)
            return None
        return self.hold(answer, asked_at)

    def hold(self, grant: Grant, asked_at: float) -> Lease:
        """Keep a lease that the store has just granted; when it was asked is the loop's time."""
        loop = asyncio.get_running_loop()
        self._clock_offset = grant.granted_at - loop.time()
        if grant.deadline is not None:
            self._becomes_due(grant.deadline)
        return self._hold(grant, asked_at, loop)

    def _hold(self, grant: Grant, asked_at: float, loop: asyncio.AbstractEventLoop) -> Lease:
        """Keep a lease from here on, without a moment in between in which nobody does."""
        lease = Lease.taken(grant, asked_at, loop)
        self.leases.hold(lease)
        return lease

    async def _run(self, lease: Lease) -> Outcome | None:
        """Run one grant in a child task; None when its outcome no longer counts."""
        if lease.is_over:
            return None
        child = lease.child = self.runner.begin(lease)
        try:
            # Not awaited itself: cancelling this coroutine is nothing that the step did.
            await lease.ended
            # Its context leads back to the lease: a cycle, which only the collector would free.
            lease.child = None
            return child.result()
        except Interrupted as interrupted:
            delay = interrupted.delay_seconds
            if delay is not None and not lease.is_over:
                await self._put_off(lease, delay)
            return None
        except asyncio.CancelledError as error:
            if child.cancelled() and lease.is_over:
                return None  # it was stopped before it began
            me = asyncio.current_task()
            if child.cancelled() and me is not None and not me.cancelling():
                # The step cancelled its own task: given back, it would be begun for ever.
                return self.runner.broken(lease.grant, error)
            lease.given_up = True
            lease.stop()
            child.add_done_callback(_taken_note_of)  # nobody awaits it any more
            raise

    async def _put_off(self, lease: Lease, delay_seconds: float) -> None:
        """Give a slot back for later: the step asked for it, or its task is not here."""
        try:
            ready = await ask(
                lambda: self.store.release(lease.address, lease.token, delay_seconds=delay_seconds),
                self.random,
                until=lambda: lease.is_over,
            )
        except StoreError:
            return
        lease.lost = LostReason.TAKEN
        if delay_seconds > 0:
            self.on_due(delay_seconds)
        await self.sender.send(ready, apart=True)

    async def _record(
        self, lease: Lease, outcome: Outcome, next_token: str | None, asked_at: float
    ) -> tuple[Finished, Lease | None]:
        """Record an outcome, and hold what is granted with the answer."""
        try:
            finished = await self._finish(lease, outcome, next_token)
        except asyncio.CancelledError:
            lease.handed_on = True
            self.returns.later(self._record_and_release(lease, outcome, next_token))
            raise
        self.leases.drop(lease.grant.token)
        if finished.grant is None or next_token is None:
            return finished, None
        return finished, self._hold(finished.grant, asked_at, lease.ended.get_loop())

    async def _send_child(self, grant: Grant, *, recorded: bool) -> None:
        """Let a child run begin, now that its parent is known to wait for it."""
        try:
            await self.sender.send(await self.runner.children.parked(grant, recorded=recorded))
        except StoreError as error:
            logger.warning("Children of %s are looked after later: %s", grant.address, error)

    async def _record_and_release(
        self, lease: Lease, outcome: Outcome, next_token: str | None
    ) -> None:
        """End what a dying coroutine began: the call may have been obeyed, and more been granted.

        The same call again gets the same answer, so what was granted is known and given back.
        """
        try:
            finished = await self._finish(lease, outcome, next_token)
        except StoreError:
            return
        finally:
            self.leases.drop(lease.token)
            self.runner.calls.pop(lease.token, None)
            self.runner.children.created.pop(lease.token, None)
        if finished.grant is not None and next_token is not None:
            await self.returns.release(finished.grant.address, next_token)
        await self._follow(lease.grant, finished)

    def _finish(
        self, lease: Lease, outcome: Outcome, next_token: str | None
    ) -> Awaitable[Finished]:
        """Record an outcome, for as long as it takes: the lease is kept until the store answers.

        Also when the lease reads as lost: so it does to a renewal that comes between a finish
        whose reply got lost and its repetition.
        """
        at, token = lease.grant.address, lease.grant.token
        call = functools.partial(self.store.finish, at, token, outcome, next_token)
        return ask(call, self.random)

    async def _follow(self, grant: Grant, finished: Finished) -> None:
        if not finished.recorded:
            logger.info("The outcome of %s came too late and was dropped.", grant.address)
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
            lease.stop()
        going = [task for task in (*messages, *self.returns.going) if not task.done()]
        if going:
            await asyncio.wait(going, timeout=STOP_SECONDS)
        if self.returns.going:
            await asyncio.wait(list(self.returns.going), timeout=STOP_SECONDS)


def _taken_note_of(child: asyncio.Task[Any]) -> None:
    if not child.cancelled():
        child.exception()
