"""``taskiq-flow watch``: a run, or all that go on, live."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from taskiq_flow.cli.common import Settings, command
from taskiq_flow.cli.exits import Exit
from taskiq_flow.cli.interrupts import Interrupts
from taskiq_flow.cli.listing import reasons
from taskiq_flow.cli.words import runs_table
from taskiq_flow.display import RunEye, follow, make_screen
from taskiq_flow.model.records import RunSnapshot, RunStatus
from taskiq_flow.operations import Operations, RunQuery

RUNS_SECONDS = 1.0
"""How often the list of running runs is drawn anew, so that times go on."""

MOST_RUNS = 40


@command
async def watch(
    settings: Settings,
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]",
            help="A run: its id, the last 8 characters of that, or its name. Without one, all "
            "that go on.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[  # noqa: ASYNC109 - a limit of the command, with an exit code of its own
        float | None, typer.Option(help="Give up watching after so many seconds.")
    ] = None,
) -> Exit:
    """Watch a run live until it has ended; the exit code says how. Ctrl-C only stops watching."""
    interrupts = Interrupts()
    async with settings.operations() as operations:
        with interrupts.heard():
            heard = asyncio.ensure_future(interrupts.next())
            body = (
                _all_runs(settings, operations) if run is None else _one(settings, operations, run)
            )
            watching = asyncio.ensure_future(body)
            await asyncio.wait(
                {watching, heard}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if watching.done():
                heard.cancel()
                return watching.result()
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            if not heard.done():
                heard.cancel()
                return Exit.TIMEOUT
            stopped = heard.result() is signal.SIGINT
            return Exit.INTERRUPTED if stopped else Exit.TERMINATED


async def _one(settings: Settings, operations: Operations, ref: str) -> Exit:
    run_id = await operations.resolve(ref)
    if settings.as_json:
        async for event, _ in operations.follow(run_id):
            settings.output.json_line(event)
    else:

        async def why(_: RunSnapshot) -> str | None:
            standing = await operations.standing(run_id)
            return next((str(each) for each in standing if each.is_trouble), None)

        screen = make_screen(settings.output.out)
        screen.begin()
        try:
            await follow(RunEye(operations.store, run_id, why), screen)
        finally:
            screen.end()
    summary = await operations.summary(run_id)
    return Exit.OK if summary.status is RunStatus.COMPLETED else Exit.RUN_FAILED


async def _all_runs(settings: Settings, operations: Operations) -> Exit:
    if settings.as_json:
        async for event, _ in operations.follow():
            settings.output.json_line(event)
        return Exit.OK
    console = settings.output.out
    if not console.is_terminal:
        console.print(await _running(operations))
        return Exit.OK
    with Live(console=console, auto_refresh=False) as live:
        console.show_cursor(True)
        while True:
            live.update(await _running(operations), refresh=True)
            await asyncio.sleep(RUNS_SECONDS)


async def _running(operations: Operations) -> RenderableType:
    pages = [
        await operations.runs(RunQuery(status=status), limit=MOST_RUNS)
        for status in (RunStatus.RUNNING, RunStatus.PENDING)
    ]
    runs = [run for page in pages for run in page.runs][:MOST_RUNS]
    if not runs:
        return Text("Nothing is running.", style="bright_black")
    more = any(page.cursor for page in pages)
    note = Text("and more: taskiq-flow list --status RUNNING", style="bright_black")
    made = runs_table(runs, await reasons(operations, runs))
    return Group(made, note) if more else made
