"""The records of runs and steps that users read."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from taskiq_flow.model.records import RunStatus as PipelineState
from taskiq_flow.model.records import StepStatus as StepState

__all__ = [
    "PipelineState",
    "PipelineStatus",
    "StatusPage",
    "StepState",
    "StepStatus",
    "TrackingMetrics",
]


class StepStatus(BaseModel):
    """One step of a run, as it stands. Times are aware UTC; durations are in milliseconds.

    ``retry_count`` counts failed tries before the last one. ``items_total`` and what follows are
    set for steps that run over items. ``retry_at`` is when the next try is due.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    step_name: str
    status: str
    task_name: str = ""
    step_index: int = 0
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration_ms: float = 0.0
    result: Any = None
    error: str | None = None
    retry_count: int = 0
    retry_at: datetime | None = None
    lost_count: int = 0
    items_total: int | None = None
    items_done: int = 0
    items_failed: int = 0
    progress: Any = None

    @property
    def name(self) -> str:
        """The same as ``step_name``."""
        return self.step_name

    @property
    def retries(self) -> int:
        """The same as ``retry_count``."""
        return self.retry_count

    def __str__(self) -> str:
        return f"{self.step_name}: {self.status}"


class PipelineStatus(BaseModel):
    """One run, as it stands. ``str()`` of it is its status word.

    ``pipeline_id`` is the name given to the run, else its id. ``steps`` are those that have
    started, in plan order; ``steps_total`` counts all. ``note`` says why nothing goes on, if
    there is a reason to be seen: for example that no worker serves its queue.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    pipeline_id: str
    status: str
    pipeline_type: str = "sequential"
    run_id: str = ""
    name: str = ""
    tags: list[str] = Field(default_factory=list[str])
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    deadline: datetime | None = None
    duration_ms: float = 0.0
    steps: list[StepStatus] = Field(default_factory=list[StepStatus])
    steps_total: int = 0
    steps_left: int = 0
    result: Any = None
    error: str | None = None
    error_type: str | None = None
    errors: dict[str, str] = Field(default_factory=dict[str, str])
    failed_step: str | None = None
    cancel_reason: str | None = None
    note: str | None = None

    def is_finished(self) -> bool:
        """Whether the run has ended, however it ended."""
        return PipelineState(self.status).is_final

    @property
    def state(self) -> PipelineState:
        """The status as an enumeration member."""
        return PipelineState(self.status)

    def __str__(self) -> str:
        return self.status


class StatusPage(list[PipelineStatus]):
    """One page of a listing, newest first; ``cursor`` asks for the next one, None at the end."""

    def __init__(self, statuses: Iterable[PipelineStatus] = (), cursor: str | None = None) -> None:
        super().__init__(statuses)
        self.cursor = cursor


class TrackingMetrics(BaseModel):
    """What runs came to in a span of time.

    ``total_pipelines`` counts those that still go on too; the durations are of those that have
    ended. ``success_rate`` is between 0 and 1. ``failure_reasons`` counts by type of error,
    ``most_frequent_step`` is the step that failed most often.
    """

    total_pipelines: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    success_rate: float = 0.0
    avg_duration_ms: float = 0.0
    p95_duration_ms: float = 0.0
    failure_reasons: dict[str, int] = Field(default_factory=dict[str, int])
    most_frequent_step: str | None = None
