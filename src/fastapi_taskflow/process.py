"""The half of a task that runs in a process of its own: plain text goes in and comes out."""

from __future__ import annotations

import asyncio
import importlib
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fastapi_taskflow.arguments import Call, decode_call
from fastapi_taskflow.context import RunningTask, running
from fastapi_taskflow.exceptions import TaskExitedError, TaskGoneError
from fastapi_taskflow.loggers.base import LogEvent
from fastapi_taskflow.models import TaskContext
from fastapi_taskflow.registry import RegisteredTask, TaskRegistry, is_async
from taskiq_flow.codec import decode, encode, encode_error


class Work(NamedTuple):
    """What a process is given: the name of a function, and its arguments as they are stored."""

    identity: str
    name: str
    payload: bytes
    task_id: str
    attempt: int
    tags: dict[str, str]


class Line(NamedTuple):
    """One call of `task_log` in a process."""

    message: str
    level: str
    at: float
    extra: dict[str, Any]


class Worked(NamedTuple):
    """What comes back: an encoded result or error, and the lines that were logged."""

    result: bytes | None
    error: bytes | None
    lines: list[Line]


def work_off(work: Work) -> Worked:
    """Run a task in this process; whatever it raises comes back as text."""
    lines: list[Line] = []

    def tell(event: LogEvent) -> None:
        extra = {name: _plain(value) for name, value in event.extra.items()}
        lines.append(Line(event.message, event.level, event.timestamp.timestamp(), extra))

    context = TaskContext(work.task_id, work.name, work.attempt, work.tags)
    try:
        with running(RunningTask(context, tell)):
            task = _task_of(work.identity)
            result = _call(task, decode_call(task, decode(work.payload), None))
        return Worked(encode_result(result), None, lines)
    except SystemExit as error:
        return Worked(None, encode_error(TaskExitedError(work.name, error.code)), lines)
    except BaseException as error:  # noqa: BLE001 - any task, any error
        return Worked(None, encode_error(error), lines)


def encode_result(result: object) -> bytes:
    """Write what a task returned; None where that cannot be stored, for nobody may ask for it."""
    try:
        return encode(result, where="result of the task")
    except Exception:  # noqa: BLE001 - a user's codec may raise anything
        return b"null"


def line_event(line: Line, context: TaskContext) -> LogEvent:
    """The event of a line that was logged in a process."""
    return LogEvent(
        task_id=context.task_id,
        func_name=context.func_name,
        message=line.message,
        level=line.level,
        timestamp=datetime.fromtimestamp(line.at, UTC),
        attempt=context.attempt,
        tags=dict(context.tags),
        extra=line.extra,
    )


def _call(task: RegisteredTask, call: Call) -> Any:
    made = task.func(*call.args, **call.kwargs)
    return asyncio.run(made) if is_async(task.func) else made


def _task_of(identity: str) -> RegisteredTask:
    module, _, _ = identity.partition(":")
    importlib.import_module(module)
    task = _registry.find(identity)
    if task is None:
        raise TaskGoneError(identity, "no process can import it")
    return task


def _plain(value: object) -> Any:
    """What can be sent to another process for sure."""
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)


_registry = TaskRegistry()
