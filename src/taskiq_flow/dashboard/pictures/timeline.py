"""Lays out the timeline of a run in per cent, so that it fits every width; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from taskiq_flow.dashboard.words import clock, many, span, step_line, step_word, visible
from taskiq_flow.operations.models import BarKind, StepDetail, Timeline, TimelineBar

ROWS_MOST = 120
"""So many rows are drawn at once; a page of its own has the next ones."""

# A label has as many digits as the unit: half of one would be rounded, and look uneven.
_SIZES = sorted(
    {step * unit for unit in (0.001, 0.01, 0.1) for step in (1, 2, 5)}
    | {step * unit for unit in (1, 60, 3600, 86_400) for step in (1, 2, 5, 10, 15, 30)}
)
_LAST_WITH_TEXT, _FIRST_WITH_TEXT = 78.0, 32.0
_SHORTEST = 0.35  # per cent; a style makes it 3 px at least


@dataclass(frozen=True, slots=True)
class Window:
    """The stretch of a run that is shown, in seconds from its start; ``now`` may lie outside."""

    start: float
    stop: float
    now: float

    def at(self, seconds: float) -> float:
        """The place of a time, in per cent of the width."""
        return round(100 * (seconds - self.start) / (self.stop - self.start), 2)

    @property
    def now_at(self) -> float:
        return min(100.0, max(0.0, self.at(self.now)))


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    label: str
    is_odd: bool


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a row, in per cent. ``text`` stands inside it, ``after`` right of it."""

    kind: str
    word: str
    x: float
    width: float
    said: str
    number: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A step's line: its bars, and a few words at the end of the last one."""

    step: StepDetail
    word: str
    bars: tuple[Bar, ...]
    after: str
    after_at: float
    is_before: bool  # the words stand left of their place

    @property
    def said(self) -> str:
        bars = "; ".join(bar.said for bar in self.bars[:20])
        return f"{visible(self.step.name, 100)}: {self.word}. {bars or self.after}"


@dataclass(frozen=True, slots=True)
class Chart:
    """All of it; ``left_out`` counts the rows that are not drawn."""

    window: Window
    ticks: tuple[Tick, ...]
    rows: tuple[Row, ...]
    is_live: bool
    is_cut: bool
    left_out: int = 0


def chart(
    timeline: Timeline,
    steps: tuple[StepDetail, ...],
    *,
    since: float | None = None,
    until: float | None = None,
) -> Chart:
    """Lay a timeline out; ``steps`` are all steps of the run, of which some have no bar yet.

    ``since`` and ``until`` are seconds from the run's start. A negative ``since`` counts from now.
    """
    window = _window(timeline, since, until)
    rows = [_row(row.step, row.bars, timeline, window) for row in timeline.rows]
    begun = {row.step.name for row in timeline.rows}
    rows += [_idle(step, timeline, window) for step in steps if step.name not in begun]
    return Chart(
        window=window,
        ticks=_ticks(window),
        rows=tuple(rows[:ROWS_MOST]),
        is_live=timeline.is_live,
        is_cut=timeline.is_cut,
        left_out=max(0, len(rows) - ROWS_MOST),
    )


def _window(timeline: Timeline, since: float | None, until: float | None) -> Window:
    """From 0 to now, and a tenth more while something may still come."""
    now = max(0.001, _seconds(timeline.now, timeline))
    start = 0.0 if since is None else (since if since >= 0 else max(0.0, now + since))
    if until is not None and until > start:
        return Window(start, until, now)
    start = min(start, now * 0.99)
    room = (now - start) * (1.1 if timeline.is_live else 1.04)
    return Window(start, start + room, now)


def _ticks(window: Window) -> tuple[Tick, ...]:
    """Four to eight ticks, at a round number of a unit."""
    width = window.stop - window.start
    size = next((one for one in _SIZES if width / one <= 8), _SIZES[-1])
    first = math.ceil(window.start / size - 1e-9)
    ticks: list[Tick] = []
    for number in range(first, first + 9):
        at = window.at(number * size)
        if at > 96 or (abs(at - window.now_at) < 7 and window.stop >= window.now):
            continue
        ticks.append(Tick(at, _tick_label(number * size, size), len(ticks) % 2 == 1))
    return tuple(ticks)


