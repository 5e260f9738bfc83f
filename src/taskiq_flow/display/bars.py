"""Draws a picture of a run with rich: one line a step, child runs below the step they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from taskiq_flow.display.picture import Gap, RunPicture, StepRow, fit
from taskiq_flow.display.text import duration, one_line, short_id

SIGNS = {
    "WAITING": ("·", "bright_black"),
    "PENDING": ("○", "bright_black"),
    "READY": ("▸", "cyan"),
    "RUNNING": ("▸", "bold cyan"),
    "RETRYING": ("↻", "bold yellow"),
    "COMPLETED": ("✓", "green"),
    "FAILED": ("✗", "bold red"),
    "SKIPPED": ("»", "bright_black"),
    "CANCELLED": ("■", "bright_black"),
}
"""Sign and style of each status, of runs and of steps; the sign says the same as the colour."""

_PLAIN = str.maketrans("·○▸↻✓✗»■━…─│╰├", "..>r+x~#=.-|`+")

MOST_NAME = 32
MARGIN = 3
"""Columns that stay free: a ``^C`` that a terminal echoes there does not move what is redrawn."""

NARROW = 72
"""In a terminal that is narrower the bars go, and words stay."""


def sign_of(status: str) -> Text:
    """The sign of a status, in its colour."""
    sign, style = SIGNS.get(status, ("·", "bright_black"))
    return Text(sign, style=style)


def word_of(status: str) -> Text:
    """Sign and word of a status, in its colour."""
    sign, style = SIGNS.get(status, ("·", "bright_black"))
    return Text(f"{sign} {one_line(status)}", style=style)


class RunView:
    """A picture as something that rich can print, fitted to the console's height."""

    def __init__(
        self, picture: RunPicture, *, rates: dict[str, float] | None = None, beat: int = 0,
        most_lines: int | None = None,
    ) -> None:  # fmt: skip
        self._picture, self._rates, self._beat = picture, rates or {}, beat
        self._most_lines = most_lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        most = self._most_lines or max(4, console.size.height - 6)
        parts: list[RenderableType] = [
            headline(self._picture),
            *self._below(options.max_width - MARGIN, most),
        ]
        if options.ascii_only:
            for segment in console.render(Group(*parts), options):
                yield segment._replace(text=segment.text.translate(_PLAIN))
        else:
            yield Group(*parts)

    def _below(self, width: int, most: int) -> Iterator[RenderableType]:
        picture = self._picture
        yield _table(_lines(picture, most, self._rates), width, self._beat)
        if picture.note:
            yield Text(f"  {one_line(picture.note, 400)}", style="yellow")
        is_said = any(one_line(row.message) == one_line(picture.error) for row in picture.rows)
        if picture.error and picture.has_ended and not is_said:
            yield Text(f"  {one_line(picture.error, 400)}", style="red")


def headline(picture: RunPicture) -> Text:
    """One line on the run as a whole."""
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append_text(word_of(picture.status))
    line.append("  ")
    line.append(one_line(picture.title, 60), style="bold")
    line.append(f"  {short_id(picture.run_id)}", style="bright_black")
    facts = [f"{picture.steps_done:,} of {picture.steps_total:,} steps"]
    if picture.seconds is not None:
        facts.append(duration(picture.seconds))
    if picture.seconds_left and not picture.has_ended and picture.fraction > 0.02:
        facts.append(f"about {duration(picture.seconds_left)} left")
    line.append("  " + " · ".join(facts), style="bright_black")
    return line


class _Line(NamedTuple):
    guide: str
    row: StepRow | Gap | RunPicture
    rate: float | None = None


