"""Which task runs here, for the code that it calls: in the event loop, in threads and processes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from fastapi_taskflow.loggers.base import LogEvent
from fastapi_taskflow.models import TaskContext

Tell: TypeAlias = Callable[[LogEvent], None]
"""Takes what a task says, in any thread, and returns at once."""


class Running(Protocol):
    """A task as its own code sees it, and where what it says goes."""

    @property
    def context(self) -> TaskContext: ...

    @property
    def tell(self) -> Tell: ...


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A `Running` whose context is known when it begins."""

    context: TaskContext
    tell: Tell


_running: ContextVar[Running | None] = ContextVar("fastapi_taskflow_task", default=None)


def get_task_context() -> TaskContext | None:
    """The task that runs here; None outside of one.

    Known wherever the task's context variables are: in what it awaits, in `asyncio.to_thread`,
    in sync tasks and in tasks of the process pool. A thread that a task starts by itself has none.
    """
    running = _running.get()
    return None if running is None else running.context


def running_task() -> Running | None:
    """The task that runs here, with the way for its lines."""
    return _running.get()


def begin_running(task: Running) -> None:
    """Say which task runs from here on, for as long as these context variables are used."""
    _running.set(task)


@contextmanager
def running(task: Running) -> Generator[None]:
    """Say which task runs in this block, and in the threads that it is handed to."""
    token = _running.set(task)
    try:
        yield
    finally:
        _running.reset(token)
