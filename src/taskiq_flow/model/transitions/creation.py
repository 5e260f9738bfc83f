"""A run comes to be."""

from __future__ import annotations

from collections import deque

from taskiq_flow.events import EventType
from taskiq_flow.model.records import NewRun, RunStatus, SequenceValue, StepKind, StepStatus
from taskiq_flow.model.state import Effects, RunState, StepState
from taskiq_flow.model.transitions.pace import Pace
from taskiq_flow.model.transitions.slots import claim_slot
from taskiq_flow.model.transitions.steps import settle_steps, verdict_on


def create(new: NewRun, now: float, pace: Pace) -> tuple[RunState, Effects]:
    """Make the state of a new run and open the steps that need nothing."""
    run = RunState(
        run_id=new.run_id,
        status=RunStatus.PENDING,
        remaining=len(new.steps),
        created_at=now,
        deadline=None if new.timeout_seconds is None else now + new.timeout_seconds,
        max_parallel=new.max_parallel,
        publish=new.publish,
        parent=new.parent,
    )
    effects = Effects()
    effects.events.append((EventType.RUN_CREATED, None, None, 0, ""))
    for record in new.steps:
        step = StepState(record=record, status=StepStatus.WAITING, waiting_for=record.need)
        step.length = new.lengths.get(record.index)
        step.left = step.length or 0
        run.steps[record.index] = step
    for index, value in new.done.items():
        step = run.steps[index]
        step.status, step.ended_at, step.left = StepStatus.COMPLETED, now, 0
        run.remaining -= 1
        if value is None:
            step.status = StepStatus.SKIPPED
        elif isinstance(value, SequenceValue):
            step.out_length = value.length
        else:
            effects.values[index] = value
        for successor in step.record.successors:
            run.steps[successor].waiting_for -= 1
            run.steps[successor].skipped += value is None
    opening: deque[tuple[int, StepStatus | None]] = deque()
    for index, step in run.steps.items():
        if step.waiting_for == 0 and not step.status.is_final:
            opening.append((index, verdict_on(step)))
    settle_steps(run, opening, now, pace, effects)
    return run, effects


def create_started(new: NewRun, token: str, now: float, pace: Pace) -> tuple[RunState, Effects]:
    """Make the state of a new run whose `first_slot` is held from the beginning, if it has one."""
    run, effects = create(new, now, pace)
    at = first_slot(new)
    if at is not None:
        effects.ready.clear()
        claim_slot(run, at, token, now, pace, 1, effects)
    return run, effects


def first_slot(new: NewRun) -> tuple[int, int] | None:
    """The only slot that a new run opens; None where there are more, or it may have to wait."""
    opening = [record for record in new.steps if record.need == 0]
    if new.done or len(opening) != 1:
        return None
    (first,) = opening
    may_start = first.kind is StepKind.TASK and not first.limits
    return (first.index, 0) if may_start else None
