"""Starts runs, and asks and tells about them by id, from any process."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from taskiq import AsyncBroker, InMemoryBroker

from taskiq_flow.codec import encode
from taskiq_flow.engine.children import cancel_run
from taskiq_flow.engine.deliver import deliver_event
from taskiq_flow.engine.forks import MAX_PARALLEL, Changes, draft_fork, draft_retry
from taskiq_flow.engine.ids import new_run_id
from taskiq_flow.engine.program import evaluate
from taskiq_flow.engine.report import execution_report
from taskiq_flow.engine.results import RunOutcome, RunResults, output_sources
from taskiq_flow.engine.runtime import Runtime, runtimes
from taskiq_flow.engine.standing import look_into, why_stuck
from taskiq_flow.engine.status import pipeline_status, run_event
from taskiq_flow.engine.step_log import LogLine
from taskiq_flow.errors import ExecutionReport
from taskiq_flow.events import RunEvent
from taskiq_flow.exceptions import RunNotFoundError
from taskiq_flow.model.names import check_name, is_name
from taskiq_flow.model.records import (
    NewRun,
    Ready,
    RunSnapshot,
    RunStatus,
    SequenceValue,
)
from taskiq_flow.optimization.parallel import lowest, max_parallel_tasks
from taskiq_flow.plan import Plan, input_key
from taskiq_flow.stores.base import RunStore
from taskiq_flow.stores.paging import checked_position
from taskiq_flow.tracking.models import PipelineStatus

logger = logging.getLogger("taskiq_flow.client")

NOBODY_AFTER_SECONDS = 5.0
"""A run that nobody has taken for this long is looked into: its worker may not exist."""

SHOWN_STEPS, SHOWN_ITEMS = 200, 1000
"""A status carries values of at most so many steps, and of lists of at most so many items."""


@dataclass(frozen=True, slots=True)
class RunClient:
    """What can be done with the runs of one broker's store."""

    home: Runtime

    @classmethod
    def of(cls, broker: AsyncBroker) -> RunClient:
        """The client of a broker; adds a `PipelineMiddleware` when it has none.

        Raises:
            NoStoreError: The broker has workers elsewhere, and no store is configured.
        """
        runtime = runtimes.get(broker)
        if runtime is None:
            # By name: the middleware is above the engine (imports go down).
            runtime = import_module("taskiq_flow.middleware").runtime_for(broker)
        return cls(runtime)

    @property
    def runtime(self) -> Runtime:
        """The engine for the running event loop."""
        return self.home.here()

    @property
    def store(self) -> RunStore:
        return self.runtime.store

    @property
    def results(self) -> RunResults:
        return self.runtime.results

    async def open(self) -> None:
        await self.runtime.open()

    async def start(  # noqa: PLR0913 - each of them is a fact of the new run
        self,
        plan: Plan,
        *,
        inputs: Sequence[bytes] = (),
        items: Mapping[int, Sequence[bytes]] | None = None,
        key: str | None = None,
        tags: Sequence[str] = (),
        timeout_seconds: float | None = None,
        max_parallel: int | None = None,
        meta: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        **facts: Any,
    ) -> str:
        """Store a run and send what is ready; returns its id.

        When this returns, the run is stored and will end, whatever happens to this process.
        Messages that the broker does not take now are sent by the workers.

        Raises:
            StoreUnavailableError: Nothing was stored.
            DuplicatePipelineError: A run of this ``key`` is still going.
            InvalidNameError: Its key, its name or a tag cannot be kept by every store.
        """
        for what, text in (("Pipeline id", key), ("Name", plan.name or None)):
            if text is not None:
                check_name(what, text)
        for tag in tags:
            check_name("Tag", tag)
        most = lowest(max_parallel, max_parallel_tasks())
        facts_of_run = dict(meta or {})
        if most is not None:
            facts_of_run[MAX_PARALLEL] = most
        run_id, runtime = run_id or new_run_id(), self.runtime
        for stamp in runtime.stamps:
            facts_of_run.update(stamp(run_id))
        new = NewRun(
            run_id=run_id,
            namespace=runtime.store.options.namespace,
            steps=plan.records,
            plan=plan.stored,
            kind=plan.kind,
            name=plan.name,
            key=key,
            tags=tuple(tags),
            inputs={input_key(number): value for number, value in enumerate(inputs)},
            lengths={step: len(values) for step, values in items.items()} if items else {},
            timeout_seconds=timeout_seconds,
            max_parallel=most,
            publish=runtime.settler.publishes or plan.is_followed,
            queue=plan.steps[0].queue,
            meta=encode(facts_of_run, where="meta data of the run") if facts_of_run else b"",
            **facts,
        )
        ready = await self._store(runtime, new, items)
        await runtime.sender.send(ready)
        return run_id

    async def create(self, new: NewRun, items: Mapping[int, Sequence[bytes]] | None = None) -> str:
        """Store a run as it is given; the same id again creates nothing.

        What is ready is sent, as far as it goes by this broker: the plan may be that of another.
        """
        runtime = self.runtime
        ready = await self._store(runtime, new, items)
        await runtime.sender.send(filter(runtime.sender.serves, ready))
        return new.run_id

    async def _store(
        self, runtime: Runtime, new: NewRun, items: Mapping[int, Sequence[bytes]] | None
    ) -> tuple[Ready, ...]:
        await runtime.open()
        for follower in tuple(runtime.followers):
            await follower.begin()
        return await runtime.store.create(new, items)

    @property
    def publishes(self) -> bool:
        """Whether somebody is to be told of the ends of runs, a result backend above all."""
        return self.runtime.settler.publishes

    async def retry(self, run_id: str) -> str:
        """Run again what did not complete of an ended run, in a new one; returns its id."""
        run = await self.find(run_id)
        draft = await draft_retry(self.store, run.run_id, publish=self.publishes)
        return await self.create(draft.new, draft.items)

    async def fork(self, run_id: str, changes: Changes, *, key: str | None = None) -> str:
        """Make a new run of an ended one, with changes; returns its id."""
        run = await self.find(run_id)
        draft = await draft_fork(self.store, run.run_id, changes, key=key, publish=self.publishes)
        return await self.create(draft.new, draft.items)

    async def find(self, run_id: str) -> RunSnapshot:
        """A run by its id or by the name given to it, without its steps.

        Raises:
            RunNotFoundError: There is none.
        """
        await self.runtime.open()
        if not is_name(run_id):
            raise RunNotFoundError(run_id)
        run = await self.store.get(run_id, steps=False)
        if run is None:
            latest = await self.store.find(run_id)
            run = None if latest is None else await self.store.get(latest, steps=False)
        if run is None:
            raise RunNotFoundError(run_id)
        return run

    async def wait(self, run_id: str, *, timeout_seconds: float | None = None) -> RunStatus | None:
        """Wait for the end of a run; None when the time is up. Warns when nobody can run it."""
        runtime = self.runtime
        await runtime.open()
        first = NOBODY_AFTER_SECONDS
        soon = timeout_seconds is not None and timeout_seconds <= first
        if soon or isinstance(runtime.broker, InMemoryBroker):
            return await runtime.waiter.wait(run_id, timeout_seconds=timeout_seconds)
        status = await runtime.waiter.wait(run_id, timeout_seconds=first)
        if status is None:
            run = await self.store.get((await self.find(run_id)).run_id)
            note = None if run is None else await self.why_stuck(run)
            if note is not None:
                logger.warning("Run %s waits: %s", run_id, note)
            rest = None if timeout_seconds is None else timeout_seconds - first
            status = await runtime.waiter.wait(run_id, timeout_seconds=rest)
        return status

    async def settle(self, run_id: str) -> None:
        """Let those who follow runs here catch up with one that has ended."""
        for follower in tuple(self.runtime.followers):
            await follower.settle(run_id)

    async def why_stuck(self, run: RunSnapshot) -> str | None:
        """Say why nobody goes on with a run, read with its steps, if that is to be seen."""
        if run.status.is_final or isinstance(self.runtime.broker, InMemoryBroker):
            return None  # its only worker is this process
        plan = await self.results.plan(run.run_id)
        return why_stuck(await look_into(self.store, run, plan))

    async def outcome(
        self, run_id: str, *, plan: Plan | None = None, annotation: Any = None
    ) -> RunOutcome | None:
        """How a run ended; None while it goes on."""
        runtime = self.runtime
        await runtime.open()
        return await runtime.results.outcome(run_id, plan=plan, annotation=annotation)

    async def status(self, run_id: str, *, values: bool = True) -> PipelineStatus:
        """The record of a run, by id or name; with the values of its steps unless not wanted.

        Raises:
            RunNotFoundError: There is none.
        """
        found = await self.find(run_id)
        run = await self.store.get(found.run_id)
        if run is None:
            raise RunNotFoundError(run_id)
        result, by_step = await self._values(run) if values else (None, {})
        status = pipeline_status(run, result=result, step_results=by_step)
        status.note = await self.why_stuck(run)
        return status

    async def _values(self, run: RunSnapshot) -> tuple[Any, dict[int, Any]]:
        plan = await self.results.plan(run.run_id)
        keys = [step.index for step in run.steps if step.ended_at is not None][:SHOWN_STEPS]
        wanted = list(dict.fromkeys((*keys, *plan.result_keys)))
        found = await self.store.values(run.run_id, wanted)
        small = {
            key: value
            for key, value in found.items()
            if not isinstance(value, SequenceValue) or value.length <= SHOWN_ITEMS
        }
        loaded = await self.results.load(run.run_id, small)
        sources = {source.key: source for _, source in output_sources(plan)}
        by_step = {
            key: evaluate(sources[key], loaded)
            for key in keys
            if key in loaded and key in sources and sources[key].part is None
        }
        result = None
        if run.status is RunStatus.COMPLETED and all(key in loaded for key in plan.result_keys):
            result = evaluate(plan.result, loaded)
        return result, by_step

    async def report(self, run_id: str) -> ExecutionReport:
        """What became of the steps of a run.

        Raises:
            RunNotFoundError: There is no such run.
        """
        found = await self.find(run_id)
        run = await self.store.get(found.run_id)
        if run is None:
            raise RunNotFoundError(run_id)
        return execution_report(run, await self.results.plan(run.run_id))

    async def log(self, run_id: str, *, after: int = 0) -> tuple[list[LogLine], int]:
        """What the steps of a run wrote, from a position on, with the position after it."""
        run = await self.find(run_id)
        lines, position = await self.store.log(run.run_id, after=after)
        return [LogLine.read(line) for line in lines], position

    async def cancel(self, run_id: str, reason: str | None = None) -> bool:
        """End a run as CANCELLED; running code hears of it within 2 s. False when it had ended."""
        run = await self.find(run_id)
        cancelled = await cancel_run(self.store, run.run_id, reason or "cancelled by request")
        if cancelled:
            await self.runtime.settler.settle_cancelled(run)
        return cancelled

    async def send_event(self, run_id: str, name: str, payload: Any = None) -> None:
        """Deliver an event to a run, by id or name; one that comes early is kept.

        Raises:
            RunNotFoundError: There is no such run.
            RunEndedError: It has ended.
        """
        await self.runtime.open()
        await self.runtime.sender.send(await deliver_event(self.store, run_id, name, payload))

    async def events(self, run_id: str, *, after: int = 0) -> AsyncIterator[RunEvent]:
        """The events of a run in order, those to come too, until it has ended."""
        after = checked_position(after)
        run = await self.find(run_id)
        plan = await self.results.plan(run.run_id)
        async with aclosing(self.runtime.bus.follow(run.run_id, after=after)) as records:
            async for record in records:
                yield run_event(record, run.key or run.run_id, plan)
