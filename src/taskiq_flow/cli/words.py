"""How runs, values and errors are put into words on a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from taskiq_flow.cli.output import cell, table
from taskiq_flow.display import clock, duration, one_line, plain_lines
from taskiq_flow.display.bars import word_of
from taskiq_flow.operations.models import ErrorView, Preview, RunSummary, StandingView

VALUE_WIDTH = 100

_NO_REASONS: Mapping[str, StandingView] = {}

STANDING_MOST = 8
"""So many reasons for which steps stand are said."""


def runs_table(runs: Iterable[RunSummary], why: Mapping[str, StandingView] = _NO_REASONS) -> Table:
    """A row for each run, with the reason by its id why one has not ended."""
    columns = ("status", "run", "pipeline", "steps", "began", "took", "")
    made = table(*columns, right=("steps", "took"), long=("pipeline", ""))
    for run in runs:
        made.add_line(
            word_of(run.status),
            cell(run.short_id, "bold"),
            title_of(run),
            cell(f"{run.steps_done:,} of {run.steps_total:,}"),
            cell(clock(run.created_at), "bright_black"),
            cell(took(run), "bright_black"),
            _said_of(run, why.get(run.run_id)),
        )
    return made


def _said_of(run: RunSummary, standing: StandingView | None) -> Text:
    if standing is None:
        return cell(run.error or run.reason or "", "red" if run.error else "bright_black", 80)
    text = f"{one_line(standing.steps[0], 30)}: {standing.text}"
    return cell(text, "yellow" if standing.is_trouble else "bright_black", 80)


def title_of(run: RunSummary) -> Text:
    """The pipeline's name, and the name of the run where it has one."""
    named = run.pipeline_id not in ("", run.run_id, run.name)
    title = cell(run.name or run.kind, most=40)
    return Text.assemble(title, "  ", cell(run.pipeline_id, "cyan", 40)) if named else title


def took(run: RunSummary) -> str:
    """How long it took, or has been going on."""
    if run.started_at is None:
        return ""
    end = run.ended_at or datetime.now(UTC)
    return duration((end - run.started_at).total_seconds())


def ago(moment: datetime | None) -> str:
    """How long ago, or in how long."""
    if moment is None:
        return ""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    return f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}"


def facts(pairs: Iterable[tuple[str, object]]) -> Table:
    """Facts below one another; those without a value are left out."""
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(style="bright_black", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, "", ()):
            made.add_row(f"  {name}", value if isinstance(value, Text) else cell(value, most=400))
    return made


def previews(values: Mapping[str, Preview]) -> Table:
    """Values by name, each in one line."""
    return facts((one_line(name, 40), preview_line(value)) for name, value in values.items())


def standing_lines(standing: Sequence[StandingView]) -> list[RenderableType]:
    """Why steps have not ended, since when, and what helps."""
    lines: list[RenderableType] = []
    for each in standing[:STANDING_MOST]:
        named = ", ".join(one_line(name, 40) for name in each.steps[:3])
        more = f" and {each.count - 3:,} more" if each.count > 3 else ""
        since = f", since {clock(each.since)} ({ago(each.since)})" if each.since else ""
        until = f", until {clock(each.until)} ({ago(each.until)})" if each.until else ""
        style = "yellow" if each.is_trouble else ""
        text = Text.assemble(
            "  ", (f"{named}{more}", "cyan"), (f"  {one_line(each.text, 400)}", style)
        )
        lines.append(text.append(f"{since}{until}", "bright_black"))
        if each.advice:
            lines.append(Text(f"    {one_line(each.advice, 400)}", style="bright_black"))
    if len(standing) > STANDING_MOST:
        left = f"  … {len(standing) - STANDING_MOST} more reasons; --json has all"
        lines.append(Text(left, style="bright_black"))
    return lines


def preview_line(value: Preview) -> Text:
    """A stored value in one line, with what is left out of it."""
    if value.value is None and value.is_cut:
        return Text(f"{value.size:,} bytes", style="bright_black")
    text = one_line(json.dumps(value.value, ensure_ascii=False, default=str), VALUE_WIDTH)
    line = Text(text)
    if value.length is not None and (value.is_cut or text.endswith("…")):
        word = "characters" if value.type in ("text", "string", "str") else "in all"
        line.append(f"  {value.length:,} {word}", style="bright_black")
    return line


def error_lines(error: ErrorView) -> list[RenderableType]:
    """An error: where, what, and the traceback as it was."""
    where = f" in step {one_line(error.step, 60)}" if error.step else ""
    parts: list[RenderableType] = [Text(f"Error{where}", style="bold")]
    message = plain_lines(error.message) or [""]
    parts.append(
        Text.assemble("  ", (one_line(error.type, 80), "bold red"), (f": {message[0]}", "red"))
    )
    parts += [Text(f"  {line}", style="red") for line in message[1:]]
    if error.traceback:
        parts.append(Text())
        parts += [
            Text(f"  {line}", style="bright_black")
            for line in plain_lines(error.traceback.rstrip())
        ]
    return parts
