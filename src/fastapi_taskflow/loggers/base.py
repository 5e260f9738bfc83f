"""What observers of tasks are told, and what they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, TypeAlias

from fastapi_taskflow.exceptions import LoggerOptionError
from fastapi_taskflow.models import TaskStatus


class LogLevel(StrEnum):
    """How much a line matters."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @classmethod
    def of(cls, name: str, *, option: str = "level") -> LogLevel:
        """Read a level, in any case; ``warn`` and ``critical`` are understood too.

        Raises:
            LoggerOptionError: There is no such level.
        """
        word = str(name).lower()
        try:
            return cls(_ALIASES.get(word, word))
        except ValueError:
            known = ", ".join(repr(level.value) for level in cls)
            raise LoggerOptionError(option, name, known) from None

    @property
    def rank(self) -> int:
        """Its number among the levels of `logging`."""
        return _RANKS[self]


_ALIASES = {"warn": "warning", "critical": "error", "fatal": "error"}
_RANKS = {LogLevel.DEBUG: 10, LogLevel.INFO: 20, LogLevel.WARNING: 30, LogLevel.ERROR: 40}


def _no_tags() -> dict[str, str]:
    return {}


def _nothing() -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One call of `task_log`; ``timestamp`` is when it was made, in UTC.

    ``message`` is what was said, as it was said. ``attempt`` counts retries from 0.
    """

    task_id: str
    func_name: str
    message: str
    level: str
    timestamp: datetime
    attempt: int = 0
    tags: dict[str, str] = field(default_factory=_no_tags)
    extra: dict[str, Any] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class LifecycleEvent:
    """A task has got another status; each is recorded before anybody hears of it.

    ``duration`` is in seconds from the task's first start to its end, attempts and pauses between
    them included; it is there once the task has ended. ``error`` and ``stacktrace`` are those of
    the last attempt of a task that failed.
    """

    task_id: str
    func_name: str
    status: TaskStatus
    timestamp: datetime
    attempt: int = 0
    retries_used: int = 0
    duration: float | None = None
    error: str | None = None
    stacktrace: str | None = None
    tags: dict[str, str] = field(default_factory=_no_tags)

    @property
    def level(self) -> LogLevel:
        """How much it matters to an observer with a ``min_level``: failures are errors."""
        if self.status is TaskStatus.FAILED:
            return LogLevel.ERROR
        if self.status is TaskStatus.INTERRUPTED:
            return LogLevel.WARNING
        return LogLevel.INFO


TaskEvent: TypeAlias = LogEvent | LifecycleEvent


class TaskObserver:
    """Is told of events, in the order in which they happened; override what you care about.

    No task waits for an observer. Each has a bounded queue before it: while it is slow, newer
    events are dropped, counted and logged. What it raises is logged, a call that takes longer
    than 30 s is given up. ``on_log`` gets no line below ``min_level``.

    Its methods run in the event loop of the application, one at a time; with ``own_thread = True``
    they run in a loop and a thread of their own, so that they may block.
    """

    min_level: str = "info"
    own_thread: ClassVar[bool] = False

    def __init__(self, min_level: str = "info") -> None:
        self.min_level = LogLevel.of(min_level, option="min_level").value

    async def startup(self) -> None:
        """Be ready; called before the first event, when the application starts."""

    async def on_log(self, event: LogEvent) -> None:
        """A task said something."""

    async def on_lifecycle(self, event: LifecycleEvent) -> None:
        """A task has another status."""

    async def close(self) -> None:
        """Let go; called after the last event, when the application stops."""
