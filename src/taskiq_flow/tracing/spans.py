"""Spans before they are emitted: what is known of them, and the one that a running step sees."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)

TRACEBACK_CHARACTERS = 16_384
"""Of a longer traceback the end is kept."""


def span_context(trace_id: int, span_id: int, *, sampled: bool = True) -> SpanContext:
    """A span of some process, as its children need to know it."""
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)


@dataclass(slots=True)
class SpanRecord:
    """A span that is to be emitted; times in nanoseconds since 1970. ``parent_id`` 0: none."""

    name: str
    trace_id: int
    span_id: int
    parent_id: int
    start: int
    end: int = 0
    kind: SpanKind = SpanKind.INTERNAL
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    events: list[tuple[str, Mapping[str, Any], int]] = field(
        default_factory=list[tuple[str, Mapping[str, Any], int]]
    )
    links: list[Link] = field(default_factory=list[Link])
    status: Status = field(default_factory=Status)

    def fail(self, kind: str, message: str, trace: str, at: int) -> None:
        """Mark the span as failed, by an exception of which these are the parts."""
        facts = {"exception.type": kind, "exception.message": message}
        if trace:
            facts["exception.stacktrace"] = trace[-TRACEBACK_CHARACTERS:]
        self.events.append(("exception", facts, at))
        self.status = Status(StatusCode.ERROR, f"{kind}: {message}")


class LiveSpan(Span):
    """The span of an attempt while it runs: notes what a step says of itself, and no more.

    No processor or exporter hears of it before it is emitted, so none can hold up the step.
    """

    def __init__(self, record: SpanRecord) -> None:
        self.record = record
        self._context = span_context(record.trace_id, record.span_id)

    def get_span_context(self) -> SpanContext:
        return self._context

    def is_recording(self) -> bool:
        return not self.record.end

    def set_attribute(self, key: str, value: Any) -> None:
        if self.is_recording():
            self.record.attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        if self.is_recording():
            self.record.attributes.update(attributes)

    def add_event(
        self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None
    ) -> None:
        if self.is_recording():
            self.record.events.append((name, dict(attributes or {}), timestamp or time.time_ns()))

    def add_link(self, context: SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        if self.is_recording():
            self.record.links.append(Link(context, attributes))

    def update_name(self, name: str) -> None:
        if self.is_recording():
            self.record.name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        if self.is_recording():
            self.record.status = (
                status if isinstance(status, Status) else Status(status, description)
            )

    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        if self.is_recording():
            escape = {"exception.escaped": str(escaped)}
            facts = {**_facts_of(exception), **escape, **(attributes or {})}
            self.record.events.append(("exception", facts, timestamp or time.time_ns()))

    def end(self, end_time: int | None = None) -> None:
        """Does nothing: the attempt ends it."""

    def finish(self, error: BaseException | None) -> SpanRecord:
        """End the span with its attempt."""
        now = time.time_ns()
        if isinstance(error, asyncio.CancelledError):
            self.record.attributes["taskiq_flow.status"] = "CANCELLED"
        elif error is not None:
            facts = _facts_of(error)
            self.record.fail(
                facts["exception.type"],
                facts["exception.message"],
                facts["exception.stacktrace"],
                now,
            )
        self.record.end = now
        return self.record


def _facts_of(error: BaseException) -> dict[str, str]:
    # Text at once: an exception that waits to be exported would keep all that its frames hold.
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    trace = "".join(traceback.format_exception(error))
    return {
        "exception.type": name,
        "exception.message": str(error),
        "exception.stacktrace": trace[-TRACEBACK_CHARACTERS:],
    }
