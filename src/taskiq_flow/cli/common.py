"""What every command has: its store, its output, its errors as one sentence and an exit code."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from pydantic import ValidationError

from taskiq_flow.cli.exits import Exit, exit_of
from taskiq_flow.cli.output import Output
from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.display import one_line
from taskiq_flow.exceptions import (
    ConfigurationError,
    NoStoreGivenError,
    NoSuchFileError,
    RunNotFoundError,
)
from taskiq_flow.operations import Operations

LOCAL_FILE = "taskiq-flow.sqlite"
"""Where runs are kept that were started in this directory without another store."""

STORE_VARIABLE, NAMESPACE_VARIABLE = "TASKIQ_FLOW_STORE_URL", "TASKIQ_FLOW_NAMESPACE"

SILENT_TICKS, TICK_SECONDS = 4, 0.5
"""After so long without an answer of the store somebody who waits is told of it.

Counted in ticks: loading a database's client takes the event loop a second, and is one of them.
"""

_PANEL = "Everywhere"
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help=f"Where runs live, a URL. Default: {STORE_VARIABLE}, else {LOCAL_FILE} here.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
NamespaceOption = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        help=f"Whose runs. Default: {NAMESPACE_VARIABLE}, else 'default'.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Write JSON instead of words.", rich_help_panel=_PANEL),
]
DebugOption = Annotated[
    bool,
    typer.Option("--debug", help="Show errors with their traceback.", rich_help_panel=_PANEL),
]


@dataclass(frozen=True, slots=True)
class Settings:
    """What was said to the command as such."""

    store: str | None
    namespace: str | None
    debug: bool
    output: Output

    @property
    def as_json(self) -> bool:
        return self.output.as_json

    def export(self) -> None:
        """Let all that is imported from now on, and child processes, have the same settings."""
        if self.store is not None:
            os.environ[STORE_VARIABLE] = self.store
        if self.namespace is not None:
            os.environ[NAMESPACE_VARIABLE] = self.namespace

    @property
    def store_url(self) -> str:
        """The store that was named, or the file in this directory.

        Raises:
            NoStoreGivenError: There is neither.
        """
        found = self.store or TaskiqFlowConfig().store_url
        if found is None and Path(LOCAL_FILE).exists():
            found = f"sqlite:///{LOCAL_FILE}"
        if found is None:
            raise NoStoreGivenError
        if found.startswith("memory:"):
            raise ConfigurationError(
                "memory:// lives and dies with its process, so no other process can look into it; "
                "give --store the URL of a store that is shared."
            )
        return found

    @property
    def place(self) -> str:
        """The store and namespace that are looked at, for people."""
        namespace = self.namespace or TaskiqFlowConfig().namespace
        return f"{without_password(self.store_url)}, namespace {namespace!r}"

    @asynccontextmanager
    async def operations(self, *, may_be_new: bool = False) -> AsyncGenerator[Operations]:
        """What can be seen and done in the store; whoever waits for runs may come before it.

        Raises:
            NoSuchFileError: It is a file that nobody has made; looking would make an empty one.
            StoreUnavailableError: It does not answer.
        """
        if not may_be_new:
            self._expect_file()
        told = asyncio.create_task(self._say_whom_we_wait_for())
        try:
            opened = await Operations.open(self.store_url, namespace=self.namespace)
        finally:
            told.cancel()
        try:
            yield opened
        finally:
            await opened.close()

    def _expect_file(self) -> None:
        scheme, _, place = self.store_url.partition(":///")
        path = place.partition("?")[0]
        if scheme.startswith("sqlite") and path and not Path(path).exists():
            raise NoSuchFileError(path)

    async def _say_whom_we_wait_for(self) -> None:
        for _ in range(SILENT_TICKS):
            await asyncio.sleep(TICK_SECONDS)
        self.output.note(
            f"waiting for {without_password(self.store_url)}, which does not answer yet"
        )


def without_password(url: str, text: str | None = None) -> str:
    """A URL, or a text with it in it, as it may be shown: without who logs in there."""
    login, at, place = url.rpartition("@")
    text = url if text is None else text
    return text.replace(url, f"{login.partition('://')[0]}://…@{place}") if at else text


ACTOR = "command line"
"""Who the audit says it was, with the name of the account."""


def actor() -> str:
    """Who gives commands here."""
    name = os.environ.get("USER") or os.environ.get("LOGNAME") or "somebody"
    return f"{ACTOR} ({one_line(name, 40)})"


def command(
    body: Callable[..., Awaitable[Exit | None]],
) -> Callable[..., None]:
    """Make an async function a command; its first parameter receives the `Settings`.

    The options of all commands are added to its own.
    """
    own = [*inspect.signature(body).parameters.values()][1:]
    hints = get_type_hints(body, include_extras=True)
    added = {
        "store": (StoreOption, None),
        "namespace": (NamespaceOption, None),
        "as_json": (JsonOption, False),
        "debug": (DebugOption, False),
    }

    @wraps(body)
    def run(**given: Any) -> None:
        debug = given.pop("debug")
        settings = Settings(
            store=given.pop("store"),
            namespace=given.pop("namespace"),
            debug=debug,
            output=Output(as_json=given.pop("as_json")),
        )
        raise typer.Exit(_guarded(settings, lambda: asyncio.run(_awaited(body(settings, **given)))))

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        *(p.replace(annotation=hints[p.name], kind=keyword) for p in own),
        *(
            inspect.Parameter(name, keyword, default=default, annotation=annotation)
            for name, (annotation, default) in added.items()
        ),
    ]
    made: Any = run
    made.__signature__ = inspect.Signature(parameters)
    made.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


async def _awaited(body: Awaitable[Exit | None]) -> Exit:
    return await body or Exit.OK


def _guarded(settings: Settings, work: Callable[[], Exit]) -> Exit:
    """Run a command; whatever it raises becomes one sentence and an exit code."""
    _quiet_logs(settings)
    try:
        settings.export()
        return work()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader has gone, as `head` does. Nothing is to be flushed at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except (typer.Exit, typer.Abort):
        raise
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in ("TASKIQ_FLOW", *first["loc"])).upper()
        return _fail(settings, ConfigurationError(f"{name} cannot be used: {first['msg']}."))
    except Exception as error:  # noqa: BLE001 - the border of the program: nobody is above
        return _fail(settings, error)


def _fail(settings: Settings, error: Exception) -> Exit:
    code = exit_of(error)
    if settings.debug:
        settings.output.err.print_exception(suppress=[typer, asyncio])
    message = str(error) if code is not Exit.BUG else f"{type(error).__name__}: {error}"
    if code is Exit.BUG and not settings.debug:
        message = f"{message} (--debug shows where)"
    settings.output.error(message, kind=type(error).__name__, code=code)
    if isinstance(error, RunNotFoundError):
        settings.output.note(f"looked in {settings.place}")
    return code


def _quiet_logs(settings: Settings) -> None:
    """Warnings are lines on standard error, harmless and above what is drawn there."""
    for name in ("taskiq", "taskiq_flow"):
        log = logging.getLogger(name)
        if not log.handlers:
            log.addHandler(_LogLines(settings.output))
            log.setLevel(logging.DEBUG if settings.debug else logging.WARNING)
            log.propagate = False
    if not settings.debug:
        # Every failed try's traceback, and every refusal: both are said by the command itself.
        logging.getLogger("taskiq.receiver").setLevel(logging.CRITICAL)
        logging.getLogger("taskiq_flow.audit").setLevel(logging.CRITICAL)


class _LogLines(logging.Handler):
    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else "bright_black"
        self._output.note(f"{record.levelname.lower()}: {record.getMessage()}", style)
