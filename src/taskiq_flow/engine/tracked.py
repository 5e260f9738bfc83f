"""The runs of a broker's store as tracking reads them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

from taskiq import AsyncBroker

from taskiq_flow.engine.client import SHOWN_ITEMS, RunClient
from taskiq_flow.engine.program import evaluate
from taskiq_flow.engine.results import output_sources
from taskiq_flow.engine.status import pipeline_status
from taskiq_flow.exceptions import RunNotFoundError
from taskiq_flow.model.names import is_name
from taskiq_flow.model.records import RunFilter, SequenceValue
from taskiq_flow.observers import EventBus, Follower
from taskiq_flow.tracking.models import PipelineStatus, StatusPage
from taskiq_flow.tracking.source import RunFacts

FACTS_MOST = 1000
"""Runs whose names and steps are remembered."""


@dataclass(slots=True)
class TrackedRuns:
    """What the engine offers to tracking; see `RunSource`."""

    client: RunClient
    _facts: OrderedDict[str, RunFacts] = field(default_factory=OrderedDict[str, RunFacts])

    @classmethod
    def of(cls, broker: AsyncBroker) -> TrackedRuns:
        return cls(RunClient.of(broker))

    @property
    def scheme(self) -> str:
        return self.client.store.url.partition("://")[0].partition("+")[0].lower()

    @property
    def bus(self) -> EventBus:
        return self.client.runtime.bus

    def follow(self, follower: Follower) -> None:
        self.client.runtime.followers.append(follower)

    def retain(self, most: int) -> None:
        store = self.client.store
        if self.scheme == "memory":
            store.options = replace(store.options, retained_runs=most)

    async def open(self) -> None:
        await self.client.open()

    async def status(self, pipeline_id: str, *, values: bool = True) -> PipelineStatus | None:
        try:
            return await self.client.status(pipeline_id, values=values)
        except RunNotFoundError:
            return None

    async def page(self, which: RunFilter, *, cursor: str | None, limit: int) -> StatusPage:
        await self.client.open()
        if not all(text is None or is_name(text) for text in (which.name, which.kind, which.tag)):
            return StatusPage()  # no run can have it
        page = await self.client.store.list_runs(which, cursor=cursor, limit=limit)
        return StatusPage(map(pipeline_status, page.runs), page.cursor)

    async def facts(self, run_id: str) -> RunFacts | None:
        known = self._facts.get(run_id)
        if known is None:
            try:
                run, plan = await asyncio.gather(
                    self.client.find(run_id), self.client.results.plan(run_id)
                )
            except RunNotFoundError:
                return None
            names = tuple(step.name for step in plan.steps)
            known = self._facts[run_id] = RunFacts(run_id, run.key or run_id, names)
            if len(self._facts) > FACTS_MOST:
                self._facts.popitem(last=False)
        return known

    async def failed_step(self, run_id: str) -> str | None:
        run = await self.client.store.get(run_id, steps=False)
        facts = await self.facts(run_id)
        if run is None or facts is None or run.failed_step is None:
            return None
        return facts.step_names[run.failed_step]

    async def step_result(self, run_id: str, step: int) -> Any:
        stored = await self.client.store.values(run_id, [step])
        value = stored.get(step)
        if value is None or (isinstance(value, SequenceValue) and value.length > SHOWN_ITEMS):
            return None
        results = self.client.results
        loaded = await results.load(run_id, stored)
        for _, found in output_sources(await results.plan(run_id)):
            if found.key == step and found.part is None:
                return evaluate(found, loaded)
        return None

    async def delete(self, pipeline_id: str) -> bool:
        try:
            run = await self.client.find(pipeline_id)
        except RunNotFoundError:
            return False
        return await self.client.store.delete(run.run_id)

    async def purge(self, *, before: float, limit: int) -> int:
        await self.client.open()
        return await self.client.store.purge(before=before, limit=limit)
