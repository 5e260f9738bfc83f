"""The words of background tasks: their states, what is recorded of each, and their settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from pydantic_core import from_json, to_json

Executor: TypeAlias = Literal["async", "thread", "process"]
Source: TypeAlias = Literal["manual", "scheduled"]


class TaskStatus(StrEnum):
    """Where a task is; the last five are final."""

    PENDING = "pending"  # stored, not begun
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # its process died, and it may not be run twice
    CANCELLED = "cancelled"
    REJECTED = "rejected"  # its queue was full

    @property
    def is_final(self) -> bool:
        return self not in {TaskStatus.PENDING, TaskStatus.RUNNING}

    @property
    def can_be_retried(self) -> bool:
        return self.is_final and self is not TaskStatus.SUCCESS


def _no_tags() -> dict[str, str]:
    return {}


def _nothing() -> dict[str, Any]:
    return {}


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class TaskRecord:
    """What is known of one task. Times are aware UTC.

    ``logs`` are lines ``YYYY-MM-DDTHH:MM:SS text``, and ``--- Retry N ---`` before each further
    attempt. ``encrypted_payload`` stands for ``args`` and ``kwargs`` when these are encrypted.
    ``progress`` is what the task said last of how far it is.
    """

    task_id: str
    func_name: str
    status: TaskStatus = TaskStatus.PENDING
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=_nothing)
    created_at: datetime = field(default_factory=_now)
    start_time: datetime | None = None
    end_time: datetime | None = None
    retries_used: int = 0
    error: str | None = None
    logs: list[str] = field(default_factory=list[str])
    stacktrace: str | None = None
    idempotency_key: str | None = None
    tags: dict[str, str] = field(default_factory=_no_tags)
    encrypted_payload: bytes | None = None
    source: Source = "manual"
    priority: int | None = None
    executor: Executor | None = None
    queue: str | None = None
    result: Any = None
    progress: dict[str, Any] | None = None

    @property
    def duration(self) -> float | None:
        """Seconds from the first start to the end; None until both are known."""
        if self.start_time is None or self.end_time is None:
            return None
        return (self.end_time - self.start_time).total_seconds()

    def to_dict(self) -> dict[str, Any]:
        """All fields, and ``duration``, as JSON values; what has no JSON form is shown as text."""
        facts = {name: getattr(self, name) for name in self.__slots__}
        facts["encrypted_payload"] = _text(self.encrypted_payload)
        facts["duration"] = self.duration
        # One by one, so that an argument that cannot be shown does not hide the others.
        facts["args"] = [_json_value(value) for value in self.args]
        facts["kwargs"] = {name: _json_value(value) for name, value in self.kwargs.items()}
        return {name: _json_value(value) for name, value in facts.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaskRecord:
        """Read what `to_dict` wrote; unknown keys are ignored.

        Arguments and result come back as the JSON values that they were shown as.
        """
        facts = {name: data[name] for name in cls.__slots__ if name in data}
        facts["status"] = TaskStatus(facts.get("status", TaskStatus.PENDING))
        for name in ("created_at", "start_time", "end_time"):
            if isinstance(facts.get(name), str):
                facts[name] = _moment(facts[name])
        facts["args"] = tuple(facts.get("args") or ())
        for name in ("kwargs", "tags"):
            facts[name] = dict(facts.get(name) or {})
        facts["logs"] = list(facts.get("logs") or [])
        if isinstance(facts.get("encrypted_payload"), str):
            facts["encrypted_payload"] = facts["encrypted_payload"].encode("ascii")
        return cls(**facts)


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """How a task is run; times in seconds.

    ``retries`` are further attempts, the first after ``delay``, each next one after ``backoff``
    times as long, at most ``max_delay``; ``jitter`` lengthens it by up to a quarter at random.
    ``retry_on`` and ``giveup_on`` choose by the exception. ``timeout`` bounds one attempt.
    ``persist`` is accepted: every task is stored before its response is sent.
    """

    retries: int = 0
    delay: float = 0.0
    backoff: float = 1.0
    persist: bool = False
    name: str | None = None
    requeue_on_interrupt: bool = False
    eager: bool = False
    priority: int | None = None
    queue: str | None = None
    executor: Executor | None = None
    timeout: float | None = None
    max_delay: float | None = None
    jitter: bool = False
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    giveup_on: tuple[type[BaseException], ...] = ()


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """The bounds of a named queue: how many of its tasks run at once, and how many may wait.

    None is no bound.
    """

    concurrency: int | None = None
    max_size: int | None = None


@dataclass(frozen=True, slots=True)
class ScheduledOnce:
    """A task that waits for its time; of one ``run_key`` there is one at most."""

    run_key: str
    func_name: str
    fire_at: datetime
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=_nothing)
    idempotency_key: str | None = None
    tags: dict[str, str] = field(default_factory=_no_tags)
    priority: int | None = None
    queue: str | None = None
    encrypted_payload: bytes | None = None

    @property
    def run_at(self) -> datetime:
        """The time under the name that `TaskManager.schedule_once` takes it by."""
        return self.fire_at


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What somebody did to a task or a queue, through the REST API or the dashboard."""

    entry_id: str
    action: str
    task_id: str
    actor: str
    timestamp: datetime
    detail: dict[str, Any] = field(default_factory=_nothing)

    def to_dict(self) -> dict[str, Any]:
        return {name: _json_value(getattr(self, name)) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class TaskContext:
    """Which task runs here: its id, its function, which attempt it is (from 0), and its tags."""

    task_id: str
    func_name: str
    attempt: int = 0
    tags: dict[str, str] = field(default_factory=_no_tags)


@dataclass(frozen=True, slots=True)
class TaskExecutionContext(TaskContext):
    """A task's context, and how it was asked to run."""

    retries: int = 0
    queue: str | None = None
    priority: int | None = None
    executor: Executor | None = None
    idempotency_key: str | None = None
    source: Source = "manual"


def _json_value(value: object) -> Any:
    try:
        data = to_json(value, fallback=repr, inf_nan_mode="strings", bytes_mode="base64")
    except (ValueError, RecursionError):  # an unpaired surrogate, or a value that contains itself
        return ascii(value)
    return from_json(data)


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("ascii", errors="replace")


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
