"""Does what ended runs leave: publishes them, wakes their parents, takes back what they did."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from taskiq import AsyncBroker, AsyncResultBackend, TaskiqResult
from taskiq.brokers.inmemory_broker import InmemoryResultBackend
from taskiq.result_backends.dummy import DummyResultBackend

from taskiq_flow.engine.children import cancel_children
from taskiq_flow.engine.compensation import compensate_run
from taskiq_flow.engine.results import RunResults
from taskiq_flow.engine.sender import Sender
from taskiq_flow.exceptions import RunNotFoundError, StoreError
from taskiq_flow.model.records import Address, RunSnapshot, RunStatus, Wake, WakeKind
from taskiq_flow.plan import Plan
from taskiq_flow.stores.base import RunStore

logger = logging.getLogger("taskiq_flow.engine")

ENDING_SECONDS = 5.0
"""Whoever is told of the end of a run is given up after this."""

Ending: TypeAlias = Callable[[str, WakeKind], Awaitable[None]]
"""Is told of an ended run, by the one process that settles its end."""


@dataclass(slots=True)
class Settler:
    """Settles the ends of runs of one broker; ``endings`` are told of each."""

    broker: AsyncBroker
    store: RunStore
    results: RunResults
    sender: Sender
    endings: list[Ending]
    elsewhere: Callable[[RunSnapshot], Awaitable[None]] | None = None
    """Set where the broker works in another event loop: `settle_cancelled` there."""

    @property
    def publishes(self) -> bool:
        """Whether somebody is to be told of the ends of runs: a result backend, or a trace."""
        backend = self.broker.result_backend
        return not isinstance(backend, DummyResultBackend) or bool(self.endings)

    async def settle(self, wake: Wake) -> None:
        """Do what an ended run leaves to do. A store that is away finds it due again later."""
        try:
            if wake.kind is WakeKind.PUBLISH:
                await self.publish(wake.run_id)
            elif wake.kind is WakeKind.NOTIFY and wake.parent is not None:
                await self.notify(wake.run_id, wake.parent)
        except StoreError as error:
            logger.warning("The end of run %s is settled later: %s", wake.run_id, error)

    async def publish(self, run_id: str) -> None:
        """Hand the outcome to the broker's result backend, for any plain Taskiq client."""
        backend = self.broker.result_backend
        try:
            plan = await self.results.plan(run_id)
        except RunNotFoundError:
            return  # its record has expired, and so has this
        if plan.is_followed:
            await self._follow(run_id, plan)
        if not isinstance(backend, DummyResultBackend):
            try:
                outcome = await self.results.outcome(run_id, plan=plan)
                if outcome is None:
                    return
                await self._hand_over(run_id, outcome.as_result())
            except StoreError:
                raise
            except Exception as error:  # noqa: BLE001 - any backend, any error
                logger.warning("Run %s was not published, trying again: %r", run_id, error)
                return
        await self._tell_end(run_id, WakeKind.PUBLISH)
        await self.store.settle(run_id, WakeKind.PUBLISH)

    async def _hand_over(self, run_id: str, result: TaskiqResult[Any]) -> None:
        backend: AsyncResultBackend[Any] = self.broker.result_backend
        if type(cast("object", backend)) is InmemoryResultBackend:
            await backend.set_result(run_id, result)  # it cannot hang
        else:
            async with asyncio.timeout(ENDING_SECONDS):
                await backend.set_result(run_id, result)

    async def settle_cancelled(self, run: RunSnapshot) -> None:
        """Do at once what workers would do a few seconds later for a run that was cancelled here.

        A process without a result backend leaves it to the workers to publish: they may have one.
        """
        if self.elsewhere is not None:
            await self.elsewhere(run)
            return
        if run.parent is not None:
            await self.settle(Wake(WakeKind.NOTIFY, run.run_id, parent=run.parent))
        if not isinstance(self.broker.result_backend, DummyResultBackend):
            await self.settle(Wake(WakeKind.PUBLISH, run.run_id))
            return
        try:
            plan = await self.results.plan(run.run_id)
            if plan.is_followed:
                await self._follow(run.run_id, plan)
        except (StoreError, RunNotFoundError) as error:
            logger.info("The end of run %s is left to the workers: %s", run.run_id, error)

    async def _tell_end(self, run_id: str, kind: WakeKind) -> None:
        for ending in self.endings:
            try:
                async with asyncio.timeout(ENDING_SECONDS):
                    await ending(run_id, kind)
            except Exception:  # it must not keep a run from being settled
                logger.exception("The end of run %s was not told", run_id)

    async def notify(self, run_id: str, parent: Address) -> None:
        """Wake the step that waits for a child run.

        One that does not wait yet (its worker is about to say so, or died before it could) is
        told again later.
        """
        ready = await self.store.resume(parent, run_id)
        if not ready and await self._goes_on(parent):
            return
        await self._tell_end(run_id, WakeKind.NOTIFY)
        await self.store.settle(run_id, WakeKind.NOTIFY)
        await self.sender.send(ready)

    async def _goes_on(self, at: Address) -> bool:
        run = await self.store.get(at.run_id)
        if run is None or run.status.is_final:
            return False
        return any(s.index == at.step and not s.status.is_final for s in run.steps)

    async def _follow(self, run_id: str, plan: Plan) -> None:
        """Cancel the children of a run that ended before them, and take back what it did."""
        run = await self.store.get(run_id, steps=False)
        if run is not None and run.status in (RunStatus.FAILED, RunStatus.CANCELLED):
            await cancel_children(self.store, run_id)
            ready = await compensate_run(self.store, run_id, plan, publish=self.publishes)
            await self.sender.send(ready)
