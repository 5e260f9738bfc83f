"""``taskiq-flow dashboard``: serves the pages of a store until it is stopped."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import signal
import socket
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager, nullcontext
from enum import StrEnum
from importlib import import_module
from typing import Annotated, Any
from urllib.parse import urlencode

import typer
from rich.text import Text

from taskiq_flow.cli.arguments import BrokerOption
from taskiq_flow.cli.common import Settings, command
from taskiq_flow.cli.exits import Exit
from taskiq_flow.cli.interrupts import Interrupts
from taskiq_flow.cli.steering import acting
from taskiq_flow.config import AuthKind, TaskiqFlowConfig
from taskiq_flow.exceptions import BadInputError, MissingExtraError
from taskiq_flow.operations import Operations

PORT = 8765
STOP_SECONDS = 3.0
"""How long open pages may hold up the end."""


class Auth(StrEnum):
    """Which login the dashboard asks for."""

    AUTO = "auto"
    TOKEN = "token"  # noqa: S105 - a word
    PASSWORD = "password"  # noqa: S105 - a word
    API_KEY = "api_key"
    JWT = "jwt"
    OFF = "off"


@command
async def dashboard(
    settings: Settings,
    host: Annotated[str, typer.Option(help="Listen at this address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="At this port; 0 for any free one.", min=0)] = PORT,
    auth: Annotated[
        Auth,
        typer.Option(
            help="The login that must be set up in TASKIQ_FLOW_… variables; auto takes any, and "
            "makes a token where there is none; off asks nobody."
        ),
    ] = Auth.AUTO,
    title: Annotated[str, typer.Option(help="What the pages are called.")] = "Taskiq-Flow",
    broker: BrokerOption = None,
) -> Exit:
    """Serve the dashboard of a store; the address that is written logs its reader in."""
    interrupts = Interrupts()
    output = settings.output
    async with acting(settings, broker, may_be_new=True) as operations:
        security = make_security(auth)
        if auth is Auth.OFF and not _is_loopback(host):
            output.note(
                f"warning: everybody who reaches {host} may see and do everything", "yellow"
            )
        async with served(operations, security, host=host, port=port, title=title) as address:
            with interrupts.heard():
                if settings.as_json:
                    output.json({"url": address})
                else:
                    output.show(Text.assemble("dashboard: ", (address, "bold")))
                    output.note("Ctrl-C stops it.")
                heard = await interrupts.next()
    return Exit.OK if heard is signal.SIGINT else Exit.TERMINATED


def make_security(auth: Auth = Auth.AUTO) -> Any:
    """What the settings say, with this kind of login.

    Raises:
        SecurityOptionError: The settings for it are missing.
        MissingExtraError: The packages of the dashboard are not installed.
    """
    security = _module("taskiq_flow.security").Security
    if auth is Auth.OFF:
        return security.off()
    config = TaskiqFlowConfig()
    if auth is not Auth.AUTO:
        config = config.model_copy(update={"auth_provider": AuthKind(auth)})
    return security.from_config(config)


@asynccontextmanager
async def served(
    operations: Operations,
    security: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    title: str = "Taskiq-Flow",
) -> AsyncGenerator[str]:
    """Serve the dashboard in the block; gives the address, with the token that logs in.

    Raises:
        MissingExtraError: The packages of the dashboard are not installed.
        BadInputError: The address cannot be had.
    """
    uvicorn = _module("uvicorn")
    app = _module("taskiq_flow.dashboard").create_app(operations, security=security, title=title)
    door = _door(host, port)
    config = uvicorn.Config(
        app,
        log_level="error",
        lifespan="off",
        timeout_graceful_shutdown=int(STOP_SECONDS),
    )
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext  # they are for whoever serves this
    serving = asyncio.create_task(server.serve(sockets=[door]))
    try:
        yield _address(host, door.getsockname()[1], security.token)
    finally:
        server.should_exit = True
        await asyncio.wait({serving}, timeout=2 * STOP_SECONDS)
        door.close()


def _address(host: str, port: int, token: str | None) -> str:
    shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, host)  # noqa: S104 - is compared
    named = f"[{shown}]" if ":" in shown else shown
    return f"http://{named}:{port}/" + (f"?{urlencode({'token': token})}" if token else "")


def _door(host: str, port: int) -> socket.socket:
    try:
        family, kind, proto, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with ExitStack() as undo:
            door = undo.enter_context(socket.socket(family, kind, proto))
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind(place)
            door.listen()  # who comes before the server is ready waits
            undo.pop_all()
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            why = "another program does; give another port, or 0 for any that is free"
        raise BadInputError("--port", f"{host}:{port}", f"cannot be listened at: {why}") from error
    return door


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        package = error.name or name
        raise MissingExtraError("The dashboard", "dashboard", package) from error
