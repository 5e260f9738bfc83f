"""The middleware that traces runs, in the processes that start them and in those that work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextvars import ContextVar, Token
from typing import Any, NamedTuple

from opentelemetry import context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanKind, set_span_in_context
from taskiq import AsyncBroker, TaskiqMessage, TaskiqResult

from taskiq_flow.engine.hooks import StepMiddleware
from taskiq_flow.engine.invoke import StepMessage
from taskiq_flow.engine.runtime import Runtime, runtimes
from taskiq_flow.model.records import WakeKind
from taskiq_flow.tracing.emitter import Emitter
from taskiq_flow.tracing.ended import spans_of
from taskiq_flow.tracing.runs import RunTrace, RunTraces
from taskiq_flow.tracing.spans import LiveSpan, SpanRecord, span_context

MOST_ITEMS = 1000
"""Of a longer map the attempts of so many items have spans; the others are in the step's."""

FLUSH_SECONDS = 1.0
"""So long a process that ends waits for its last spans to reach the SDK."""


class TracingMiddleware(StepMiddleware):
    """Traces runs: ``broker.add_middlewares(TracingMiddleware())`` on clients and workers.

    A run is a span below the one that was current when it was started; its steps are below it,
    and each try of a step below that, with what the step itself traces. Spans are emitted by a
    thread with a bounded queue: an exporter that is slow, hangs or raises costs spans only.

    Args:
        tracer_provider: Of the SDK. Default: the global one, also when it is set later; without
            one nothing is traced.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        super().__init__()
        self.emitter = Emitter(tracer_provider)
        self._traces = RunTraces(self.emitter)
        self._new_id = RandomIdGenerator().generate_span_id
        self._runtime: Runtime | None = None
        self._is_first = True

    def set_broker(self, broker: AsyncBroker) -> None:
        """Trace the runs of the broker, unless another middleware does."""
        super().set_broker(broker)
        self._is_first = not any(isinstance(m, TracingMiddleware) for m in broker.middlewares)
        runtime = runtimes.get(broker)
        if runtime is not None:
            self.join(runtime)

    def join(self, runtime: Runtime) -> None:
        if self._is_first and self._runtime is not runtime:
            self._runtime = runtime
            runtime.stamps.append(self._traces.stamp)
            runtime.endings.append(self._ended)

    async def shutdown(self) -> None:
        """Hand over the last spans, as far as that goes quickly."""
        await asyncio.to_thread(self.emitter.close, FLUSH_SECONDS)

    def pre_execute(
        self, message: TaskiqMessage
    ) -> TaskiqMessage | Coroutine[Any, Any, TaskiqMessage]:
        """Make the span of an attempt the current one."""
        runtime = self._runtime
        if not isinstance(message, StepMessage) or runtime is None or not self._is_first:
            return message
        if self.emitter.provider is None:
            return message
        found = self._traces.known(message.flow_address[0])
        if found is None:
            return self._look_up(runtime, message)
        self._begin(message, found)
        return message

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        """End the span of an attempt."""
        attempt = _attempt.get()
        if attempt is not None and isinstance(message, StepMessage) and self._is_first:
            _attempt.set(None)
            context.detach(attempt.token)
            if attempt.span is not None:
                self.emitter.put(attempt.span.finish(result.error))

    async def _look_up(self, runtime: Runtime, message: StepMessage) -> TaskiqMessage:
        self._begin(message, await self._traces.of(runtime.store, message.flow_address[0]))
        return message

    def _begin(self, message: StepMessage, found: RunTrace) -> None:
        run_id, step, _ = message.flow_address
        item = _item_of(message)
        parent = found.step_id(step)
        span: LiveSpan | None = None
        if found.sampled and (item is None or item < MOST_ITEMS):
            span = LiveSpan(
                SpanRecord(
                    f"attempt {message.labels['step']}",
                    found.trace_id,
                    self._new_id(),
                    parent,
                    time.time_ns(),
                    kind=SpanKind.CONSUMER,
                    attributes={
                        "taskiq_flow.run_id": run_id,
                        "taskiq_flow.step": message.labels["step"],
                        "taskiq_flow.task": message.task_name,
                        "taskiq_flow.attempt": message.flow_attempt,
                        **({} if item is None else {"taskiq_flow.item": item}),
                    },
                )
            )
        current = span or NonRecordingSpan(
            span_context(found.trace_id, parent, sampled=found.sampled)
        )
        _attempt.set(_Attempt(span, context.attach(set_span_in_context(current))))

    async def _ended(self, run_id: str, kind: WakeKind) -> None:
        runtime = self._runtime
        if runtime is None or self.emitter.provider is None:
            return
        found = await self._traces.of(runtime.store, run_id)
        run = await runtime.store.get(run_id) if found.sampled else None
        # A child run is told of twice, to its parent and to the result backend.
        if run is None or (run.parent is not None and kind is WakeKind.PUBLISH):
            return
        plan = await runtime.results.plan(run_id)
        cause = await runtime.results.cause(run, plan)
        for span in spans_of(run, plan, found, cause):
            self.emitter.put(span)


class _Attempt(NamedTuple):
    span: LiveSpan | None
    token: Token[context.Context]


_attempt: ContextVar[_Attempt | None] = ContextVar("_attempt", default=None)


def _item_of(message: StepMessage) -> int | None:
    _, _, item = message.task_id.removeprefix(f"{message.flow_address[0]}:").partition(":")
    return int(item) if item else None
