"""The spans of an ended run: its own, and one of each step that began."""

from __future__ import annotations

from collections.abc import Iterator

from opentelemetry.trace import Status, StatusCode

from taskiq_flow.engine.report import step_failure
from taskiq_flow.engine.results import RunOutcome, describe
from taskiq_flow.model.records import RunSnapshot, RunStatus, StepStatus
from taskiq_flow.plan import Plan
from taskiq_flow.tracing.runs import RunTrace
from taskiq_flow.tracing.spans import SpanRecord


def spans_of(
    run: RunSnapshot, plan: Plan, found: RunTrace, cause: BaseException | None
) -> Iterator[SpanRecord]:
    """The run's span and then those of its steps, with the times that the store recorded."""
    ended = _nanoseconds(run.ended_at or run.created_at)
    began = _nanoseconds(run.started_at or run.created_at)
    own = SpanRecord(
        f"pipeline {plan.name or plan.steps[0].task}",
        found.trace_id,
        found.span_id,
        found.parent_id,
        began,
        ended,
        links=[*found.links],
    )
    own.attributes = {
        "taskiq_flow.run_id": run.run_id,
        "taskiq_flow.pipeline_id": run.key or run.run_id,
        "taskiq_flow.pipeline_type": run.kind,
        "taskiq_flow.status": str(run.status),
        "taskiq_flow.waited_ms": (began - _nanoseconds(run.created_at)) / 1e6,
    }
    if run.reason:
        own.attributes["taskiq_flow.reason"] = run.reason
    if run.status is RunStatus.FAILED:
        step = None if run.failed_step is None else plan.steps[run.failed_step].name
        outcome = RunOutcome(run, cause=cause, failed_step=step)
        own.status = Status(StatusCode.ERROR, describe(outcome.as_error()))
    yield own
    yield from _steps(run, plan, found, ended)


def _steps(run: RunSnapshot, plan: Plan, found: RunTrace, ended: int) -> Iterator[SpanRecord]:
    for step in run.steps:
        if step.started_at is None:
            continue  # skipped, or taken over from an earlier run
        end = ended if step.ended_at is None else _nanoseconds(step.ended_at)
        span = SpanRecord(
            f"step {step.name}",
            found.trace_id,
            found.step_id(step.index),
            found.span_id,
            _nanoseconds(step.started_at),
            end,
        )
        span.attributes = {
            "taskiq_flow.run_id": run.run_id,
            "taskiq_flow.step": step.name,
            "taskiq_flow.task": step.task,
            "taskiq_flow.status": str(step.status),
            "taskiq_flow.failures": step.attempt,
            "taskiq_flow.lost_leases": step.lost,
        }
        if step.length is not None:
            span.attributes["taskiq_flow.items"] = step.length
            span.attributes["taskiq_flow.items_failed"] = step.items_failed
        if step.status is StepStatus.FAILED and step.error:
            failure = step_failure(plan.steps[step.index], step)
            message = failure.error.removeprefix(f"{failure.error_type}: ")
            span.fail(failure.error_type, message, failure.traceback, end)
        yield span


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)
