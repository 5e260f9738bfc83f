"""Describes runs and their steps, from the snapshot and the plan that are stored; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from taskiq_flow.engine.forks import FORK_OF, RETRY_OF, facts_of
from taskiq_flow.engine.standing import Cause, Standing
from taskiq_flow.engine.status import moment
from taskiq_flow.model.records import (
    RunSnapshot,
    RunStatus,
    StepKind,
    StepSnapshot,
    StepStatus,
)
from taskiq_flow.operations.models import RunSummary, StandingView, StepDetail
from taskiq_flow.operations.previews import Previewer
from taskiq_flow.plan import Plan, PlanStep

LINE = 300
"""So many characters of an error stand in a list."""

STEPS_NAMED = 20
"""So many of the steps that share a reason are named with it."""


def run_summary(run: RunSnapshot, previewer: Previewer) -> RunSummary:
    """Describe a run as a row of a list; its steps are not needed."""
    error = previewer.error(run.error, None, "error")
    line = None
    if error is not None and run.status is not RunStatus.CANCELLED:
        line = f"{error.type}: {error.message}"[:LINE]
    return RunSummary(
        run_id=run.run_id,
        pipeline_id=run.key or run.run_id,
        name=run.name,
        kind=run.kind,
        status=run.status,
        tags=run.tags,
        created_at=datetime.fromtimestamp(run.created_at, UTC),
        started_at=moment(run.started_at),
        ended_at=moment(run.ended_at),
        duration_ms=duration(run.started_at, run.ended_at),
        steps_total=run.total,
        steps_done=run.total - run.remaining,
        failures=run.failures,
        error=line,
        reason=run.reason,
        parent_id=None if run.parent is None else run.parent.run_id,
    )


def step_details(
    run: RunSnapshot, plan: Plan, previewer: Previewer, *, standing: Iterable[Standing] = ()
) -> tuple[StepDetail, ...]:
    """Describe all steps of a plan; ``standing`` says why some have not ended."""
    known = {step.index: step for step in run.steps}
    statuses = {index: _status(run, plan, known, index) for index in range(len(plan.steps))}
    reasons = {
        step: each.text
        for each in standing
        if each.cause not in (Cause.WORKS, Cause.OFFERED)
        for step in each.steps
    }
    links = links_of(run)
    is_made_of_another = any(links)
    return tuple(
        _detail(
            plan,
            index,
            known.get(index),
            statuses,
            previewer,
            reasons.get(index),
            is_made_of_another=is_made_of_another,
        )
        for index in range(len(plan.steps))
    )


def standing_view(standing: Standing, plan: Plan) -> StandingView:
    """Why steps have not ended, with their names."""
    return StandingView(
        cause=standing.cause,
        text=standing.text,
        advice=standing.advice,
        since=moment(standing.since),
        until=moment(standing.until),
        steps=tuple(plan.steps[step].name for step in standing.steps[:STEPS_NAMED]),
        count=len(standing.steps),
        is_trouble=standing.cause.is_trouble,
        held_by=standing.held_by,
    )


def links_of(run: RunSnapshot) -> tuple[str | None, str | None]:
    """The runs that this one is a retry and a fork of."""
    facts = facts_of(run)
    return facts.get(RETRY_OF), facts.get(FORK_OF)


def awaited_events(steps: Iterable[StepDetail]) -> tuple[str, ...]:
    """Names of events that steps wait for now."""
    return tuple(
        dict.fromkeys(
            step.event
            for step in steps
            if step.event is not None and step.status is StepStatus.READY
        )
    )


def possible_actions(run: RunSnapshot, steps: Iterable[StepDetail]) -> frozenset[str]:
    """The actions that make sense now."""
    if not run.status.is_final:
        return frozenset({"cancel", "send_event"})
    found = {"fork", "retry", "delete"}
    if run.status is not RunStatus.COMPLETED or any(
        step.status is StepStatus.FAILED or step.items_failed for step in steps
    ):
        found.add("resume")
    return frozenset(found)


def duration(started: float | None, ended: float | None) -> float | None:
    """Milliseconds between two times of the store; None while the second is not there."""
    return None if started is None or ended is None else max(0.0, (ended - started) * 1000)


def shown_queue(queue: str) -> str:
    """The name of a queue without the kind of its broker and the place of its server."""
    return queue.rpartition(":")[2] or queue


def _status(
    run: RunSnapshot, plan: Plan, known: Mapping[int, StepSnapshot], index: int
) -> StepStatus:
    """Where a step is; the store's record says nothing of those that have not started."""
    found = known.get(index)
    if found is not None:
        return found.status
    if run.status.is_final:
        return StepStatus.CANCELLED
    before = plan.steps[index].after
    if all(one in known and known[one].status.is_final for one in before):
        return StepStatus.READY
    return StepStatus.WAITING


def _detail(
    plan: Plan,
    index: int,
    known: StepSnapshot | None,
    statuses: Mapping[int, StepStatus],
    previewer: Previewer,
    reason: str | None,
    *,
    is_made_of_another: bool,
) -> StepDetail:
    step, status = plan.steps[index], statuses[index]
    facts: dict[str, Any] = {}
    if known is not None:
        facts = {
            "started_at": moment(known.started_at),
            "ended_at": moment(known.ended_at),
            "duration_ms": duration(known.started_at, known.ended_at),
            "attempt": known.attempt,
            "retry_at": moment(known.retry_at),
            "lost": known.lost,
            "items_total": known.length,
            "items_done": known.items_done,
            "items_failed": known.items_failed,
            "progress": previewer.progress(known),
            "is_taken_over": is_made_of_another
            and status is StepStatus.COMPLETED
            and known.started_at is None,
        }
    return StepDetail(
        index=index,
        name=step.name,
        task=step.task,
        kind=step.kind,
        status=status,
        queue=shown_queue(step.queue),
        after=tuple(plan.steps[one].name for one in step.after),
        attempts_most=step.retry.max_attempts,
        event=step.event,
        timeout_seconds=step.timeout if step.event is None else step.delay_seconds,
        error=previewer.step_error(known, step),
        note=reason or _note(plan, step, status, statuses),
        is_builtin=step.builtin is not None,
        is_map=step.map is not None,
        **facts,
    )


def _note(
    plan: Plan,
    step: PlanStep,
    status: StepStatus,
    statuses: Mapping[int, StepStatus],
) -> str | None:
    """Why a step stands still, or did not run."""
    match status:
        case StepStatus.READY if step.kind is StepKind.EVENT:
            return f"waits for the event {step.event!r}"
        case StepStatus.READY if step.kind is StepKind.TIMER:
            seconds = step.delay_seconds or 0.0
            return (
                f"sleeps {timedelta(seconds=round(seconds)) if seconds > 99 else f'{seconds:g} s'}"
            )
        case StepStatus.WAITING:
            needs = [plan.steps[one].name for one in step.after if not statuses[one].is_final]
            return f"needs {_few(needs)}" if needs else None
        case StepStatus.SKIPPED:
            lacks = [
                plan.steps[one].name
                for one in step.after
                if statuses[one] in (StepStatus.FAILED, StepStatus.SKIPPED)
            ]
            return f"needs {_few(lacks)}" if lacks else "its branch was not taken"
        case _:
            return None


def _few(names: list[str]) -> str:
    rest = len(names) - 3
    return ", ".join(names[:3]) + (f" and {rest} more" if rest > 0 else "")
