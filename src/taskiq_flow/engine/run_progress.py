"""Says how far a run is as a whole; pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from taskiq_flow.exceptions import ProgressError
from taskiq_flow.progress import RunProgress, fraction_done
from taskiq_flow.tracking.models import PipelineStatus, StepState, StepStatus


def run_progress(status: PipelineStatus, *, now: datetime | None = None) -> RunProgress:
    """Count the steps and items of a run, and estimate the rest by the pace so far."""
    done = status.steps_total - status.steps_left
    parts = sum(_part(step) for step in status.steps if not StepState(step.status).is_final)
    whole = done + min(parts, status.steps_left)
    maps = [step for step in status.steps if step.items_total is not None]
    progress = RunProgress(
        whole / status.steps_total if status.steps_total else 0.0,
        str(status),
        (done, status.steps_total),
        {step.step_name: step.progress for step in status.steps if step.progress is not None},
    )
    progress.items_done = sum(step.items_done for step in maps)
    progress.items_total = sum(step.items_total or 0 for step in maps)
    if status.started_at is not None:
        end = status.completed_at or now or datetime.now(UTC)
        _estimate(progress, (end - status.started_at).total_seconds())
    if status.is_finished():
        progress.seconds_left = 0.0
    return progress


def _estimate(progress: RunProgress, elapsed: float) -> None:
    if elapsed <= 0:
        return
    if progress.items_done:
        progress.items_per_second = progress.items_done / elapsed
    if progress.progress > 0:
        progress.seconds_left = elapsed * (1 - progress.progress) / progress.progress


def _part(step: StepStatus) -> float:
    """What part of a step that goes on is done, below 1."""
    if step.items_total is not None:
        return fraction_done(step.items_done, step.items_total) if step.items_total else 0.0
    said = cast("dict[str, Any]", step.progress or {})
    try:
        return fraction_done(said["current"], said["total"])
    except (KeyError, TypeError, ProgressError):
        return 0.0  # a step may say anything of itself
