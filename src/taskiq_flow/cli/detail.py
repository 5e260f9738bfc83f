"""``taskiq-flow show`` and ``logs``: one run as it stands."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.text import Text

from taskiq_flow.cli.arguments import RunArgument
from taskiq_flow.cli.common import Settings, command
from taskiq_flow.cli.exits import Exit
from taskiq_flow.cli.output import Output
from taskiq_flow.cli.words import (
    ago,
    error_lines,
    facts,
    previews,
    runs_table,
    standing_lines,
    took,
)
from taskiq_flow.display import RunEye, clock, one_line, plain_lines
from taskiq_flow.display.bars import RunView
from taskiq_flow.operations import Operations, RunDetail
from taskiq_flow.operations.models import LogLineView

FOLLOW_SECONDS = 0.5
"""How often ``logs --follow`` looks for new lines."""

LEVELS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red", "DEBUG": "bright_black"}


@command
async def show(
    settings: Settings,
    run: RunArgument,
    steps: Annotated[
        int, typer.Option(help="Show at most so many steps; the others are counted.", min=1)
    ] = 60,
) -> None:
    """Show a run: status, steps, times, errors with traceback, values, parent and children."""
    async with settings.operations() as operations:
        detail = await operations.run(run)
        if settings.as_json:
            settings.output.json(detail)
            return
        picture = await RunEye(operations.store, detail.run_id).look()
    output = settings.output
    output.show(RunView(picture, most_lines=steps), "")
    output.show(facts(_facts(detail)))
    if detail.standing:
        output.show("", Text("Where it stands", style="bold"), *standing_lines(detail.standing))
    for title, values in (("Inputs", detail.inputs), ("Outputs", detail.outputs)):
        if values:
            output.show("", Text(title, style="bold"), previews(values))
    errors = [step.error for step in detail.steps if step.error is not None]
    if not errors and detail.error is not None:
        errors = [detail.error]
    for error in errors:
        output.show("", *error_lines(error))
    if detail.children.runs:
        output.show("", Text("Runs of its steps", style="bold"), runs_table(detail.children.runs))
    _what_now(output, detail)


@command
async def logs(
    settings: Settings,
    run: RunArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new lines until the run has ended.")
    ] = False,
    step: Annotated[str | None, typer.Option(help="Of this step only.")] = None,
) -> Exit:
    """Show what steps wrote with their context's logger; with --json one object a line."""
    async with settings.operations() as operations:
        run_id = await operations.resolve(run)
        position = 0
        while True:
            # Asked before: what is written by the end of a run is read after it.
            ended = (await operations.summary(run_id)).status.is_final
            position = await _read_logs(settings, operations, run_id, position, step)
            if ended or not follow:
                if not position and not settings.as_json:
                    settings.output.note("No lines.")
                return Exit.OK
            await asyncio.sleep(FOLLOW_SECONDS)


async def _read_logs(
    settings: Settings, operations: Operations, run_id: str, position: int, step: str | None
) -> int:
    while True:
        page = await operations.logs(run_id, after=position, limit=500, step=step)
        for line in page.lines:
            if settings.as_json:
                settings.output.json_line(line)
            else:
                _write(settings.output, line)
        position = page.position
        if page.is_end:
            return position


def _write(output: Output, line: LogLineView) -> None:
    style = LEVELS.get(line.level, "")
    item = "" if line.item is None else f"[{line.item}]"
    again = f" try {line.attempt}" if line.attempt > 1 else ""
    for place, text in enumerate(plain_lines(line.message) or [""]):
        head = (
            Text.assemble(
                (f"{line.at.astimezone():%H:%M:%S.%f}"[:-3], "bright_black"),
                (f" {one_line(line.level, 8):<7} ", style or "bright_black"),
                (f"{one_line(line.step, 40)}{item}{again}  ", "cyan"),
            )
            if place == 0
            else Text(" " * 21)
        )
        output.out.print(Text.assemble(head, (text, style)), soft_wrap=True)


def _facts(detail: RunDetail) -> list[tuple[str, object]]:
    run = detail.summary
    return [
        ("id", run.run_id),
        ("run", "" if run.pipeline_id == run.run_id else run.pipeline_id),
        ("pipeline", f"{run.name}  ({run.kind})" if run.name else run.kind),
        ("tags", ", ".join(tag for tag in run.tags if not tag.startswith("parent:"))),
        ("created", f"{clock(run.created_at)}  ({ago(run.created_at)})"),
        ("began", clock(run.started_at)),
        ("ended", clock(run.ended_at)),
        ("took", took(run)),
        ("deadline", clock(detail.deadline)),
        ("cancelled", run.reason),
        ("parent", run.parent_id),
        ("retry of", detail.retry_of),
        ("fork of", detail.fork_of),
        ("retried as", detail.retried_as),
    ]


def _what_now(output: Output, detail: RunDetail) -> None:
    short = detail.summary.short_id
    hints: list[str] = []
    if detail.waits_for:
        hints.append(f"send-event {short} {detail.waits_for[0]} JSON")
    if "retry" in detail.can:
        hints.append(f"retry {short}")
    if "cancel" in detail.can:
        hints += [f"watch {short}", f"cancel {short}"]
    if hints:
        said = "   ".join(f"taskiq-flow {one_line(hint)}" for hint in hints)
        output.note("")
        output.note(f"next: {said}")
