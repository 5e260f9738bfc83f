"""Shows a run in the terminal: one bar a step, redrawn in place; plain lines elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from examples.stdlib_report.cores import CoreMeter
from examples.stdlib_report.progress import MEASURES, TITLES, Progress, duration
from taskiq_flow import StepStatus

PLAIN_SECONDS = 5.0
"""How often a screen that is no terminal says how far the run is."""

_BESIDE_BARS = 64
"""How wide everything else in a row of the live screen is."""


@dataclass(frozen=True, slots=True)
class Heading:
    """What stands above the bars: a word, what it stands for, and what to know about it."""

    title: str
    facts: tuple[tuple[str, str, str], ...]


class Screen(Protocol):
    """Where a run is shown."""

    def begin(self, heading: Heading) -> None: ...
    def say(self, line: str) -> None: ...
    def show(self, progress: Progress) -> None: ...
    def end(self) -> None: ...


def make_screen(console: Console, meter: CoreMeter) -> Screen:
    """The live screen for a terminal, else plain lines."""
    return LiveScreen(console, meter) if console.is_terminal else PlainScreen(console)


class PlainScreen:
    """A line when a step has ended, and now and then one on how far the files are."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: set[str] = set()
        self._next = 0.0

    def begin(self, heading: Heading) -> None:
        self.say(heading.title)
        for word, what, more in heading.facts:
            self.say(f"{word}: {what}" + (f" ({more})" if more else ""))

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, progress: Progress) -> None:
        for name, title in TITLES.items():
            step = progress.step(name)
            if step is not None and step.completed_at and name not in self._told:
                self._told.add(name)
                self.say(
                    f"{title}: {step.status.lower()} after {duration(step.duration_ms / 1000)}"
                )
        is_due = time.monotonic() >= self._next
        if is_due and progress.done is not None and MEASURES not in self._told:
            self._next = time.monotonic() + PLAIN_SECONDS
            rate = f", {progress.rate:.0f} a second" if progress.rate else ""
            self.say(f"measured {progress.done:,} of {progress.total or 0:,} files{rate}")

    def end(self) -> None:
        """Nothing is left open."""


class LiveScreen:
    """Heading, bars and the files measured last, redrawn where they stand."""

    def __init__(self, console: Console, meter: CoreMeter) -> None:
        self._console, self._meter = console, meter
        self._busy: float | None = None
        self._next_busy = 0.0
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def begin(self, heading: Heading) -> None:
        self._console.print()
        self._console.print(_heading(heading))
        self._console.print()
        self._live.start()
        # A process that is killed cannot give a hidden cursor back to the shell.
        self._console.show_cursor(True)

    def say(self, line: str) -> None:
        self._console.print(Padding(Text(line, style="bold green"), (0, 0, 1, 2)))

    def show(self, progress: Progress) -> None:
        if time.monotonic() >= self._next_busy:
            self._busy, self._next_busy = self._meter.busy(), time.monotonic() + 1
        width = max(8, min(32, self._console.width - _BESIDE_BARS))
        picture = Group(_bars(progress, width), Text(), _footer(progress, self._busy))
        self._live.update(Padding(picture, (0, 0, 0, 2)), refresh=True)

    def end(self) -> None:
        self._live.stop()


def _heading(heading: Heading) -> RenderableType:
    table = Table.grid(padding=(0, 3, 0, 0))
    for word, what, more in heading.facts:
        fact = Text.assemble(what, "   " if more else "", (more, "bright_black"))
        table.add_row(Text(word, style="bright_black"), fact)
    return Panel(
        table,
        title=Text(f" {heading.title} ", style="bold"),
        title_align="left",
        border_style="bright_black",
        padding=(1, 2),
        expand=False,
    )


def _bars(progress: Progress, width: int) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=1)
    table.add_column(width=12)
    table.add_column(width=width)
    table.add_column(justify="right", min_width=14)
    table.add_column(justify="right", min_width=20)
    for name, title in TITLES.items():
        step = progress.step(name)
        sign, style = _SIGNS.get(step.status if step else "", ("·", "bright_black"))
        table.add_row(
            Text(sign, style=style),
            Text(title, style="" if step else "bright_black"),
            _bar(step, progress.earlier, width),
            Text(_count(step, progress)),
            Text(_pace(step, progress), style="bright_black"),
        )
    return table


_SIGNS = {
    "READY": ("▸", "cyan"),
    "RUNNING": ("▸", "bold cyan"),
    "RETRYING": ("↻", "yellow"),
    "COMPLETED": ("✓", "green"),
    "FAILED": ("✗", "bold red"),
    "SKIPPED": ("»", "bright_black"),
    "CANCELLED": ("■", "bright_black"),
}


def _bar(step: StepStatus | None, earlier: int, width: int) -> Text:
    """A bar in two colours: what earlier processes did, and what this one did."""
    if step is None or step.items_total is None:
        is_done = step is not None and step.completed_at is not None
        return Text("━" * width, style="green" if is_done else "bright_black dim")
    total = max(1, step.items_total)
    before = round(width * min(earlier, step.items_done) / total)
    until = round(width * step.items_done / total)
    bar = Text("━" * before, style="blue")
    bar.append("━" * (until - before), style="green" if step.completed_at else "bold cyan")
    return bar.append("━" * (width - until), style="bright_black dim")


def _count(step: StepStatus | None, progress: Progress) -> str:
    if step is None:
        return ""
    if step.name != MEASURES:
        return f"{progress.total:,} files" if step.name == "files" and progress.total else ""
    if step.items_total is None:
        return ""
    return f"{step.items_done:,} of {step.items_total:,}"


def _pace(step: StepStatus | None, progress: Progress) -> str:
    if step is None:
        return ""
    if step.completed_at is not None:
        return duration(step.duration_ms / 1000)
    if step.name != MEASURES:
        return ""
    if progress.rate is None or progress.seconds_left is None:
        return ""
    return f"{progress.rate:.0f}/s, {duration(progress.seconds_left)} left"


def _footer(progress: Progress, busy: float | None) -> RenderableType:
    if progress.is_waiting:
        return Text("waiting for a worker to take it", style="yellow")
    if progress.is_taking_over:
        return Text("taking over what the last process had in hand", style="yellow")
    measures = progress.step(MEASURES)
    if measures is None or measures.completed_at is not None:
        return Text()
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column(width=44, no_wrap=True)
    table.add_column(justify="right", width=11)
    table.add_column(justify="right", width=16)
    for each in progress.recent:
        what = "not valid Python" if each.error else _many(each.functions, "function")
        path = Text(each.path, overflow="ellipsis")
        table.add_row(path, _many(each.lines, "line"), what, style="bright_black")
    lines: list[RenderableType] = [table]
    if busy is not None:
        lines += [Text(), Text(f"{busy:.1f} cores busy", style="bright_black")]
    return Group(*lines)


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
