"""Simulated processes that run no steps: they start runs, wait for them, and send events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from taskiq_flow.codec import encode
from taskiq_flow.engine.client import RunClient
from taskiq_flow.exceptions import RunEndedError, RunNotFoundError, StoreError
from taskiq_flow.model.records import RunStatus
from taskiq_flow.testing.simulation.oracle import payload_of
from taskiq_flow.testing.simulation.process import Process, World
from taskiq_flow.testing.simulation.workload import EVENT, Workload

T = TypeVar("T")


class Client(Process):
    """A process that starts a run, and perhaps cancels it or waits for it."""

    def __init__(self, world: World, name: str, work: Workload) -> None:
        super().__init__(world, name, is_worker=False)
        self.work = work
        self.client = RunClient(self.runtime)
        self.created = self.cancelled = False
        self.heard: RunStatus | None = None
        self.task = world.loop.spawn(self.main, self._live())

    @property
    def done(self) -> bool:
        """Whether nothing more is to be expected of it."""
        return self.task.done() or not self.alive

    async def _live(self) -> None:
        work = self.work
        await asyncio.sleep(work.start_after)
        await self._insist(self._start)
        self.created = True
        self.trace(f"{self.name} has created {work.run_id}")
        if work.cancel_after is not None:
            await asyncio.sleep(work.cancel_after)
            self.cancelled = await self._insist(lambda: self.client.cancel(work.run_id, "enough"))
        if work.waits:
            self.heard = await self._insist(lambda: self.client.wait(work.run_id))

    async def _start(self) -> str:
        work = self.work
        return await self.client.start(
            work.plan,
            inputs=[encode(value, where="input") for value in work.inputs],
            items=work.encoded_items,
            timeout_seconds=work.timeout_seconds,
            max_parallel=work.max_parallel,
            run_id=work.run_id,
        )

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Try again as long as the store does not answer; every call may be repeated."""
        while True:
            try:
                return await call()
            except StoreError:
                await asyncio.sleep(0.5)


class Operator(Process):
    """Sends the events that runs wait for; it never dies."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name, is_worker=False)
        self.client = RunClient(self.runtime)
        for work in world.works.values():
            if work.event_after is not None and any(s.event == EVENT for s in work.plan.steps):
                world.loop.spawn(self.main, self._send(work))

    async def _send(self, work: Workload) -> None:
        await asyncio.sleep(work.start_after + (work.event_after or 0.0))
        # Again and again: a store that failed over forgets an event too.
        while True:
            try:
                await self.client.send_event(work.run_id, EVENT, payload_of(work))
            except RunEndedError:
                return
            except (StoreError, RunNotFoundError):
                pass
            await asyncio.sleep(5.0)