def _tick_label(seconds: float, size: float) -> str:
    if size < 1:
        digits = 1 if size >= 0.1 else 2 if size >= 0.01 else 3
        return f"{seconds:.{digits}f}"
    whole = round(seconds)
    if whole >= 3600 or size >= 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02} h"
    return f"{whole // 60}:{whole % 60:02}"


def _row(
    step: StepDetail, bars: tuple[TimelineBar, ...], timeline: Timeline, window: Window
) -> Row:
    drawn = [_bar(bar, step, timeline, window, is_last=bar is bars[-1]) for bar in bars]
    seen = tuple(bar for bar in drawn if bar is not None)
    ends = [_seconds(bar.ended_at or timeline.now, timeline) for bar in bars
            if bar.kind is not BarKind.NEXT]  # fmt: skip
    end = max(ends, default=0.0)
    place = min(100.0, max(0.0, window.at(end)))
    first = min((bar.x for bar in seen), default=0.0)
    # After its last bar, else before its first one, else nowhere.
    fits_after = place < _LAST_WITH_TEXT and not any(bar.kind == "next" for bar in seen)
    fits = bool(seen) and (fits_after or first > _FIRST_WITH_TEXT)
    return Row(
        step=step,
        word=step_word(step),
        bars=seen,
        after=_after(step, timeline.now) if fits else "",
        after_at=place if fits_after else first,
        is_before=not fits_after,
    )


def _after(step: StepDetail, now: datetime) -> str:
    if step.error is not None and step_word(step) == "failed":
        return f"{visible(step.error.type.rpartition('.')[2], 24)}, gave up"
    return visible(step_line(step, now), 40)


def _idle(step: StepDetail, timeline: Timeline, window: Window) -> Row:
    word = step_word(step)
    said = step_line(step, timeline.now)
    if step.ended_at is not None:
        place = min(100.0, max(0.0, window.at(_seconds(step.ended_at, timeline))))
        bar = Bar("dot", word, place, 0.0, said, 0)
        if step.is_taken_over:
            return Row(step, word, (bar,), "taken over", place, is_before=False)
        text = f"{word} at {_tick_label(_seconds(step.ended_at, timeline), 1)}"
        return Row(step, word, (bar,), text, place, is_before=place >= 75)
    text = "taken over" if step.is_taken_over else "not started"
    return Row(step, word, (), text, window.now_at, is_before=True)


def _bar(
    bar: TimelineBar, step: StepDetail, timeline: Timeline, window: Window, *, is_last: bool
) -> Bar | None:
    """A bar where it can be seen; None outside of the window."""
    start = _seconds(bar.started_at, timeline)
    if bar.kind is BarKind.NEXT:
        stop = start + (window.stop - window.start) * 0.055
        start = min(start, window.stop - (window.stop - window.start) * 0.06)
        stop = max(start, min(stop, window.stop))
    else:
        stop = _seconds(bar.ended_at or timeline.now, timeline)
    if stop < window.start or start > window.stop:
        return None
    x = max(0.0, window.at(start))
    width = max(_SHORTEST, min(100.0, window.at(max(start, stop))) - x)
    kind = bar.kind.value
    if bar.kind is BarKind.ATTEMPT:
        kind = "solid" if is_last or bar.ended_at is None else "soft"
    if step.is_map and kind == "solid" and step.ended_at is None:
        kind = "map"
    said = ", ".join(
        part
        for part in (
            f"attempt {bar.attempt}" if bar.kind is not BarKind.LOST else "lost lease",
            span((bar.ended_at or timeline.now).timestamp() - bar.started_at.timestamp()),
            f"from {clock(bar.started_at)}",
            visible(bar.detail, 200),
        )
        if part
    )
    many_tries = bar.attempt > 1 or step.attempt > 0
    number = bar.attempt if many_tries and bar.kind in (BarKind.ATTEMPT, BarKind.NEXT) else 0
    return Bar(kind, step_word(step), x, round(width, 2), said, number)


def _seconds(moment: datetime, timeline: Timeline) -> float:
    return (moment - timeline.started_at).total_seconds()


def rows_said(chart_: Chart) -> str:
    return many(len(chart_.rows) + chart_.left_out, "step")
