"""Commands that change something: ``cancel``, ``retry``, ``fork``, ``send-event``, ``purge``."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from taskiq import AsyncBroker

from taskiq_flow.cli.arguments import BrokerOption, RunArgument, YesOption, read_span
from taskiq_flow.cli.common import Settings, actor, command
from taskiq_flow.cli.exits import Exit
from taskiq_flow.cli.hosting import runtime_of, start_broker
from taskiq_flow.cli.inputs import read_inputs, read_json
from taskiq_flow.cli.targets import load_broker
from taskiq_flow.exceptions import BadInputError
from taskiq_flow.operations import ActionResult, Operations

OutputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        metavar="NAME=VALUE",
        help="Instead of what a step gave; the value is JSON, or else text.",
        show_default=False,
    ),
]


@asynccontextmanager
async def acting(
    settings: Settings, broker: str | None, *, may_be_new: bool = False
) -> AsyncGenerator[Operations]:
    """Operations that can send messages where a broker is named."""
    if broker is None:
        async with settings.operations(may_be_new=may_be_new) as operations:
            yield operations
        return
    loaded: AsyncBroker = load_broker(broker)
    runtime = runtime_of(loaded)
    async with start_broker(loaded):
        operations = await Operations.open(runtime.store, broker=loaded)
        try:
            yield operations
        finally:
            await operations.close()


@command
async def cancel(
    settings: Settings,
    run: RunArgument,
    reason: Annotated[
        str | None, typer.Option(help="Kept with the run.", show_default=False)
    ] = None,
    broker: BrokerOption = None,
) -> Exit:
    """End a run as CANCELLED; running code hears of it within 2 s."""
    async with acting(settings, broker) as operations:
        result = await operations.cancel(run, actor=actor(), reason=reason)
    said = "is cancelled" if result.changed else "is left as it is"
    _tell(settings, result, f"Run {result.run_id} {said}.")
    return Exit.OK if result.changed else Exit.REFUSED


@command
async def retry(
    settings: Settings,
    run: RunArgument,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Run everything again, with the same inputs.")
    ] = False,
    broker: BrokerOption = None,
) -> None:
    """Run again what did not complete, in a new run that keeps what is done."""
    async with acting(settings, broker) as operations:
        result = await operations.retry(run, actor=actor(), from_start=from_start)
        note = await _without_worker(operations, result)
    _tell(settings, result, f"{result.run_id}", note)


@command
async def fork(
    settings: Settings,
    run: RunArgument,
    from_step: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="STEP", help="This step and all that need it run again.",
            show_default=False,
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input", "-i", metavar="NAME=VALUE",
            help="Instead of an input of the run; the value is JSON, or else text.",
            show_default=False,
        ),
    ] = None,
    outputs: OutputOption = None,
    pipeline_id: Annotated[
        str | None, typer.Option("--id", help="A name for the new run.", show_default=False)
    ] = None,
    broker: BrokerOption = None,
) -> None:  # fmt: skip
    """Make a new run of an ended one, which runs again from a step on, or with other values."""
    changed = read_inputs(inputs or (), (), None).kwargs
    replaced = read_inputs(outputs or (), (), None, option="--output").kwargs
    async with acting(settings, broker) as operations:
        result = await operations.fork(
            run,
            actor=actor(),
            from_step=from_step,
            inputs=changed,
            outputs=replaced,
            pipeline_id=pipeline_id,
        )
        note = await _without_worker(operations, result)
    _tell(settings, result, f"{result.run_id}", note)


@command
async def send_event(
    settings: Settings,
    run: RunArgument,
    name: Annotated[str, typer.Argument(help="The event's name.", show_default=False)],
    payload: Annotated[
        str | None, typer.Argument(help="What it carries, as JSON.", show_default=False)
    ] = None,
    broker: BrokerOption = None,
) -> None:
    """Deliver an event to a run that waits for it, or will."""
    value = None if payload is None else read_json("payload", payload)
    async with acting(settings, broker) as operations:
        result = await operations.send_event(run, name, value, actor=actor())
    _tell(settings, result, f"Event {name!r} is delivered to run {result.run_id}.")


@command
async def purge(
    settings: Settings,
    older_than: Annotated[
        str, typer.Option(help="Runs that ended so long ago: 12h, 30d, 8w.", show_default=False)
    ],
    yes: YesOption = False,
) -> Exit:
    """Remove ended runs with their values, logs and events; runs that go on always stay."""
    before = datetime.now(UTC) - read_span("--older-than", older_than)
    if not yes and not confirmed(
        settings, f"Remove all runs that ended before {before.astimezone():%Y-%m-%d %H:%M}?"
    ):
        return Exit.REFUSED
    async with settings.operations() as operations:
        removed = await operations.purge(before=before, actor=actor())
    if settings.as_json:
        settings.output.json({"removed": removed})
    else:
        settings.output.line(f"{removed:,} run{'' if removed == 1 else 's'} removed.")
    return Exit.OK


def confirmed(settings: Settings, question: str) -> bool:
    """Ask on a terminal.

    Raises:
        BadInputError: There is nobody to ask.
    """
    if not settings.output.err.is_terminal:
        raise BadInputError("--yes", "", "is needed where nobody can be asked")
    return typer.confirm(question, err=True)


async def _without_worker(operations: Operations, result: ActionResult) -> str | None:
    """Say how a run begins that only a process like the one before could run."""
    if result.run_id is None:
        return result.note
    run = await operations.run(result.run_id)
    is_local = any(step.queue == "local" for step in run.steps)
    if not is_local:
        return result.note
    return (
        f"It was made in one process, without workers; go on with: "
        f"taskiq-flow run MODULE:PIPELINE --continue {result.run_id[-8:]}"
    )


def _tell(settings: Settings, result: ActionResult, sentence: str, note: str | None = None) -> None:
    if settings.as_json:
        settings.output.json(result)
        return
    settings.output.line(sentence)
    said = note or result.note
    if said:
        settings.output.note(said)
