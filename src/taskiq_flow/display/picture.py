"""What is to be seen of a run at one moment, whoever draws it; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

from taskiq_flow.display.text import duration
from taskiq_flow.engine.run_progress import run_progress
from taskiq_flow.exceptions import ProgressError
from taskiq_flow.plan import Plan
from taskiq_flow.progress import fraction_done
from taskiq_flow.tracking.models import PipelineStatus, StepState, StepStatus

ACTIVE = frozenset({"RUNNING", "RETRYING", "READY"})
"""Step statuses in which something is going on, or about to."""


@dataclass(frozen=True, slots=True)
class StepRow:
    """One line of a picture; text in it comes from the run and is not harmless yet.

    ``done`` and ``total`` count items, or what the step says of itself; ``fraction`` is None where
    nobody knows. ``children`` are runs that the step has started.
    """

    name: str
    status: str
    done: float | None = None
    total: float | None = None
    failed: int = 0
    fraction: float | None = None
    seconds: float | None = None
    message: str = ""
    tries: int = 0
    lost: int = 0
    children: tuple[RunPicture, ...] = ()
    more_children: int = 0

    @property
    def has_ended(self) -> bool:
        return StepState(self.status).is_final


@dataclass(frozen=True, slots=True)
class RunPicture:
    """A run at one moment: its rows in plan order, and how far it is as a whole."""

    run_id: str
    title: str
    status: str
    rows: tuple[StepRow, ...]
    fraction: float = 0.0
    seconds: float | None = None
    seconds_left: float | None = None
    steps_done: int = 0
    steps_total: int = 0
    error: str = ""
    note: str = ""

    @property
    def has_ended(self) -> bool:
        return self.status in {"COMPLETED", "FAILED", "CANCELLED"}


def picture_of(
    status: PipelineStatus,
    plan: Plan | None = None,
    *,
    note: str | None = None,
    now: datetime | None = None,
) -> RunPicture:
    """Make the picture of a run; with its plan, steps to come are rows too."""
    moment = now or datetime.now(UTC)
    known = {step.step_index: step for step in status.steps}
    if plan is None:
        rows = [_row(step, moment) for step in status.steps]
    else:
        rows = [
            _row(known[index], moment)
            if index in known
            else StepRow(step.name, _to_come(status), message=_awaited(plan, index, known, status))
            for index, step in enumerate(plan.steps)
        ]
    progress = run_progress(status, now=moment)
    # How long somebody takes to send an event does not follow from how long steps took.
    is_working = any(row.status in ACTIVE for row in rows)
    is_named = status.pipeline_id not in ("", status.run_id)
    return RunPicture(
        run_id=status.run_id or status.pipeline_id,
        title=status.pipeline_id if is_named else status.name or status.pipeline_type,
        status=status.status,
        rows=tuple(rows),
        fraction=1.0 if status.status == "COMPLETED" else progress.progress,
        seconds=_seconds(status.started_at, status.completed_at, moment),
        seconds_left=progress.seconds_left if is_working else None,
        steps_done=progress.steps_done,
        steps_total=progress.steps_total,
        error=status.error or "",
        note=note if note is not None else status.note or "",
    )


def with_children(
    picture: RunPicture, children: Mapping[str, tuple[tuple[RunPicture, ...], int]]
) -> RunPicture:
    """The same picture with runs below the steps that started them, and how many more there are."""
    rows = [
        replace(row, children=children[row.name][0], more_children=children[row.name][1])
        if row.name in children
        else row
        for row in picture.rows
    ]
    return replace(picture, rows=tuple(rows))


@dataclass(frozen=True, slots=True)
class Gap:
    """Stands for rows that are left out of a picture that would be too high."""

    counts: Mapping[str, int]

    def __str__(self) -> str:
        return ", ".join(f"{count:,} {status.lower()}" for status, count in self.counts.items())


def fit(rows: Sequence[StepRow], most: int) -> list[StepRow | Gap]:
    """Choose rows for so many lines: what goes on and what failed, then what is next to it.

    Left out ones are counted where they would stand.
    """
    if len(rows) <= most:
        return list(rows)
    budget = max(1, most - 2)
    ranked = sorted(range(len(rows)), key=lambda at: (_rank(rows[at]), at))
    kept = set(ranked[:budget]) if _rank(rows[ranked[0]]) < _RANK_OF_REST else set[int]()
    kept = {at for at in kept if _rank(rows[at]) < _RANK_OF_REST}
    for at in _neighbours(rows, kept):
        if len(kept) >= budget:
            break
        kept.add(at)
    found: list[StepRow | Gap] = []
    for at, row in enumerate(rows):
        if at in kept:
            found.append(row)
        elif found and isinstance(found[-1], Gap):
            counts = found[-1].counts
            found[-1] = Gap({**counts, row.status: counts.get(row.status, 0) + 1})
        else:
            found.append(Gap({row.status: 1}))
    return found


_RANK_OF_REST = 2


def _rank(row: StepRow) -> int:
    return 0 if row.status in ("RUNNING", "RETRYING") else 1 if row.status == "FAILED" else 2


def _neighbours(rows: Sequence[StepRow], kept: set[int]) -> list[int]:
    """Places around the edge between what has ended and what is to come, the nearest first."""
    ended = [at for at, row in enumerate(rows) if row.has_ended]
    edge = max(kept) if kept else (ended[-1] if ended else 0)
    return sorted((at for at in range(len(rows)) if at not in kept), key=lambda at: abs(at - edge))


def _to_come(status: PipelineStatus) -> str:
    return "CANCELLED" if status.is_finished() and status.status != "COMPLETED" else "WAITING"


def _awaited(
    plan: Plan, index: int, known: Mapping[int, StepStatus], status: PipelineStatus
) -> str:
    """What a step that has not begun waits for, where that is an event and its turn has come."""
    step = plan.steps[index]
    before = [known.get(one) for one in step.after]
    has_turn = all(one is not None and StepState(one.status).is_final for one in before)
    is_awaited = step.event is not None and has_turn and not status.is_finished()
    return f"waits for event {step.event!r}" if is_awaited else ""


def _row(step: StepStatus, now: datetime) -> StepRow:
    done, total, message = _said(step)
    return StepRow(
        name=step.step_name,
        status=step.status,
        done=done,
        total=total,
        failed=step.items_failed,
        fraction=_fraction(step, done, total),
        seconds=_seconds(step.started_at, step.completed_at, now),
        message=_message(step, message, now),
        tries=step.retry_count,
        lost=step.lost_count,
    )


def _said(step: StepStatus) -> tuple[float | None, float | None, str]:
    """Items of a map, else what the step says of itself, which may be anything."""
    said = step.progress
    data = cast("dict[str, Any]", said) if isinstance(said, dict) else {}
    message = data.get("message")
    text = message if isinstance(message, str) else ""
    if step.items_total is not None:
        return step.items_done, step.items_total, text
    if step.status == "COMPLETED":
        return None, None, ""  # what it said last is history now
    return _number(data.get("current")), _number(data.get("total")), text


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _fraction(step: StepStatus, done: float | None, total: float | None) -> float | None:
    if step.status == "COMPLETED":
        return 1.0
    if done is None or total is None:
        return None
    try:
        return fraction_done(done, total) if total else None
    except ProgressError:
        return None


def _message(step: StepStatus, said: str, now: datetime) -> str:
    if step.status == "RETRYING" and step.retry_at is not None:
        wait = max(0.0, (step.retry_at - now).total_seconds())
        when = f"in {duration(wait)}" if wait >= 0.5 else "now"
        return f"try {step.retry_count + 1} {when}: {step.error or ''}".rstrip(": ")
    return step.error or said if step.status == "FAILED" else said


def _seconds(start: datetime | None, end: datetime | None, now: datetime) -> float | None:
    return None if start is None else max(0.0, ((end or now) - start).total_seconds())
