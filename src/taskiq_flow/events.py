"""What can happen to a run, as frozen facts: each was recorded before anybody heard of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum


class EventType(StrEnum):
    """What can happen to a run; each means that it was recorded."""

    RUN_CREATED = "run_created"
    RUN_STARTED = "run_started"
    STEP_STARTED = "step_started"
    STEP_COMPLETED = "step_completed"
    STEP_FAILED = "step_failed"
    STEP_RETRYING = "step_retrying"
    STEP_SKIPPED = "step_skipped"
    STEP_LOST = "step_lost"
    STEP_PARKED = "step_parked"
    EVENT_RECEIVED = "event_received"
    RUN_COMPLETED = "run_completed"
    RUN_FAILED = "run_failed"
    RUN_CANCELLED = "run_cancelled"

    @property
    def ends_run(self) -> bool:
        """Whether it is the last one of its run."""
        return self in _ENDS


_ENDS = frozenset({EventType.RUN_COMPLETED, EventType.RUN_FAILED, EventType.RUN_CANCELLED})


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One event of a run.

    ``seq`` counts the run's events from 1 without gaps, and is the position from which
    ``task.events(after=…)`` goes on. ``at`` is the store's clock in seconds since 1970;
    ``attempt`` counts tries from 1 where the event belongs to one. ``detail`` is the reason of a
    cancel, the name of an event that was received, or the due time of a retry. ``step`` is the
    number of the step in its plan, ``slot`` the place of a map that worked on it.
    """

    type: EventType
    run_id: str
    pipeline_id: str
    seq: int
    at: float
    step: int | None = None
    step_name: str | None = None
    slot: int | None = None
    attempt: int = 0
    detail: str = ""

    @property
    def moment(self) -> datetime:
        """When it was recorded, as an aware time."""
        return datetime.fromtimestamp(self.at, UTC)
