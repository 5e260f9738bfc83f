"""``taskiq-flow list`` and ``workers``: what there is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from taskiq_flow.cli.arguments import CursorOption, LimitOption, read_moment
from taskiq_flow.cli.common import Settings, command
from taskiq_flow.cli.output import cell, table
from taskiq_flow.cli.words import ago, runs_table
from taskiq_flow.exceptions import BadInputError
from taskiq_flow.model.records import RunStatus
from taskiq_flow.operations import Operations, RunQuery, RunSummary, StandingView

REASONS_MOST = 20
"""Of so many runs of a page it is said why they have not ended."""


@command
async def list_runs(  # noqa: PLR0913 - each is an option of the command
    settings: Settings,
    status: Annotated[
        str | None,
        typer.Option("--status", "-s", help="PENDING, RUNNING, COMPLETED, FAILED or CANCELLED."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of pipelines of this name.")] = None,
    search: Annotated[str | None, typer.Option(help="Whose name begins so.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="sequential, dataflow, map_reduce or task.")
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="With this tag.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Created after: 2h (ago), 7d, 2026-11-21, with a time too.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Created before.")] = None,
    limit: LimitOption = 20,
    cursor: CursorOption = None,
) -> None:
    """List runs, the newest first."""
    query = RunQuery(
        status=_status(status),
        name=name,
        search=search,
        kind=kind,
        tag=tag,
        since=read_moment("--since", since),
        until=read_moment("--until", until),
    )
    async with settings.operations() as operations:
        page = await operations.runs(query, limit=limit, cursor=cursor, count=True)
        why = {} if settings.as_json else await reasons(operations, page.runs)
    output = settings.output
    if settings.as_json:
        output.json(page)
        return
    if not page.runs and page.cursor is None:
        fit = "" if query == RunQuery() else " that fit"
        output.note(f"No runs{fit} in {settings.place}.")
        return
    output.show(runs_table(page.runs, why))
    if page.cursor is not None:
        total = f" of {page.total:,}" if page.total is not None else ""
        output.note(f"{len(page.runs)}{total}; older ones: --cursor {page.cursor!r}")


async def reasons(operations: Operations, runs: Sequence[RunSummary]) -> dict[str, StandingView]:
    """Why runs of a page have not ended, the first reason of each, as far as it has one."""
    going = [run.run_id for run in runs if not run.status.is_final][:REASONS_MOST]
    found = await asyncio.gather(*map(operations.standing, going), return_exceptions=True)
    return {
        run_id: standing[0]
        for run_id, standing in zip(going, found, strict=True)
        if not isinstance(standing, BaseException) and standing
    }


@command
async def workers(settings: Settings) -> None:
    """List the live workers: which queues they serve, how many tasks they have."""
    async with settings.operations() as operations:
        found = await operations.workers()
    if settings.as_json:
        settings.output.json(found)
        return
    if not found:
        settings.output.note("No live worker. Start one: taskiq worker MODULE:BROKER")
        return
    columns = ("worker", "host", "pid", "queues", "tasks", "seen")
    made = table(*columns, right=("pid", "tasks"), long=("host", "queues"))
    for worker in found:
        made.add_line(
            cell(worker.worker_id, "bold"),
            cell(worker.host, most=40),
            cell(worker.pid or ""),
            cell(", ".join(worker.queues), most=70),
            cell(f"{len(worker.tasks):,}"),
            cell(ago(worker.seen_at), "bright_black"),
        )
    settings.output.show(made)


def _status(word: str | None) -> RunStatus | None:
    if word is None:
        return None
    try:
        return RunStatus(word.upper())
    except ValueError as error:
        known = ", ".join(RunStatus)
        raise BadInputError("--status", word, f"is no status; they are {known}") from error