def _lines(
    picture: RunPicture, most: int, rates: dict[str, float], guide: str = "  "
) -> list[_Line]:
    found: list[_Line] = []
    for row in fit(picture.rows, most):
        if isinstance(row, Gap):
            found.append(_Line(guide, row))
            continue
        found.append(_Line(guide, row, rates.get(row.name)))
        if len(found) >= most:
            continue
        last = len(row.children) - (0 if row.more_children else 1)
        for place, child in enumerate(row.children):
            end = place == last
            found.append(_Line(f"{guide}{'╰─' if end else '├─'}", child))
            if not child.has_ended:
                inner = f"{guide}{'  ' if end else '│ '}   "
                found += _lines(child, max(2, most // 4), {}, inner)
        if row.more_children:
            found.append(_Line(f"{guide}╰─", Gap({"more runs": row.more_children})))
    return found


def _table(lines: list[_Line], width: int, beat: int) -> Table:
    bar = 0 if width < NARROW else min(28, width // 5)
    cells = [_cells(line, bar, beat) for line in lines]
    names, _, counts, times, _ = (
        max((row[column].cell_len for row in cells), default=0) for column in range(5)
    )
    # Every width is said: else rich takes from all columns where one text is long.
    widths = [min(names, 48), bar, min(counts, 32), times]
    rest = width - sum(w + 2 for w in widths if w)
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    shown = [column for column, w in enumerate([*widths, max(rest, 0)]) if w]
    for column in shown:
        table.add_column(
            width=[*widths, rest][column],
            no_wrap=True,
            overflow="ellipsis",
            justify="right" if column in (2, 3) else "left",
        )
    for row in cells:
        table.add_row(*(row[column] for column in shown))
    return table


def _name(row: StepRow | Gap | RunPicture) -> str:
    if isinstance(row, Gap):
        return str(row)
    return one_line(row.title if isinstance(row, RunPicture) else row.name, MOST_NAME)


def _cells(line: _Line, bar: int, beat: int) -> tuple[Text, Text, Text, Text, Text]:
    row, guide = line.row, Text(line.guide, style="bright_black")
    if isinstance(row, Gap):
        guide.append(f" … {row}", style="bright_black")
        return guide, Text(), Text(), Text(), Text()
    if isinstance(row, RunPicture):
        title = Text.assemble(_name(row), (f" {short_id(row.run_id)}", "bright_black"))
        name = Text.assemble(guide, " ", sign_of(row.status), " ", title)
        picture_bar = _bar(row.fraction, row.status, bar, beat)
        count = f"{row.steps_done:,} of {row.steps_total:,}"
        message = Text(one_line(row.error), style="red") if row.has_ended else Text()
        return name, picture_bar, Text(count), _time(row.seconds), message
    name = Text.assemble(guide, sign_of(row.status), " ")
    dim = row.status in {"WAITING", "SKIPPED", "CANCELLED"}
    name.append(_name(row), style="bright_black" if dim else "")
    pace = Text(f"{row.failed:,} failed" if row.failed else "", style="red")
    rate = _pace(line.rate, row)
    pace.append(f"  {rate}" if pace.plain and rate else rate, style="bright_black")
    message = _message(row)
    if pace.plain and message.plain:
        pace.append("  ")
    return (
        name,
        _bar(row.fraction, row.status, bar, beat),
        _count(row),
        _time(row.seconds),
        (pace + message),
    )


def _bar(fraction: float | None, status: str, width: int, beat: int) -> Text:
    """A bar in the colour of the status; where nobody knows how far, something that moves."""
    style = {"FAILED": "red", "RETRYING": "yellow", "COMPLETED": "green"}.get(status, "cyan")
    if fraction is None and status == "RUNNING" and width:
        at = beat % (2 * (width - 4) or 1)
        at = min(at, 2 * (width - 4) - at)
        return Text.assemble(("─" * at, _EMPTY), ("━━━━", style), ("─" * (width - at - 4), _EMPTY))
    filled = int(width * (fraction or 0.0))
    if fraction and width:
        filled = max(filled, 1)
    return Text.assemble(("━" * filled, style), ("─" * (width - filled), _EMPTY))


_EMPTY = "bright_black dim"


def _count(row: StepRow) -> Text:
    if row.done is None:
        return Text()
    text = f"{row.done:,.6g}" if isinstance(row.done, float) else f"{row.done:,}"
    if row.total is not None:
        total = f"{row.total:,.6g}" if isinstance(row.total, float) else f"{row.total:,}"
        text = f"{text} of {total}"
    return Text(text)


def _time(seconds: float | None) -> Text:
    return Text(duration(seconds), style="bright_black")


def _pace(rate: float | None, row: StepRow) -> str:
    if rate is None or row.has_ended or row.total is None or row.done is None or rate <= 0:
        return ""
    pace = f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"
    return f"{pace}, {duration((row.total - row.done) / rate)} left"


def _message(row: StepRow) -> Text:
    parts: list[tuple[str, str]] = []
    if row.message:
        style = {"FAILED": "red", "RETRYING": "yellow"}.get(row.status, "")
        parts.append((one_line(row.message), style))
    if row.tries > (row.status == "FAILED") and row.status != "RETRYING":
        tries = "try" if row.tries == 1 else "tries"
        parts.append((f"{row.tries} failed {tries}", "yellow"))
    if row.lost:
        parts.append((f"worker lost {row.lost} times" if row.lost > 1 else "worker lost", "yellow"))
    message = Text()
    for place, (text, style) in enumerate(parts):
        message.append(" · " if place else "", style="bright_black").append(text, style=style)
    return message
