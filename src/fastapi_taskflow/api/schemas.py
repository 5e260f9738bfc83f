"""What the REST routes take and answer, as OpenAPI shows it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from fastapi_taskflow.models import Executor, Source, TaskRecord, TaskStatus
from fastapi_taskflow.queues import DEFAULT as DEFAULT_QUEUE
from taskiq_flow.operations.models import AuditEntry


class Which(BaseModel):
    """Which tasks a page shows, and where it goes on."""

    model_config = ConfigDict(extra="forbid")

    status: TaskStatus | None = None
    func_name: str | None = Field(
        default=None, description="Its name, or the `name=` given instead."
    )
    tag: str | None = Field(default=None, description="`key=value`")
    since: AwareDatetime | None = Field(default=None, description="Made at this time or later.")
    until: AwareDatetime | None = Field(default=None, description="Made before this time.")
    queue: str | None = Field(
        default=None, description="Leaves out tasks of other queues, page by page."
    )
    source: Source | None = Field(default=None, description="The same for how they were added.")
    full: bool = Field(
        default=True, description="Without: no log, arguments, result and retries; much cheaper."
    )
    limit: int = Field(default=100, ge=1, le=1000, description="How many tasks are looked at.")
    cursor: str | None = Field(
        default=None, description="Where to go on: `X-Next-Cursor` of the page before."
    )

    def narrowing(self) -> dict[str, Any]:
        """The fields that a store finds by index."""
        since, until = self.since, self.until
        return {
            "name": self.func_name,
            "tag": self.tag,
            "since": None if since is None else since.timestamp(),
            "until": None if until is None else until.timestamp(),
        }

    def takes(self, record: TaskRecord) -> bool:
        """Whether a task of the page is among those asked for, by what no store has an index of."""
        return (self.queue is None or (record.queue or DEFAULT_QUEUE) == self.queue) and (
            self.source is None or record.source == self.source
        )


class AuditQuery(BaseModel):
    """Which page of the audit."""

    limit: int = Field(default=100, ge=1, le=500)
    cursor: str | None = None


class TaskOut(BaseModel):
    """A task. ``args`` and ``kwargs`` are null unless ``display_func_args`` is set."""

    task_id: str
    func_name: str
    status: TaskStatus
    args: list[Any] | None
    kwargs: dict[str, Any] | None
    created_at: datetime
    start_time: datetime | None
    end_time: datetime | None
    duration: float | None
    retries_used: int
    error: str | None
    stacktrace: str | None
    logs: list[str]
    idempotency_key: str | None
    tags: dict[str, str]
    source: Source
    priority: int | None
    executor: Executor | None
    queue: str | None
    result: Any
    progress: dict[str, Any] | None

    @classmethod
    def of(cls, record: TaskRecord, *, with_arguments: bool) -> TaskOut:
        data = record.to_dict()
        if not with_arguments:
            data["args"] = data["kwargs"] = None
        return cls.model_validate(data)


class Metrics(BaseModel):
    """Tasks that are kept, by status. ``success_rate`` is in percent of those that have ended."""

    total: int
    pending: int
    running: int
    success: int
    failed: int
    interrupted: int
    cancelled: int
    rejected: int
    success_rate: float | None
    avg_duration_seconds: float | None = Field(
        description="Of the newest tasks that have succeeded."
    )


class TaskAction(BaseModel):
    """The task that an action was about, or that it made."""

    task_id: str
    task: TaskOut


class BulkRetry(BaseModel):
    """Which tasks to run again."""

    task_ids: list[str] = Field(max_length=1000)


class BulkResult(BaseModel):
    """What became of one of them: its new task, or why there is none."""

    original_task_id: str
    new_task_id: str | None
    error: str | None = None


class BulkResults(BaseModel):
    """How many were run again; ``more`` says that one call did not do all, so ask again."""

    dispatched: int
    skipped: int
    results: list[BulkResult]
    more: bool = False


class Deleted(BaseModel):
    """How many tasks were deleted, and where they were: in memory or in a durable store."""

    deleted: int
    store: int
    backend: int


class QueueOut(BaseModel):
    """A queue; null is no bound.

    ``pending`` (those that wait for their time as well) and ``running`` are of all instances,
    ``finished`` and ``rejected`` of the instance that answers, since its start.
    """

    name: str
    concurrency: int | None
    max_size: int | None
    pending: int
    running: int
    finished: int
    rejected: int


class QueueChange(BaseModel):
    """What to change about a queue; what is not named stays, null takes a bound away."""

    model_config = ConfigDict(extra="forbid")

    concurrency: int | None = Field(default=None, ge=1, le=10_000)
    max_size: int | None = Field(default=None, ge=1, le=10_000_000)


class AuditOut(BaseModel):
    """What somebody did, newest first."""

    entry_id: str
    action: str
    task_id: str
    actor: str
    timestamp: datetime
    detail: dict[str, Any]

    @classmethod
    def of(cls, entry: AuditEntry) -> AuditOut:
        """An entry as it is answered; what was refused says why in its detail."""
        detail = {"ok": entry.ok, **entry.details}
        if entry.error is not None:
            detail["error"] = entry.error
        return cls(
            entry_id=f"{entry.at.timestamp():.6f}",
            action=entry.action,
            task_id=entry.target,
            actor=entry.actor,
            timestamp=entry.at,
            detail=detail,
        )


class Refused(BaseModel):
    """Why nothing was done."""

    detail: str
