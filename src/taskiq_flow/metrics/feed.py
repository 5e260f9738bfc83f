"""Counts what happens to all runs of a store, from its event feed."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass, field

from taskiq_flow.engine.results import RunResults
from taskiq_flow.engine.runtime import Runtime
from taskiq_flow.events import EventType
from taskiq_flow.exceptions import RunNotFoundError, StoreError
from taskiq_flow.metrics.collector import MetricsCollector
from taskiq_flow.metrics.sampling import Sampler
from taskiq_flow.model.records import EventRecord, RunStatus
from taskiq_flow.observers import Delivery, EventBus
from taskiq_flow.plan import Plan

logger = logging.getLogger("taskiq_flow.metrics")

KNOWN_RUNS = 10_000
"""Of so many runs that go on it is remembered what they are and when they began."""

_ENDS = {
    EventType.RUN_COMPLETED: RunStatus.COMPLETED,
    EventType.RUN_FAILED: RunStatus.FAILED,
    EventType.RUN_CANCELLED: RunStatus.CANCELLED,
}
_STEP_ENDS = {
    EventType.STEP_COMPLETED: "COMPLETED",
    EventType.STEP_FAILED: "FAILED",
    EventType.STEP_SKIPPED: "SKIPPED",
}
_COUNTED = frozenset(
    {
        *_ENDS,
        *_STEP_ENDS,
        EventType.RUN_STARTED,
        EventType.STEP_STARTED,
        EventType.STEP_LOST,
    }
)


@dataclass(slots=True)
class _Run:
    plan: Plan
    began_at: float | None = None
    steps_began: dict[int, float] = field(default_factory=dict[int, float])

    @property
    def name(self) -> str:
        """What the run counts as: the pipeline's name, else that of its first task."""
        return self.plan.name or self.plan.steps[0].task


class MetricsFeed:
    """Feeds a collector from the store of one engine; a `Follower` of it."""

    def __init__(self, runtime: Runtime, collector: MetricsCollector) -> None:
        self._runtime, self._collector = runtime, collector
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._delivery = Delivery("The metrics", self._count)
        self._sampler = Sampler(runtime, collector)
        self._bus: EventBus | None = None

    @classmethod
    def join(cls, runtime: Runtime, collector: MetricsCollector) -> None:
        """Feed a collector, unless that is done already."""
        for follower in runtime.followers:
            if isinstance(follower, cls) and follower._collector is collector:
                return
        runtime.followers.append(cls(runtime, collector))

    async def begin(self) -> None:
        self._sampler.begin()
        bus = self._runtime.bus
        if self._bus is not bus:  # the first time, or in another event loop
            self._bus = bus
            bus.add(self._hear)
        try:
            await bus.begin()
        except StoreError as error:
            logger.warning("Metrics count from later on, the store does not answer: %s", error)

    async def settle(self, run_id: str) -> None:
        """Nothing to do: whoever waits for a run does not wait for its numbers."""

    async def end(self) -> None:
        await self._sampler.end()
        if self._bus is not None:
            self._bus.discard(self._hear)
            self._bus = None
        await self._delivery.close(timeout_seconds=1.0)

    def _hear(self, record: EventRecord) -> None:
        if record.type in _COUNTED:
            self._delivery.put(record)

    async def _count(self, record: EventRecord) -> None:
        run = await self._run(record.run_id)
        if run is None:
            return  # its record has gone meanwhile
        if record.step is not None:
            self._count_step(run, record, record.step)
        elif record.type is EventType.RUN_STARTED:
            run.began_at = record.at
            self._collector.pipeline_starts.add(run.name)
        else:
            await self._count_end(run, record)

    def _count_step(self, run: _Run, record: EventRecord, number: int) -> None:
        step = run.plan.steps[number]
        if record.type is EventType.STEP_STARTED:
            run.steps_began.setdefault(number, record.at)
        elif record.type is EventType.STEP_LOST:
            self._collector.lost_leases.add(step.task)
        else:
            self._collector.pipeline_steps.add(run.name, _STEP_ENDS[record.type])
            began = run.steps_began.pop(number, None)
            if began is not None:
                self._collector.step_duration.observe(record.at - began, run.name, step.name)

    async def _count_end(self, run: _Run, record: EventRecord) -> None:
        began = run.began_at
        if began is None:  # before this process counted
            snapshot = await self._runtime.store.get(record.run_id, steps=False)
            began = None if snapshot is None else snapshot.started_at
        if began is not None:
            self._collector.pipeline_duration.observe(record.at - began, run.name)
        self._collector.pipeline_executions.add(run.name, _ENDS[record.type])
        self._runs.pop(record.run_id, None)

    async def _run(self, run_id: str) -> _Run | None:
        run = self._runs.get(run_id)
        if run is None:
            try:
                run = _Run(await RunResults(self._runtime.store).plan(run_id))
            except RunNotFoundError:
                return None
            self._runs[run_id] = run
            if len(self._runs) > KNOWN_RUNS:
                self._runs.popitem(last=False)
        return run
