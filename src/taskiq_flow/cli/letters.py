"""``taskiq-flow dlq``: failed runs, to be looked at, retried or removed."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from taskiq_flow.cli.arguments import (
    BrokerOption,
    CursorOption,
    LimitOption,
    YesOption,
    read_moment,
)
from taskiq_flow.cli.common import Settings, actor, command
from taskiq_flow.cli.exits import Exit
from taskiq_flow.cli.output import cell, table
from taskiq_flow.cli.steering import acting, confirmed
from taskiq_flow.cli.words import ago
from taskiq_flow.exceptions import BadInputError
from taskiq_flow.operations import LetterPage, LetterQuery

RunsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RUN]...", help="Of these runs only.", show_default=False),
]
NameOption = Annotated[
    str | None, typer.Option("--name", help="Of pipelines of this name.", show_default=False)
]
TagOption = Annotated[str | None, typer.Option("--tag", help="With this tag.", show_default=False)]
TaskOption = Annotated[
    str | None, typer.Option("--task", help="Where this task failed.", show_default=False)
]
ErrorOption = Annotated[
    str | None,
    typer.Option("--error", help="With this type of error: ValueError.", show_default=False),
]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", help="Created after: 2h (ago), 7d, 2026-11-21.", show_default=False),
]
AllOption = Annotated[bool, typer.Option("--all", help="All that fit, not only named ones.")]


@command
async def list_letters(  # noqa: PLR0913 - each is an option of the command
    settings: Settings,
    name: NameOption = None,
    tag: TagOption = None,
    task: TaskOption = None,
    error: ErrorOption = None,
    since: SinceOption = None,
    retried: Annotated[bool, typer.Option("--retried", help="Also those retried since.")] = False,
    limit: LimitOption = 20,
    cursor: CursorOption = None,
) -> None:
    """List dead letters: runs that failed for good, the newest first."""
    query = _query(name, tag, task, error, since, include_retried=retried)
    async with settings.operations() as operations:
        page = await operations.dead_letters(query, limit=limit, cursor=cursor)
    if settings.as_json:
        settings.output.json(page)
        return
    if not page.letters:
        none = "No dead letters." if page.cursor is None else "None among the newest ones."
        settings.output.note(none)
    else:
        settings.output.show(_table(page))
    if page.cursor is not None:
        settings.output.note(f"older ones: --cursor {page.cursor!r}")


@command
async def replay(  # noqa: PLR0913 - each is an option of the command
    settings: Settings,
    runs: RunsArgument = None,
    every: AllOption = False,
    name: NameOption = None,
    tag: TagOption = None,
    task: TaskOption = None,
    error: ErrorOption = None,
    since: SinceOption = None,
    broker: BrokerOption = None,
) -> Exit:
    """Retry dead letters: the named ones, or with --all those that fit the filters."""
    _check(runs, every=every)
    query = _query(name, tag, task, error, since)
    async with acting(settings, broker) as operations:
        result = await operations.replay_dead_letters(runs or query, actor=actor())
    if settings.as_json:
        settings.output.json(result)
    else:
        for old, new in result.made.items():
            settings.output.line(f"{old} → {new}")
        for old, why in result.left.items():
            settings.output.note(f"{old} was left: {why}", "yellow")
        more = "" if result.is_all else "; there are more, say it again"
        settings.output.note(f"{len(result.made):,} retried, {len(result.left):,} left{more}")
    return Exit.REFUSED if result.left and not result.made else Exit.OK


@command
async def delete(
    settings: Settings,
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="These runs.", show_default=False)
    ],
    yes: YesOption = False,
) -> Exit:
    """Remove dead letters with all that belongs to them."""
    many = f"{len(runs)} dead letters" if len(runs) > 1 else f"dead letter {runs[0]}"
    if not yes and not confirmed(settings, f"Remove {many} for good?"):
        return Exit.REFUSED
    removed: list[str] = []
    async with settings.operations() as operations:
        for ref in runs:
            result = await operations.delete(ref, actor=actor())
            removed += [result.run_id] if result.changed and result.run_id else []
    if settings.as_json:
        settings.output.json({"removed": removed})
    else:
        settings.output.line(f"{len(removed):,} removed.")
    return Exit.OK


def _check(runs: list[str] | None, *, every: bool) -> None:
    if bool(runs) is every:
        raise BadInputError("--all", "", "or runs have to be named, one of them")


def _query(
    name: str | None,
    tag: str | None,
    task: str | None,
    error: str | None,
    since: str | None,
    *,
    include_retried: bool = False,
) -> LetterQuery:
    return LetterQuery(
        name=name,
        tag=tag,
        task=task,
        error=error,
        since=read_moment("--since", since),
        include_retried=include_retried,
    )


def _table(page: LetterPage) -> Table:
    made = table("run", "pipeline", "step", "failed", "error", long=("pipeline", "step", "error"))
    for letter in page.letters:
        poison = " (poison)" if letter.is_poison else ""
        again = f" → {letter.retried_as[-8:]}" if letter.retried_as else ""
        made.add_line(
            cell(letter.short_id, "bold"),
            cell(letter.name or letter.kind, most=30),
            cell(letter.step or "whole run", most=30),
            cell(ago(letter.failed_at), "bright_black"),
            cell(f"{letter.error.type}: {letter.error.message}{poison}{again}", "red", 90),
        )
    return made


dlq = typer.Typer(
    name="dlq",
    help="Dead letters: failed runs, to be retried or removed.",
    no_args_is_help=True,
    add_completion=False,
)
dlq.command("list")(list_letters)
dlq.command("replay")(replay)
dlq.command("delete")(delete)
