"""Puts the commands together; each is loaded when it is called, not when it is listed."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as version_of
from typing import Annotated, Any, NamedTuple

import typer
import typer.main
from typer.core import TyperCommand

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


class Entry(NamedTuple):
    """A line of the help, and where its command is: a function, or an app of further commands."""

    panel: str
    home: str
    summary: str


_RUN, _SEE, _STEER, _CARE = "Run", "See", "Steer", "Care"
COMMANDS = {
    "run": Entry(
        _RUN,
        "running:run",
        "Run a pipeline: in this process with live progress, or with --broker on workers.",
    ),
    "dag": Entry(
        _RUN, "drawing:dag", "Draw a pipeline before it runs, or a run with the state of its steps."
    ),
    "list": Entry(_SEE, "listing:list_runs", "List runs, the newest first."),
    "show": Entry(
        _SEE,
        "detail:show",
        "Show a run: status, steps, times, errors with traceback, values, parent and children.",
    ),
    "watch": Entry(
        _SEE,
        "watching:watch",
        "Watch a run live until it has ended; the exit code says how. Ctrl-C only stops watching.",
    ),
    "logs": Entry(
        _SEE,
        "detail:logs",
        "Show what steps wrote with their context's logger; with --json one object a line.",
    ),
    "workers": Entry(
        _SEE,
        "listing:workers",
        "List the live workers: which queues they serve, how many tasks they have.",
    ),
    "dashboard": Entry(
        _SEE,
        "dashboard:dashboard",
        "Serve the dashboard of a store; the address that is written logs its reader in.",
    ),
    "cancel": Entry(
        _STEER, "steering:cancel", "End a run as CANCELLED; running code hears of it within 2 s."
    ),
    "retry": Entry(
        _STEER,
        "steering:retry",
        "Run again what did not complete, in a new run that keeps what is done.",
    ),
    "fork": Entry(
        _STEER,
        "steering:fork",
        "Make a new run of an ended one, which runs again from a step on, or with other values.",
    ),
    "send-event": Entry(
        _STEER, "steering:send_event", "Deliver an event to a run that waits for it, or will."
    ),
    "dlq": Entry(_STEER, "letters:dlq", "Dead letters: failed runs, to be retried or removed."),
    "schedules": Entry(
        _STEER,
        "schedules:schedules",
        "Schedules: what starts when; pause, hurry or remove them.",
    ),
    "doctor": Entry(
        _CARE,
        "doctor:doctor",
        "Check store, broker, workers, versions and clocks, and say what is really guaranteed.",
    ),
    "purge": Entry(
        _CARE,
        "steering:purge",
        "Remove ended runs with their values, logs and events; runs that go on always stay.",
    ),
    "migrate": Entry(
        _CARE,
        "keeping:migrate",
        "Bring a store to this version's format; makes a new store ready too.",
    ),
}


class LoadedLater(TyperCommand):
    """Stands for a command in lists and in the help, and gives way to it when it is called."""

    def load(self) -> Any:
        """The command itself."""
        module, _, name = COMMANDS[self.name or ""].home.partition(":")
        body = getattr(import_module(f"taskiq_flow.cli.{module}"), name)
        if not isinstance(body, typer.Typer):
            alone = typer.Typer(add_completion=False)
            alone.command(self.name)(body)
            body = alone
        return typer.main.get_command(body)

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        return self.load().make_context(info_name, args, parent, **extra)


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


def _stands_in() -> None:
    """Called by nobody: `LoadedLater` calls the command."""


for _name, _entry in COMMANDS.items():
    app.command(_name, cls=LoadedLater, help=_entry.summary, rich_help_panel=_entry.panel)(
        _stands_in
    )
