"""Feeds managers of hooks from the events of runs, as the store has recorded them."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from taskiq import AsyncBroker

from taskiq_flow.engine.client import SHOWN_ITEMS, RunClient
from taskiq_flow.engine.program import evaluate
from taskiq_flow.events import EventType
from taskiq_flow.exceptions import RunNotFoundError, StoreError
from taskiq_flow.hooks.events import (
    TOLD,
    HookEvent,
    PipelineCompleteEvent,
    PipelineErrorEvent,
    PipelineStartEvent,
    StepCompleteEvent,
    StepErrorEvent,
    StepStartEvent,
)
from taskiq_flow.hooks.manager import HookManager
from taskiq_flow.model.records import EventRecord, RunSnapshot, SequenceValue
from taskiq_flow.observers import Delivery, EventBus
from taskiq_flow.plan import Plan, Source, input_key

logger = logging.getLogger("taskiq_flow.hooks")

KNOWN_RUNS = 1000
PAUSE_SECONDS, PAUSE_MOST_SECONDS = 0.1, 5.0
END_SECONDS = 1.0
"""So long a process that ends waits for hooks that have not yet heard everything."""


class HookFeed:
    """What feeds the hooks of one broker in this process; a `Follower` of its engine."""

    def __init__(self, client: RunClient) -> None:
        self._client = client
        self._feeding: set[asyncio.Task[None]] = set()
        self._hearing: dict[HookManager, Delivery] = {}
        self._told = EventTeller(client)
        self._bus: EventBus | None = None

    @classmethod
    def of(cls, broker: AsyncBroker) -> HookFeed:
        """The one of a broker."""
        followers = RunClient.of(broker).runtime.followers
        found = next((each for each in followers if isinstance(each, cls)), None)
        if found is None:
            found = cls(RunClient.of(broker))
            followers.append(found)
        return found

    def follow(self, run_id: str, manager: HookManager) -> None:
        """Tell a manager of all that happens to one run, from its beginning to its end."""
        task = asyncio.get_running_loop().create_task(self._follow(run_id, manager))
        self._feeding.add(task)
        task.add_done_callback(self._feeding.discard)

    def hear_all(self, manager: HookManager) -> None:
        """Tell a manager of what happens to all runs of the store from now on."""

        async def handle(record: EventRecord) -> None:
            event = await self._told.event(record)
            if event is not None:
                await manager.dispatch(event)

        self._hearing.setdefault(manager, Delivery("A hook manager", handle))

    async def begin(self) -> None:
        if not self._hearing:
            return
        bus = self._client.runtime.bus
        if self._bus is not bus:  # the first time, or in another event loop
            self._bus = bus
            bus.add(self._hear)
        try:
            await bus.begin()
        except StoreError as error:
            logger.warning("Hooks hear of runs later, the store does not answer: %s", error)

    async def settle(self, run_id: str) -> None:
        """Nothing to do: whoever waits for a run does not wait for its hooks."""

    async def end(self) -> None:
        loop = asyncio.get_running_loop()
        feeding = [task for task in self._feeding if task.get_loop() is loop]
        if feeding:
            _, late = await asyncio.wait(feeding, timeout=END_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._bus is not None:
            self._bus.discard(self._hear)
            self._bus = None
        for delivery in self._hearing.values():
            await delivery.close(timeout_seconds=END_SECONDS)

    def _hear(self, record: EventRecord) -> None:
        for delivery in self._hearing.values():
            delivery.put(record)

    async def _follow(self, run_id: str, manager: HookManager) -> None:
        told, position, pause = EventTeller(self._client), 0, PAUSE_SECONDS
        while True:
            try:
                bus = self._client.runtime.bus
                async with aclosing(bus.follow(run_id, after=position)) as records:
                    async for record in records:
                        event = await told.event(record)
                        if event is not None:
                            await manager.dispatch(event)
                        position, pause = record.seq, PAUSE_SECONDS
                return
            except StoreError as error:
                logger.info("Hooks hear of run %s later: %s", run_id, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE_MOST_SECONDS)


@dataclass(slots=True)
class _Run:
    """What is known of a run that is told of."""

    snapshot: RunSnapshot
    plan: Plan
    began: dict[int | None, float] = field(default_factory=dict[int | None, float])

    def name(self) -> str:
        return self.snapshot.key or self.snapshot.run_id


class EventTeller:
    """Turns the records of events into what hooks are told; knows the runs heard of last."""

    def __init__(self, client: RunClient) -> None:
        self._client = client
        self._runs: OrderedDict[str, _Run] = OrderedDict()

    async def event(self, record: EventRecord) -> HookEvent | None:
        """What hooks are told of a record; None for what they are not told.

        Raises:
            StoreUnavailableError: What they are to be told cannot be read now.
        """
        if record.type not in TOLD:
            return None
        try:
            run = await self._run(record.run_id)
            return await self._make(record, run)
        except RunNotFoundError:
            return None  # deleted meanwhile

    async def _make(self, record: EventRecord, run: _Run) -> HookEvent | None:
        facts: dict[str, Any] = {
            "pipeline_id": run.name(),
            "run_id": record.run_id,
            "pipeline_type": run.plan.kind,
            "timestamp": datetime.fromtimestamp(record.at, UTC),
        }
        if record.step is not None:
            facts |= {
                "step_name": run.plan.steps[record.step].name,
                "step_index": record.step,
                "task_id": f"{record.run_id}:{record.step}",
                "attempt": max(record.attempt, 1),
            }
        took = (record.at - run.began.get(record.step, record.at)) * 1000
        match record.type:
            case EventType.RUN_STARTED:
                run.began[None] = record.at
                return PipelineStartEvent(**facts, input=await self._inputs(record.run_id, run))
            case EventType.STEP_STARTED:
                run.began.setdefault(record.step, record.at)
                return StepStartEvent(**facts)
            case EventType.STEP_COMPLETED:
                assert record.step is not None
                result = await self._value(record.run_id, record.step)
                return StepCompleteEvent(**facts, duration_ms=took, result=result)
            case EventType.STEP_FAILED:
                status = await self._client.status(record.run_id, values=False)
                error = status.errors.get(facts["step_name"])
                return StepErrorEvent(**facts, duration_ms=took, error=error)
            case _:
                status = await self._client.status(record.run_id)
                facts |= {"status": str(status), "duration_ms": status.duration_ms}
                if record.type is EventType.RUN_COMPLETED:
                    return PipelineCompleteEvent(**facts, result=status.result)
                return PipelineErrorEvent(
                    **facts, error=status.error, failed_step=status.failed_step
                )

    async def _run(self, run_id: str) -> _Run:
        run = self._runs.get(run_id)
        if run is None:
            snapshot = await self._client.find(run_id)
            run = _Run(snapshot, await self._client.results.plan(run_id))
            self._runs[run_id] = run
            if len(self._runs) > KNOWN_RUNS:
                self._runs.popitem(last=False)
        return run

    async def _inputs(self, run_id: str, run: _Run) -> dict[str, Any]:
        keys = {input_key(number): name for number, name in enumerate(run.plan.inputs)}
        return {keys[key]: value for key, value in (await self._values(run_id, [*keys])).items()}

    async def _value(self, run_id: str, key: int) -> Any:
        return (await self._values(run_id, [key])).get(key)

    async def _values(self, run_id: str, keys: list[int]) -> dict[int, Any]:
        found = await self._client.store.values(run_id, keys)
        short = {
            key: value
            for key, value in found.items()
            if not isinstance(value, SequenceValue) or value.length <= SHOWN_ITEMS
        }
        loaded = await self._client.results.load(run_id, short)
        return {key: evaluate(Source(key), loaded) for key in loaded}
