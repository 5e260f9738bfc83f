"""Makes the context of a step, and carries what the step says of itself to the store."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from taskiq import AsyncBroker

from taskiq_flow.codec import encode
from taskiq_flow.context import Flag, PipelineContext
from taskiq_flow.engine.lease import Lease, now_monotonic
from taskiq_flow.engine.program import Program, evaluate
from taskiq_flow.engine.results import RunResults, output_sources
from taskiq_flow.engine.step_log import StepLog
from taskiq_flow.model.records import Grant
from taskiq_flow.plan import Source
from taskiq_flow.stores.base import RunStore

logger = logging.getLogger("taskiq_flow.engine")

_MODES = {"dataflow": "parallel"}


@dataclass(slots=True)
class Surroundings:
    """What the calls of one grant share: where they log, report and read, made once one does."""

    broker: AsyncBroker
    store: RunStore
    lease: Lease
    program: Program
    _log: StepLog | None = None
    _progress: Progress | None = None
    _lock: ClassVar[threading.Lock] = threading.Lock()
    """One for all of them: it is held for moments."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self.lease.ended.get_loop()

    def report(self, progress: dict[str, Any]) -> None:
        with self._lock:
            if self._progress is None:
                self._progress = Progress(self.store, self.lease.grant, self.loop)
        self._progress.report(progress)

    def write(self, level: int, message: str, attempt: int, item: int | None) -> None:
        with self._lock:
            if self._log is None:
                run_id, step = self.lease.address.run_id, self.program.step.name
                self._log = StepLog(self.store, run_id, step, self.loop)
        self._log.write(level, message, attempt, item)

    async def read(self, name: str | None) -> dict[str, Any]:
        return await read_results(self.store, self.lease.address.run_id, name)

    def context(self, task_id: str, failures: int, item: int | None) -> PipelineContext:
        """The context of one call, after so many failed ones."""
        grant, lease, step = self.lease.grant, self.lease, self.program.step
        lease.stopped = lease.stopped or Flag(lease.is_over)
        return PipelineContext(
            pipeline_id=grant.run_name,
            run_id=grant.address.run_id,
            step_index=self.program.index,
            step_name=step.name,
            task_id=task_id,
            execution_mode=_MODES.get(self.program.plan_kind, self.program.plan_kind),
            started_at=datetime.fromtimestamp(grant.run_started_at, UTC),
            attempt=failures + 1,
            item_index=item,
            deadline=self._deadline(grant),
            broker=self.broker,
            _cancelled=lease.stopped,
            _ties=self,
        )

    def _deadline(self, grant: Grant) -> datetime | None:
        """When this call has to have ended: the run's deadline, or the step's own if sooner."""
        seconds = self.program.step.timeout
        until = grant.deadline
        if seconds is not None:
            now = grant.granted_at + (now_monotonic() - self.lease.asked_at)
            until = now + seconds if until is None else min(until, now + seconds)
        return None if until is None else datetime.fromtimestamp(until, UTC)

    async def settle(self) -> None:
        """Wait until what the calls wrote has been stored."""
        if self._log is not None:
            await self._log.flush()


async def read_results(store: RunStore, run_id: str, name: str | None) -> dict[str, Any]:
    """What a run has so far by output or step name; with a name that one, if it is there."""
    results = RunResults(store)
    plan = await results.plan(run_id)
    if name is None:
        return await results.partial(run_id, plan)
    sources = {step.name: Source(index) for index, step in enumerate(plan.steps)}
    sources.update(output_sources(plan))
    if name not in sources:
        return {}
    source = sources[name]
    found = await results.load(run_id, await store.values(run_id, [source.key]))
    return {name: evaluate(source, found)} if source.key in found else {}


@dataclass(slots=True)
class Progress:
    """Hands what a step says of its progress to the store, the newest value only."""

    store: RunStore
    grant: Grant
    loop: asyncio.AbstractEventLoop
    _latest: dict[str, Any] | None = None
    _writing: bool = False

    def report(self, progress: dict[str, Any]) -> None:
        """Callable from the event loop and from a step's thread."""
        self._latest = progress
        if not self._writing and not self.loop.is_closed():
            self._writing = True
            self.loop.call_soon_threadsafe(self._write_soon)

    def _write_soon(self) -> None:
        task = asyncio.ensure_future(self._write())
        _writes.add(task)
        task.add_done_callback(_writes.discard)

    async def _write(self) -> None:
        while self._latest is not None:
            latest, self._latest = self._latest, None
            address = self.grant.address
            try:
                data = encode(latest, where="progress")
                await self.store.note_progress(address.run_id, address.step, data)
            except Exception as error:  # noqa: BLE001 - a value that cannot be stored, a store away
                # It is worth no retry: the next report replaces it.
                logger.warning("What %s said of its progress is not kept: %s", address, error)
        self._writing = False


_writes: set[asyncio.Task[None]] = set()
