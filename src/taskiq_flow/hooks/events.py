"""What a hook is told: one record for each thing that happened, after it was recorded."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from taskiq_flow.events import EventType


class HookEventType(StrEnum):
    """What can happen; a hook's method has the same name with ``on_`` before it."""

    PIPELINE_START = "pipeline_start"
    STEP_START = "step_start"
    STEP_COMPLETE = "step_complete"
    STEP_ERROR = "step_error"
    PIPELINE_COMPLETE = "pipeline_complete"
    PIPELINE_ERROR = "pipeline_error"


TOLD = frozenset(
    {
        EventType.RUN_STARTED,
        EventType.STEP_STARTED,
        EventType.STEP_COMPLETED,
        EventType.STEP_FAILED,
        EventType.RUN_COMPLETED,
        EventType.RUN_FAILED,
        EventType.RUN_CANCELLED,
    }
)
"""What hooks are told of, of all that is recorded."""


class HookEvent(BaseModel):
    """What all events have. ``pipeline_id`` is the name given to the run, else its id."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    type: HookEventType
    pipeline_id: str
    run_id: str = ""
    pipeline_type: str = "sequential"
    status: str = "RUNNING"
    timestamp: datetime = Field(default_factory=lambda: datetime.now(UTC))

    @property
    def event_type(self) -> HookEventType:
        """The same as ``type``."""
        return self.type


class PipelineStartEvent(HookEvent):
    """The first step of a run has started; ``input`` has the run's inputs by name."""

    type: HookEventType = HookEventType.PIPELINE_START
    input: Any = None


class StepEvent(HookEvent):
    """What the events of a step have; ``attempt`` counts from 1."""

    step_name: str
    step_index: int = 0
    task_id: str = ""
    attempt: int = 1

    @property
    def task_name(self) -> str:
        """The same as ``step_name``."""
        return self.step_name


class StepStartEvent(StepEvent):
    """A try of a step has begun; of a map the first of its items."""

    type: HookEventType = HookEventType.STEP_START


class _Ended(HookEvent):
    duration_ms: float = 0.0

    @property
    def duration(self) -> float:
        """The duration in seconds."""
        return self.duration_ms / 1000


class StepCompleteEvent(StepEvent, _Ended):
    """A step has given its result; a very long list is None here."""

    type: HookEventType = HookEventType.STEP_COMPLETE
    status: str = "COMPLETED"
    result: Any = None


class StepErrorEvent(StepEvent, _Ended):
    """A step has failed for good."""

    type: HookEventType = HookEventType.STEP_ERROR
    status: str = "FAILED"
    error: str | None = None


class PipelineCompleteEvent(_Ended):
    """A run has completed."""

    type: HookEventType = HookEventType.PIPELINE_COMPLETE
    status: str = "COMPLETED"
    result: Any = None


class PipelineErrorEvent(_Ended):
    """A run ended without its result: it failed or was cancelled, as ``status`` says."""

    type: HookEventType = HookEventType.PIPELINE_ERROR
    status: str = "FAILED"
    error: str | None = None
    failed_step: str | None = None
