"""The functions that simulated workers run: they take time, fail by script, and are watched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any, Protocol

from taskiq_flow.context import PipelineContext
from taskiq_flow.exceptions import AbortPipeline
from taskiq_flow.plan import PlanStep
from taskiq_flow.testing.simulation.checks import Execution, Host, Ledger, Unit
from taskiq_flow.testing.simulation.clock import Strand, VirtualLoop, current_strand
from taskiq_flow.testing.simulation.oracle import answer
from taskiq_flow.testing.simulation.workload import Script, Work, Workload


class StepBroke(Exception):  # noqa: N818 - a fault, made on purpose
    """What a simulated step raises."""


class Scene(Host, Protocol):
    """The simulated process that a function finds itself in."""

    loop: VirtualLoop
    threads: VirtualThreads

    @property
    def ledger(self) -> Ledger: ...

    def work_of(self, run_id: str) -> Workload: ...

    def block(self, seconds: float) -> None: ...

    def trace(self, text: str) -> None: ...


scenes: dict[Strand, Scene] = {}
"""Which process a strand belongs to."""


class VirtualThreads(Executor):
    """An executor whose threads take virtual time: what is submitted runs at once, and its
    future is done after as long as the function says that it took, by `spend`."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._seconds = 0.0
        self._at_end: Callable[[], None] | None = None

    def spend(self, seconds: float, at_end: Callable[[], None]) -> None:
        """Say, in a thread, how long it takes, and what happens at its end."""
        self._seconds, self._at_end = seconds, at_end

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        error: Exception | None = None
        result = None
        self._seconds, self._at_end = 0.0, None
        try:
            result = fn(*args, **kwargs)
        except Exception as raised:  # noqa: BLE001 - as an executor does
            error = raised
        at_end = self._at_end

        def end() -> None:
            if at_end is not None:
                at_end()
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self._loop.call_later(self._seconds, end)
        return future


class _Performance:
    """One call of a simulated function."""

    def __init__(self, ctx: PipelineContext, parts: Sequence[Any], *, in_thread: bool) -> None:
        strand = current_strand()
        assert strand is not None
        self.scene = scenes[strand]
        work = self.scene.work_of(ctx.run_id)
        self.step: PlanStep = work.plan.steps[ctx.step_index]
        self.script: Script = work.scripts[ctx.step_index]
        self.ctx, self.parts = ctx, parts
        unit: Unit = (ctx.run_id, ctx.step_index, ctx.item_index)
        self.scene.ledger.now = self.scene.loop.time()
        self.execution: Execution = self.scene.ledger.begin(self.scene, unit, in_thread=in_thread)
        self.scene.trace(f"{self.scene.name} begins {unit}, attempt {ctx.attempt}")

    @property
    def fails(self) -> bool:
        item = self.ctx.item_index
        return self.ctx.attempt <= self.script.fails or item in self.script.broken

    @property
    def seconds(self) -> float:
        choices = self.script.seconds
        usual = choices[(self.ctx.item_index or 0) % len(choices)]
        if not (self.fails and self.script.hangs and self.step.timeout):
            return usual
        # A thread that hangs goes on after its timeout, but not for ever.
        return self.step.timeout + 1.5 if self.execution.in_thread else 1000.0

    def end(self) -> None:
        self.scene.ledger.now = self.scene.loop.time()
        self.scene.ledger.end(self.execution)
        self.scene.trace(f"{self.scene.name} ends {self.execution.unit}")

    def result(self) -> Any:
        if self.script.aborts:
            raise AbortPipeline("the script says so")
        if self.fails:
            raise StepBroke(f"try {self.ctx.attempt}")
        return answer(self.step, self.ctx.step_index, self.script, self.parts)


async def value(parts: list[Any], ctx: Any) -> Any:
    """Return a number, or a list of some."""
    performance = _Performance(ctx, parts, in_thread=False)
    try:
        if performance.script.blocks:
            performance.scene.block(performance.script.blocks)
        await asyncio.sleep(performance.seconds)
    finally:
        performance.end()
    return performance.result()


async def stream(parts: list[Any], ctx: Any) -> AsyncIterator[Any]:
    """Yield some numbers; a try that fails does so after the first ones."""
    performance = _Performance(ctx, parts, in_thread=False)
    try:
        found: list[Any] = [] if performance.fails else performance.result()
        for number in found:
            await asyncio.sleep(performance.seconds / 4)
            yield number
        if performance.fails:
            yield -1
            await asyncio.sleep(performance.seconds)
            performance.result()
        elif performance.script.aborts:
            performance.result()
    finally:
        performance.end()


def thread(parts: list[Any], ctx: Any) -> Any:
    """Return a number from a thread, which goes on when nobody waits for it any more."""
    performance = _Performance(ctx, parts, in_thread=True)
    performance.scene.threads.spend(performance.seconds, performance.end)
    return performance.result()


FUNCTIONS: dict[Work, Callable[..., Any]] = {
    Work.VALUE: value,
    Work.LIST: value,
    Work.STREAM: stream,
    Work.THREAD: thread,
}
