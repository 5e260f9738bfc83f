"""Lays out what happened to a run in time: its attempts, pauses and lost leases; pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from taskiq_flow.events import EventType
from taskiq_flow.model.records import EventRecord, RunSnapshot, StepStatus
from taskiq_flow.operations.models import BarKind, StepDetail, Timeline, TimelineBar, TimelineRow

EVENTS_MOST = 10_000
"""So many events of a run are looked at; the bars of later attempts are made of the steps alone."""


def run_timeline(
    run: RunSnapshot,
    steps: Sequence[StepDetail],
    events: Iterable[EventRecord],
    *,
    now: float,
    is_cut: bool,
) -> Timeline:
    """Make the timeline of a run of its steps and its events."""
    by_step: dict[int, list[EventRecord]] = defaultdict(list)
    for event in events:
        if event.step is not None:
            by_step[event.step].append(event)
    began = [step for step in steps if step.started_at is not None or step.index in by_step]
    rows = [TimelineRow(step, _bars(step, by_step.get(step.index, []))) for step in began]
    rows = [row for row in rows if row.bars]
    rows.sort(key=lambda row: (row.bars[0].started_at, row.step.index))
    is_live = not run.status.is_final
    end = now if is_live or run.ended_at is None else run.ended_at
    start = run.started_at or run.created_at
    return Timeline(
        run_id=run.run_id,
        started_at=_moment(start),
        now=_moment(max(end, start)),
        is_live=is_live,
        rows=tuple(rows),
        is_cut=is_cut,
    )


def _bars(step: StepDetail, events: Sequence[EventRecord]) -> tuple[TimelineBar, ...]:
    """The bars of a step; the many slots of a map are one bar."""
    if step.is_map:
        return _whole(step, events)
    history = _History()
    for event in events:
        history.take(event)
    history.finish(step)
    return tuple(history.bars) or _whole(step, events)


@dataclass(slots=True)
class _History:
    """What is known of a step while its events are read: since when it works, or waits."""

    bars: list[TimelineBar] = field(default_factory=list[TimelineBar])
    attempt: int = 0
    works_since: datetime | None = None
    waits_since: datetime | None = None

    def take(self, event: EventRecord) -> None:
        at = _moment(event.at)
        if event.type is not EventType.STEP_PARKED and self.waits_since is not None:
            kind, status = BarKind.WAITING, StepStatus.RETRYING
            self.bars.append(TimelineBar(kind, self.attempt + 1, self.waits_since, at, status))
            self.waits_since = None
        match event.type:
            case EventType.STEP_STARTED:
                self.works_since, self.attempt = at, event.attempt
            case EventType.STEP_LOST:
                since, status = self.works_since or at, StepStatus.FAILED
                detail = f"worker lost, {event.detail} in a row"
                self.bars.append(
                    TimelineBar(BarKind.LOST, event.attempt, since, at, status, detail)
                )
                self.works_since = at  # another takes the lease without a further start
            case EventType.STEP_RETRYING:
                self._end(at, StepStatus.FAILED)
                self.waits_since, self.attempt = at, event.attempt
            case EventType.STEP_PARKED:
                self._end(at, StepStatus.COMPLETED)
                self.waits_since = at
            case EventType.STEP_COMPLETED:
                self._end(at, StepStatus.COMPLETED)
            case EventType.STEP_FAILED:
                self.works_since = self.works_since or at
                self._end(at, StepStatus.FAILED)
            case _:
                pass

    def finish(self, step: StepDetail) -> None:
        """Add what goes on still, or was cut off by the end of the run."""
        if self.works_since is not None:
            self._end(step.ended_at, step.status)
        elif self.waits_since is not None:
            self.bars.append(_open_wait(step, self.waits_since, self.attempt))
        if step.status is StepStatus.RETRYING and step.retry_at is not None:
            attempt = self.attempt + 1
            self.bars.append(TimelineBar(BarKind.NEXT, attempt, step.retry_at, None, step.status))

    def _end(self, at: datetime | None, status: StepStatus) -> None:
        if self.works_since is not None:
            self.bars.append(_attempt(self.attempt, self.works_since, at, status))
            self.works_since = None


def _whole(step: StepDetail, events: Sequence[EventRecord]) -> tuple[TimelineBar, ...]:
    """One bar from the first start to the end."""
    first = step.started_at
    if first is None:
        return ()
    lost = tuple(
        TimelineBar(BarKind.LOST, e.attempt, _moment(e.at), _moment(e.at), StepStatus.FAILED)
        for e in events
        if e.type is EventType.STEP_LOST
    )[:20]
    return (_attempt(step.attempt + 1, first, step.ended_at, step.status), *lost)


def _open_wait(step: StepDetail, since: datetime, attempt: int) -> TimelineBar:
    if step.event is not None:
        detail = f"waits for the event {step.event!r}"
    else:
        detail = "" if step.status is StepStatus.RETRYING else "waits for a child run"
    until = step.retry_at if step.status is StepStatus.RETRYING else step.ended_at
    return TimelineBar(BarKind.WAITING, attempt + 1, since, until, step.status, detail)


def _attempt(number: int, start: datetime, end: datetime | None, status: StepStatus) -> TimelineBar:
    return TimelineBar(BarKind.ATTEMPT, max(number, 1), start, end, status)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
