"""One event as one line of text."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi_taskflow.loggers.base import LogEvent, LogLevel, TaskEvent
from fastapi_taskflow.models import TaskContext

RETRY_LINE = "--- Retry {number} ---"
"""What is written before each further attempt of a task, without a time of its own."""


def line_of(event: TaskEvent) -> str:
    """The line of an event: short task id, function, time in UTC to the second, and what happened.

    Whatever a task says, or is called, it is one line, and nothing that a terminal obeys.
    """
    moment = event.timestamp.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    where = f"[{escape(event.task_id[:8])}] [{escape(event.func_name)}]"
    if isinstance(event, LogEvent):
        if is_retry_line(event.message):
            return f"{where} {event.message}"
        return f"{where} {moment} {escape(event.message)}"
    return f"{where} {moment} -- {event.status.name}"


def retry_event(context: TaskContext) -> LogEvent:
    """What observers are told before each further attempt of a task."""
    return LogEvent(
        task_id=context.task_id,
        func_name=context.func_name,
        message=RETRY_LINE.format(number=context.attempt),
        level=LogLevel.INFO.value,
        timestamp=datetime.now(UTC),
        attempt=context.attempt,
        tags=dict(context.tags),
    )


def is_retry_line(message: str) -> bool:
    """Whether it is the line before a further attempt."""
    number = message.removeprefix("--- Retry ").removesuffix(" ---")
    return number.isdecimal() and message == RETRY_LINE.format(number=number)


def escape(text: str) -> str:
    """Text in which line ends and control characters are written out, as in a Python string."""
    if text.isprintable():
        return text
    return "".join(map(_printable, text))


def _printable(letter: str) -> str:
    # Unpaired surrogates are not printable either, so that every line can be written as UTF-8.
    if letter.isprintable():
        return letter
    return letter.encode("unicode_escape").decode("ascii")
