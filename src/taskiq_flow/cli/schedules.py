"""``taskiq-flow schedules``: what starts when, and stopping or hurrying it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from taskiq_flow.cli.arguments import BrokerOption, YesOption
from taskiq_flow.cli.common import Settings, actor, command
from taskiq_flow.cli.exits import Exit
from taskiq_flow.cli.output import cell, table
from taskiq_flow.cli.steering import acting, confirmed
from taskiq_flow.cli.words import ago
from taskiq_flow.model.records import RunStatus
from taskiq_flow.operations import ActionResult, RunQuery, ScheduleView
from taskiq_flow.scheduling.job import ONCE_TAG

ScheduleArgument = Annotated[
    str, typer.Argument(metavar="SCHEDULE", help="The schedule's id.", show_default=False)
]


@command
async def list_schedules(settings: Settings) -> None:
    """List schedules: their rule, when they start next, and what they did last."""
    async with settings.operations() as operations:
        found = await operations.schedules()
        once = await operations.count(RunQuery(status=RunStatus.PENDING, tag=ONCE_TAG))
    if settings.as_json:
        settings.output.json(found)
        return
    if found:
        settings.output.show(_table(found))
    else:
        settings.output.note("No schedules.")
    if once:
        settings.output.note(
            f"{once:,} task{'' if once == 1 else 's'} to run once, at a time: "
            f"taskiq-flow list --status PENDING --tag {ONCE_TAG}"
        )


def _table(found: Sequence[ScheduleView]) -> Table:
    columns = ("schedule", "pipeline", "rule", "next", "last", "runs", "")
    made = table(*columns, right=("runs",), long=("pipeline", "rule", ""))
    for each in found:
        made.add_line(
            cell(each.schedule_id, "bold", 40),
            cell(each.pipeline, most=30),
            cell(each.trigger, most=40),
            cell("paused", "yellow") if each.is_paused else cell(ago(each.next_at)),
            cell(ago(each.last_at), "bright_black"),
            cell(f"{each.runs:,}"),
            cell(each.note, "yellow"),
        )
    return made


@command
async def pause(settings: Settings, schedule: ScheduleArgument) -> None:
    """Let a schedule start nothing until it is resumed."""
    async with settings.operations() as operations:
        result = await operations.pause_schedule(schedule, actor=actor())
    _tell(settings, result, f"{schedule} is paused.")


@command
async def resume(settings: Settings, schedule: ScheduleArgument) -> None:
    """Let a paused schedule go on."""
    async with settings.operations() as operations:
        result = await operations.resume_schedule(schedule, actor=actor())
    _tell(settings, result, f"{schedule} goes on.")


@command
async def run_now(
    settings: Settings, schedule: ScheduleArgument, broker: BrokerOption = None
) -> None:
    """Start what a schedule starts now, beside its times."""
    async with acting(settings, broker) as operations:
        result = await operations.run_schedule(schedule, actor=actor())
    _tell(settings, result, result.run_id or "")


@command
async def remove(settings: Settings, schedule: ScheduleArgument, yes: YesOption = False) -> Exit:
    """Remove a schedule; runs that it has started go on."""
    if not yes and not confirmed(settings, f"Remove schedule {schedule} for good?"):
        return Exit.REFUSED
    async with settings.operations() as operations:
        result = await operations.remove_schedule(schedule, actor=actor())
    _tell(settings, result, f"{schedule} is removed.")
    return Exit.OK


def _tell(settings: Settings, result: ActionResult, sentence: str) -> None:
    if settings.as_json:
        settings.output.json(result)
        return
    settings.output.line(sentence)
    if result.note:
        settings.output.note(result.note)


schedules = typer.Typer(
    name="schedules",
    help="Schedules: what starts when; pause, hurry or remove them.",
    no_args_is_help=True,
    add_completion=False,
)
schedules.command("list")(list_schedules)
schedules.command("pause")(pause)
schedules.command("resume")(resume)
schedules.command("run")(run_now)
schedules.command("remove")(remove)
