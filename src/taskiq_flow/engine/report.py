"""Reads from a stored run what became of its steps."""

from __future__ import annotations

from typing import Any

from taskiq_flow.codec import decode, decode_error
from taskiq_flow.engine.forks import FORK_OF, RETRY_OF
from taskiq_flow.engine.results import describe, step_exception
from taskiq_flow.errors import ExecutionReport, StepFailure
from taskiq_flow.model.records import RunSnapshot, StepSnapshot, StepStatus
from taskiq_flow.plan import Plan, PlanStep


def execution_report(run: RunSnapshot, plan: Plan) -> ExecutionReport:
    """Make the report of a run, which may still go on; steps of the engine's own are left out."""
    known = {step.index: step for step in run.steps}
    own = [
        (step.name, known.get(index))
        for index, step in enumerate(plan.steps)
        if step.builtin is None
    ]
    seen = [(name, step) for name, step in own if step is not None]
    meta: dict[str, Any] = decode(run.meta) if run.meta else {}
    retry_of, fork_of = meta.get(RETRY_OF), meta.get(FORK_OF)
    completed = [(name, step) for name, step in seen if step.status is StepStatus.COMPLETED]
    is_made_of_another = retry_of is not None or fork_of is not None
    return ExecutionReport(
        run_id=run.run_id,
        pipeline_id=run.key or run.run_id,
        status=run.status,
        completed=tuple(name for name, _ in completed),
        failed=tuple(
            step_failure(plan.steps[step.index], step)
            for _, step in seen
            if step.status is StepStatus.FAILED
        ),
        skipped=tuple(name for name, step in seen if step.status is StepStatus.SKIPPED),
        unfinished=tuple(name for name, step in own if step is None or not _has_ended(step)),
        taken_over=tuple(
            name for name, step in completed if is_made_of_another and step.started_at is None
        ),
        attempts={name: _attempts(step) for name, step in seen if step.started_at is not None},
        items_failed={name: step.items_failed for name, step in seen if step.items_failed},
        durations_ms={
            name: (step.ended_at - step.started_at) * 1000
            for name, step in seen
            if step.started_at is not None and step.ended_at is not None
        },
        duration_ms=0.0
        if run.started_at is None or run.ended_at is None
        else (run.ended_at - run.started_at) * 1000,
        retry_of=retry_of,
        fork_of=fork_of,
    )


def step_failure(step: PlanStep, snapshot: StepSnapshot) -> StepFailure:
    """What is known of a step that failed."""
    stored = snapshot.error or b"null"
    error = step_exception(stored, step)
    return StepFailure(
        step=step.name,
        task=step.task,
        error=describe(error),
        error_type=getattr(error, "type_name", type(error).__name__),
        attempts=max(1, snapshot.attempt),
        traceback=stored_traceback(stored),
    )


def stored_traceback(stored: bytes | None) -> str:
    """The traceback of a stored error as text; empty for one that the store itself recorded."""
    return "" if not stored or stored[:1] != b"{" else decode_error(stored).traceback


def _has_ended(step: StepSnapshot) -> bool:
    return step.status.is_final and step.status is not StepStatus.CANCELLED


def _attempts(step: StepSnapshot) -> int:
    """Tries that were begun: those that failed, and the last one where it did not."""
    return max(1, step.attempt + (step.status is not StepStatus.FAILED))
