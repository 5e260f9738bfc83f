"""Turns a stored run into the record that users read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from taskiq_flow.codec import decode
from taskiq_flow.engine.results import describe, stored_exception
from taskiq_flow.events import RunEvent
from taskiq_flow.model.records import EventRecord, RunSnapshot, RunStatus, StepSnapshot
from taskiq_flow.model.transitions import DEADLINE_ERROR
from taskiq_flow.plan import Plan
from taskiq_flow.tracking.models import PipelineStatus, StepStatus


def pipeline_status(
    run: RunSnapshot, *, result: Any = None, step_results: Mapping[int, Any] | None = None
) -> PipelineStatus:
    """Make the record of a run; values are given, because reading them may be costly."""
    names = {step.index: step.name for step in run.steps}
    error, kind = _run_error(run, names)
    return PipelineStatus(
        pipeline_id=run.key or run.run_id,
        run_id=run.run_id,
        status=run.status.value,
        pipeline_type=run.kind,
        name=run.name,
        tags=list(run.tags),
        created_at=moment(run.created_at),
        started_at=moment(run.started_at),
        completed_at=moment(run.ended_at),
        deadline=moment(run.deadline),
        duration_ms=_milliseconds(run.started_at, run.ended_at),
        steps=[_step_status(step, (step_results or {}).get(step.index)) for step in run.steps],
        steps_total=run.total,
        steps_left=run.remaining,
        result=result,
        error=error,
        error_type=kind,
        errors={
            step.name: describe(stored_exception(step.error, step.name))
            for step in run.steps
            if step.error is not None and step.status.is_final
        },
        failed_step=None if run.failed_step is None else names.get(run.failed_step),
        cancel_reason=run.reason,
    )


def _run_error(run: RunSnapshot, names: Mapping[int, str]) -> tuple[str | None, str | None]:
    if run.status is RunStatus.CANCELLED:
        return f"cancelled: {run.reason}" if run.reason else "cancelled", "CancelledError"
    if run.error is None:
        return None, None
    if run.error == DEADLINE_ERROR:
        seconds = (run.deadline or 0.0) - run.created_at
        return f"TimeoutError: the pipeline's timeout of {seconds:g} s passed", "TimeoutError"
    cause = stored_exception(run.error, names.get(run.failed_step or 0, "?"))
    return describe(cause), getattr(cause, "type_name", type(cause).__name__)


def _step_status(step: StepSnapshot, result: Any) -> StepStatus:
    error = None if step.error is None else describe(stored_exception(step.error, step.name))
    return StepStatus(
        step_name=step.name,
        step_index=step.index,
        task_name=step.task,
        status=step.status.value,
        started_at=moment(step.started_at),
        completed_at=moment(step.ended_at),
        duration_ms=_milliseconds(step.started_at, step.ended_at),
        result=result,
        error=error,
        retry_count=step.attempt,
        retry_at=moment(step.retry_at),
        lost_count=step.lost,
        items_total=step.length,
        items_done=step.items_done,
        items_failed=step.items_failed,
        progress=None if step.progress is None else decode(step.progress),
    )


def run_event(record: EventRecord, pipeline_id: str, plan: Plan) -> RunEvent:
    """Make a stored event readable: with the run's name and its step's."""
    return RunEvent(
        type=record.type,
        run_id=record.run_id,
        pipeline_id=pipeline_id,
        seq=record.seq,
        at=record.at,
        step=record.step,
        step_name=None if record.step is None else plan.steps[record.step].name,
        slot=record.slot,
        attempt=record.attempt,
        detail=record.detail,
    )


def moment(seconds: float | None) -> datetime | None:
    """A time of the store as an aware one."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _milliseconds(start: float | None, end: float | None) -> float:
    if start is None:
        return 0.0
    return max(0.0, ((end or time.time()) - start) * 1000)
