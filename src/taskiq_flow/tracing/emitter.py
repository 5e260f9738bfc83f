"""Hands spans to the OpenTelemetry SDK from a thread of its own, so that no run waits for it."""

from __future__ import annotations

import logging
import threading
import time
from queue import SimpleQueue

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, set_span_in_context

from taskiq_flow.tracing.spans import SpanRecord, span_context

logger = logging.getLogger("taskiq_flow.tracing")

WAITING_MOST = 10_000
"""So many spans wait for a slow processor; what is more is dropped, counted and logged."""

BURST, PAUSE_SECONDS = 256, 0.02
"""After so many spans a short rest: a batch processor of the SDK drops what comes faster."""


class Emitter:
    """Emits spans whose ids, times and parents are known, in the order in which they come."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self.dropped = 0
        self._given = provider
        self._waiting: SimpleQueue[SpanRecord | threading.Event | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._tracers: dict[TracerProvider, Tracer] = {}
        self._failed = 0

    @property
    def provider(self) -> TracerProvider | None:
        """Where spans go: what was given, else the global one; None as long as there is none."""
        if self._given is not None:
            return self._given
        provider = trace.get_tracer_provider()
        return provider if isinstance(provider, TracerProvider) else None

    def put(self, record: SpanRecord) -> None:
        """Take a span; never waits."""
        if self._waiting.qsize() >= WAITING_MOST:
            self.dropped += 1
            if self.dropped.bit_count() == 1:  # the 1st, 2nd, 4th, 8th, …
                logger.warning("Spans go out too slowly: %d dropped so far.", self.dropped)
            return
        self._waiting.put(record)
        if self._thread is None or not self._thread.is_alive():
            # A daemon: an exporter that hangs must not keep the process alive.
            self._thread = threading.Thread(
                target=self._work, name="taskiq-flow-tracing", daemon=True
            )
            self._thread.start()

    def flush(self, seconds: float) -> bool:
        """Wait so long until all that was put is with the SDK; False when it is not."""
        if self._thread is None:
            return True
        done = threading.Event()
        self._waiting.put(done)
        return done.wait(seconds)

    def close(self, seconds: float) -> None:
        """Wait as `flush` does, and let the thread end; a later span begins another."""
        if self._thread is not None:
            self.flush(seconds)
            self._waiting.put(None)
            self._thread = None

    def _work(self) -> None:
        emitted = 0
        while True:
            record = self._waiting.get()
            if record is None:
                return
            if isinstance(record, threading.Event):
                record.set()
                continue
            try:
                self._emit(record)
            except Exception:  # processors and exporters are foreign code
                self._failed += 1
                if self._failed.bit_count() == 1:
                    logger.exception("A span was not emitted (%d so far)", self._failed)
            emitted += 1
            if emitted % BURST == 0:
                time.sleep(PAUSE_SECONDS)

    def _emit(self, record: SpanRecord) -> None:
        provider = self.provider
        if provider is None:
            return
        tracer = self._tracer(provider)
        if tracer is None:
            return
        tracer.id_generator = _Known(record.trace_id, record.span_id)
        context = Context()
        if record.parent_id:
            parent = NonRecordingSpan(span_context(record.trace_id, record.parent_id))
            context = set_span_in_context(parent, context)
        span = tracer.start_span(
            record.name,
            context=context,
            kind=record.kind,
            attributes=record.attributes,
            links=record.links,
            start_time=record.start,
        )
        for name, attributes, at in record.events:
            span.add_event(name, attributes, at)
        span.set_status(record.status)
        span.end(record.end)

    def _tracer(self, provider: TracerProvider) -> Tracer | None:
        if provider not in self._tracers:
            tracer = provider.get_tracer("taskiq_flow")
            if not isinstance(tracer, Tracer):  # the SDK has been switched off
                return None
            # It was decided when the run began.
            tracer.sampler = ALWAYS_ON
            self._tracers[provider] = tracer
        return self._tracers[provider]


class _Known(IdGenerator):
    """Gives a span the ids that others have used already to name it as their parent."""

    def __init__(self, trace_id: int, span_id: int) -> None:
        self._trace_id, self._span_id = trace_id, span_id

    def generate_trace_id(self) -> int:
        return self._trace_id

    def generate_span_id(self) -> int:
        return self._span_id
