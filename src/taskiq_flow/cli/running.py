"""``taskiq-flow run``: starts a pipeline here or on workers, and shows it until it has ended."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from taskiq import AsyncBroker, InMemoryBroker, TaskiqResult

from taskiq_flow.cli.common import Settings, actor, command, without_password
from taskiq_flow.cli.exits import Exit
from taskiq_flow.cli.hosting import embed, prepare_local, runtime_of, start_broker, take_over
from taskiq_flow.cli.inputs import Inputs, read_inputs
from taskiq_flow.cli.interrupts import Choice, Interrupts
from taskiq_flow.cli.output import pretty
from taskiq_flow.cli.targets import load_broker, load_pipeline
from taskiq_flow.codec import encode
from taskiq_flow.display import RunEye, follow, make_screen
from taskiq_flow.engine.client import RunClient
from taskiq_flow.exceptions import BadInputError, PipelineError
from taskiq_flow.model.records import RunStatus
from taskiq_flow.operations.lookup import Lookup
from taskiq_flow.pipeline.base import BasePipeline
from taskiq_flow.task import PipelineTask

SHOWN_LINES = 60
"""Of a longer result a terminal shows so many lines."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is worked on, and what is said of that."""

    target: str
    pipeline: BasePipeline
    broker: AsyncBroker
    settings: Settings
    workers: str | None = None

    @property
    def is_here(self) -> bool:
        return isinstance(self.broker, InMemoryBroker)

    @property
    def client(self) -> RunClient:
        return RunClient(runtime_of(self.broker))

    @property
    def store_url(self) -> str:
        return self.client.store.url

    @property
    def is_kept(self) -> bool:
        """Whether runs outlive this process."""
        return not self.store_url.startswith("memory:")

    def command(self, name: str, *words: str) -> str:
        """A command about a run that can be typed as it is; a password is left to be filled in."""
        line = ["taskiq-flow", name, *words]
        if self.settings.store is not None:
            has_password = "@" in self.settings.store
            line += ["--store", "…" if has_password else self.settings.store]
        if self.settings.namespace is not None:
            line += ["--namespace", self.settings.namespace]
        return " ".join(word if word == "…" else shlex.quote(word) for word in line)

    def going_on(self, run_id: str) -> str:
        """The command that goes on with a run."""
        broker = ["--broker", self.workers] if self.workers else []
        return self.command("run", self.target, *broker, "--continue", run_id[-8:])


