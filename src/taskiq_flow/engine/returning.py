"""Gives slots back that their worker does not go on with."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from dataclasses import dataclass, field

from taskiq_flow.engine.asking import ask
from taskiq_flow.engine.lease import Lease, LeaseKeeper
from taskiq_flow.engine.sender import Sender
from taskiq_flow.engine.work import StepRunner
from taskiq_flow.exceptions import StoreError
from taskiq_flow.model.records import Address, LostReason, Outcome
from taskiq_flow.stores.base import RunStore

RELEASE_TRIES = 3
"""A slot that cannot be given back is found when its lease has run out."""


@dataclass(slots=True)
class Returns:
    """What a worker gives back, and whatever else it does beside its messages: see ``going``."""

    store: RunStore
    leases: LeaseKeeper
    sender: Sender
    runner: StepRunner
    random: random.Random
    going: set[asyncio.Task[None]] = field(default_factory=set["asyncio.Task[None]"])

    def later(self, work: Awaitable[None]) -> None:
        """Do something that nobody waits for before the worker stops."""
        task = asyncio.ensure_future(work)
        self.going.add(task)
        task.add_done_callback(self.going.discard)

    def give_back(self, address: Address, token: str) -> None:
        """Give a slot back that may have been granted: whoever asked for it has no answer."""
        self.later(self.release(address, token))

    def let_go(self, lease: Lease) -> None:
        """The lease lives exactly as long as the coroutine that owns it, however that dies."""
        if lease.handed_on:
            return
        self.runner.calls.pop(lease.token, None)
        child = lease.child
        if lease.lost is LostReason.TAKEN:
            self.leases.drop(lease.token)
        elif child is None or child.done():
            self.leases.drop(lease.token)
            self.give_back(lease.address, lease.token)
        else:
            self.later(self._give_back_after(lease, child))

    async def _give_back_after(self, lease: Lease, child: asyncio.Task[Outcome]) -> None:
        """Give a slot back when what runs in it has ended: a thread cannot be stopped."""
        try:
            await asyncio.wait([child])
        finally:
            self.leases.drop(lease.token)
            self.runner.calls.pop(lease.token, None)
        if lease.lost is not LostReason.TAKEN:
            await self.release(lease.address, lease.token)

    async def release(self, address: Address, token: str) -> None:
        """Give a slot back, and have it sent to others."""
        try:
            ready = await ask(
                lambda: self.store.release(address, token), self.random, tries=RELEASE_TRIES
            )
        except StoreError:
            return  # the lease runs out by itself
        await self.sender.send(ready, apart=True)
