"""Puts the commands together."""

from __future__ import annotations

from importlib.metadata import version as version_of
from typing import Annotated

import typer

from taskiq_flow.cli import letters, schedules
from taskiq_flow.cli.dashboard import dashboard
from taskiq_flow.cli.detail import logs, show
from taskiq_flow.cli.doctor import doctor
from taskiq_flow.cli.drawing import dag
from taskiq_flow.cli.keeping import migrate
from taskiq_flow.cli.listing import list_runs, workers
from taskiq_flow.cli.running import run
from taskiq_flow.cli.steering import cancel, fork, purge, retry, send_event
from taskiq_flow.cli.watching import watch

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="taskiq-flow",
    help="Run pipelines, and see and steer runs anywhere.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=HELP_OPTIONS,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"taskiq-flow {version_of('taskiq-flow')}, taskiq {version_of('taskiq')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    del version


_RUN, _SEE, _STEER, _CARE = "Run", "See", "Steer", "Care"
for _panel, _name, _body in (
    (_RUN, "run", run),
    (_RUN, "dag", dag),
    (_SEE, "list", list_runs),
    (_SEE, "show", show),
    (_SEE, "watch", watch),
    (_SEE, "logs", logs),
    (_SEE, "workers", workers),
    (_SEE, "dashboard", dashboard),
    (_STEER, "cancel", cancel),
    (_STEER, "retry", retry),
    (_STEER, "fork", fork),
    (_STEER, "send-event", send_event),
    (_CARE, "doctor", doctor),
    (_CARE, "purge", purge),
    (_CARE, "migrate", migrate),
):
    app.command(_name, rich_help_panel=_panel)(_body)

_dlq = typer.Typer(
    help="Dead letters: failed runs, to be retried or removed.",
    no_args_is_help=True,
    context_settings=HELP_OPTIONS,
)
_dlq.command("list")(letters.list_letters)
_dlq.command("replay")(letters.replay)
_dlq.command("delete")(letters.delete)
app.add_typer(_dlq, name="dlq", rich_help_panel=_STEER)

_schedules = typer.Typer(
    help="Schedules: what starts when; pause, hurry or remove them.",
    no_args_is_help=True,
    context_settings=HELP_OPTIONS,
)
_schedules.command("list")(schedules.list_schedules)
_schedules.command("pause")(schedules.pause)
_schedules.command("resume")(schedules.resume)
_schedules.command("run")(schedules.run_now)
_schedules.command("remove")(schedules.remove)
app.add_typer(_schedules, name="schedules", rich_help_panel=_STEER)