@command
async def run(  # noqa: PLR0913 - each is an option of the command
    settings: Settings,
    target: Annotated[
        str,
        typer.Argument(
            help="module:pipeline, or file.py:pipeline; a function that returns one will do.",
            metavar="MODULE:PIPELINE",
            show_default=False,
        ),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="NAME=VALUE",
            help="An input by name, as often as needed; the value is JSON, or else text.",
            show_default=False,
        ),
    ] = None,
    args: Annotated[
        list[str] | None,
        typer.Option(
            "--arg",
            "-a",
            metavar="VALUE",
            help="An input by place, such as the value that a chain begins with.",
            show_default=False,
        ),
    ] = None,
    input_json: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="All inputs as a JSON object (or one value): a file, - for standard input, or "
            "the JSON itself.",
            show_default=False,
        ),
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:BROKER",
            help="Let the workers of this broker run it. Without it, this process does.",
            show_default=False,
        ),
    ] = None,
    continue_: Annotated[
        str | None,
        typer.Option(
            "--continue",
            metavar="ID",
            help="Go on with a run that was interrupted; of one that failed, try again what did "
            "not complete.",
            show_default=False,
        ),
    ] = None,
    pipeline_id: Annotated[
        str | None,
        typer.Option(
            "--id", help="A name for the run; two of one name never go on.", show_default=False
        ),
    ] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", help="A word to find it by.", show_default=False)
    ] = None,
    timeout: Annotated[  # noqa: ASYNC109 - the run's own deadline, kept in its record
        float | None,
        typer.Option(help="Seconds after which the run fails.", min=0.001, show_default=False),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="With --broker: do not wait for the end.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> Exit:
    """Run a pipeline: in this process with live progress, or with --broker on workers.

    The result goes to standard output, everything else to standard error. Runs of this process
    are kept in a file of this directory (or in --store): one that was killed goes on with
    --continue.
    """
    given = read_inputs(inputs or (), args or (), input_json)
    _check(detach=detach, broker=broker, continues=continue_ is not None, given=given)
    place = _place(settings, target, broker)
    options = place.pipeline
    if pipeline_id is not None:
        options.with_id(pipeline_id)
    if timeout is not None:
        options.with_timeout(timeout)
    options.with_tags(*(tags or ()))
    interrupts = Interrupts()
    async with start_broker(place.broker):
        with interrupts.heard():
            task = (
                await _start(place, given) if continue_ is None else await _go_on(place, continue_)
            )
            if detach:
                return _detached(place, task)
            if not quiet:
                _announce(place, task, is_new=continue_ is None)
            ended = await _watched(place, task, interrupts, quiet=quiet)
    if isinstance(ended, Exit):
        return ended
    return await _tell(place, task, ended)


def _check(*, detach: bool, broker: str | None, continues: bool, given: Inputs) -> None:
    if detach and broker is None:
        raise BadInputError(
            "--detach", "", "needs --broker: without workers this process runs the pipeline"
        )
    if continues and (given.args or given.kwargs):
        raise BadInputError("--continue", "", "takes no inputs: a run keeps those it began with")


def _place(settings: Settings, target: str, workers: str | None) -> Place:
    if workers is None:
        prepare_local()
        pipeline = load_pipeline(target)
        return Place(target, pipeline, embed(pipeline.broker, settings.store), settings)
    broker = load_broker(workers)
    pipeline = load_pipeline(target, broker)
    if pipeline.broker is not broker:
        take_over(pipeline.broker, broker)
    return Place(target, pipeline, broker, settings, workers)


async def _start(place: Place, given: Inputs) -> PipelineTask[Any]:
    kiq: Any = getattr(place.pipeline, "kiq")  # noqa: B009 - each kind has its own signature
    return await kiq(*given.args, **given.kwargs)


async def _go_on(place: Place, ref: str) -> PipelineTask[Any]:
    """A handle on an interrupted run, or on the new run of one that failed."""
    if not place.is_kept:
        raise BadInputError("--continue", ref, "needs a store that keeps runs: give --store")
    client = place.client
    found = await Lookup(client.store).run(ref)
    task = PipelineTask[Any](found.run_id, client)
    if found.status in (RunStatus.FAILED, RunStatus.CANCELLED):
        return await task.retry()
    return task


def _announce(place: Place, task: PipelineTask[Any], *, is_new: bool) -> None:
    run_id = task.run_id
    if not place.is_here:
        where = f"on the workers of {place.workers}"
    elif place.is_kept:
        where = f"here, kept in {without_password(place.store_url)}"
    else:
        where = "here, kept in memory: gone with this process; give --store to keep it"
    verb = "run" if is_new else "going on with run"
    place.settings.output.note(f"{verb} {run_id} {where}")
    if place.is_here and place.is_kept:
        place.settings.output.note(f"killed? it goes on with: {place.going_on(run_id)}")


def _detached(place: Place, task: PipelineTask[Any]) -> Exit:
    output, run_id = place.settings.output, task.run_id
    if output.as_json:
        output.json({"run_id": run_id, "pipeline_id": place.pipeline.pipeline_id})
    else:
        output.line(run_id)
        output.note(f"watch it: {place.command('watch', run_id[-8:])}")
    return Exit.OK


async def _watched(
    place: Place, task: PipelineTask[Any], interrupts: Interrupts, *, quiet: bool
) -> TaskiqResult[Any] | Exit:
    """Show a run until it has ended, or somebody wants to leave it."""
    ended = asyncio.ensure_future(task.wait_result(raise_on_error=False))
    while True:
        heard = asyncio.ensure_future(interrupts.next())
        async with _shown(place, task, quiet=quiet):
            await asyncio.wait({ended, heard}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            heard.cancel()
            return ended.result()
        if heard.result() is signal.SIGTERM:
            return await _left(place, task, ended, Exit.TERMINATED)
        question = f"Interrupted. What should become of run {task.run_id}?"
        choice = await interrupts.ask(place.settings.output, question)
        if choice is Choice.CANCEL:
            await task.cancel(f"cancelled by {actor()}")
            await asyncio.wait({ended}, timeout=5)
            place.settings.output.note(f"Run {task.run_id} is cancelled.")
            return Exit.INTERRUPTED
        if choice is Choice.KEEP:
            return await _left(place, task, ended, Exit.INTERRUPTED)


async def _left(
    place: Place, task: PipelineTask[Any], ended: asyncio.Future[TaskiqResult[Any]], code: Exit
) -> Exit:
    """Stop watching; say what becomes of the run."""
    ended.cancel()
    output, run_id = place.settings.output, task.run_id
    if not place.is_here:
        output.note(f"Run {run_id} goes on at the workers.")
        output.note(f"watch it: {place.command('watch', run_id[-8:])}")
        output.note(f"cancel it: {place.command('cancel', run_id[-8:])}")
    elif place.is_kept:
        output.note(f"Stopped. Run {run_id} is kept with all that is done.")
        output.note(f"go on: {place.going_on(run_id)}")
        output.note(f"give it up: {place.command('cancel', run_id[-8:])}")
    else:
        await task.cancel(f"interrupted by {actor()}")
        output.note(f"Stopped. Run {run_id} was kept in memory, and is gone.")
    return code


@asynccontextmanager
async def _shown(place: Place, task: PipelineTask[Any], *, quiet: bool) -> AsyncGenerator[None]:
    if quiet:
        yield
        return
    screen = make_screen(place.settings.output.err)
    eye = RunEye(place.client.store, task.run_id, place.client.why_stuck)
    screen.begin()
    following = asyncio.create_task(follow(eye, screen))
    try:
        yield
        await asyncio.wait({following}, timeout=0.05)
    finally:
        following.cancel()
        await asyncio.wait({following})
        try:
            screen.show(await eye.look())
        finally:
            screen.end()


async def _tell(place: Place, task: PipelineTask[Any], result: TaskiqResult[Any]) -> Exit:
    output = place.settings.output
    error = result.error
    if output.as_json:
        output.json(_as_record(place, task, result))
    elif error is None:
        _write_result(place, result.return_value)
    else:
        output.note(f"error: {error}", style="red")
        output.note(f"look: {place.command('show', task.run_id[-8:])}")
        output.note(f"try again what did not complete: {place.going_on(task.run_id)}")
    return Exit.OK if error is None else Exit.RUN_FAILED


def _as_record(place: Place, task: PipelineTask[Any], result: TaskiqResult[Any]) -> dict[str, Any]:
    error = result.error
    cause = None if error is None else error.__cause__ or error
    cancelled = type(error).__name__ == "PipelineCancelledError"
    status = "COMPLETED" if error is None else "CANCELLED" if cancelled else "FAILED"
    return {
        "run_id": task.run_id,
        "pipeline_id": place.pipeline.pipeline_id,
        "status": status,
        "duration_ms": round(result.execution_time * 1000, 3),
        "result": _stored_form(result.return_value),
        "error": None
        if error is None
        else {
            "type": getattr(cause, "type_name", type(cause).__name__),
            "message": str(error),
            "step": error.failed_step if isinstance(error, PipelineError) else None,
        },
    }


def _write_result(place: Place, value: Any) -> None:
    """A text as it is, any other value as JSON; on a terminal not all of a long one."""
    output = place.settings.output
    if value is None:
        return
    text = value if isinstance(value, str) else pretty(_stored_form(value))
    lines = text.splitlines()
    shown = lines[:SHOWN_LINES] if output.out.is_terminal else lines
    output.text("\n".join(shown))
    if len(shown) < len(lines):
        output.note(f"… {len(lines) - len(shown):,} more lines; --json writes all")


def _stored_form(value: Any) -> Any:
    """The JSON that the store has of a value, see docs/reference/values.md."""
    return json.loads(encode(value, where="the result"))
