"""Run a command beside private Redis, PostgreSQL, RabbitMQ and NATS servers, and a Chromium.

    python tools/servers.py [--only redis,postgres] [--no-install] -- pytest tests/integration

The command finds the servers in TASKIQ_FLOW_TEST_REDIS_URL, ..._POSTGRES_URL, ..._RABBITMQ_URL and
..._NATS_URL; a variable that is set beforehand is left as it is, and no such server is started.
What is not on the machine is installed: from Debian when this runs as root, else as a wheel. A
server that cannot be had is named, and its tests skip themselves; with CI=true that is a failure.
The browser is only made sure of: its tests find it on the path.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

# Run as a script, Python looks for modules beside the file and not in the repository's root.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.serving.binaries import NAMES, Program, ServerUnavailableError, locate, obtain
from tools.serving.keeper import signal_tree
from tools.serving.private import (
    SERVERS,
    NatsServer,
    PostgresServer,
    RabbitServer,
    RedisServer,
    Server,
    ServerStartError,
)

__all__ = [
    "NatsServer",
    "PostgresServer",
    "RabbitServer",
    "RedisServer",
    "Server",
    "ServerStartError",
    "ServerUnavailableError",
    "variable",
]


class Interrupted(BaseException):
    """A signal asked this process to end."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


@dataclass(frozen=True)
class Row:
    """One line of the summary."""

    name: str
    version: str = "-"
    origin: str = "-"
    where: str = ""
    problem: str = ""


def variable(name: str) -> str:
    """Name the environment variable that carries a server's address."""
    return f"TASKIQ_FLOW_TEST_{name.upper()}_URL"


def main(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    running: list[Server] = []
    try:
        rows = _start(options.only, may_install=options.install, running=running)
        _show(rows)
        missing = [row.name for row in rows if row.problem]
        if missing and _in_ci():
            print(f"CI=true and no {', '.join(missing)}: that is a failure.", flush=True)
            return 3
        urls = {variable(server.name): server.url for server in running}
        return _run(options.command, {**os.environ, **urls}) if options.command else 0
    except Interrupted as interrupted:
        return 128 + interrupted.number
    finally:
        _ignore_further_signals()
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda server: server.close(), running))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="servers.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", type=_names, default=list(NAMES), help=f"some of {','.join(NAMES)}"
    )
    parser.add_argument("--no-install", dest="install", action="store_false")
    parser.add_argument("command", nargs="*", help="what to run, after --")
    own, command = list(arguments), []
    if "--" in own:
        at = own.index("--")
        own, command = own[:at], own[at + 1 :]
    options = parser.parse_args(own)
    options.command = options.command + command
    return options


def _names(value: str) -> list[str]:
    names = [name for name in value.split(",") if name]
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        message = f"unknown: {', '.join(unknown)}; there are {', '.join(NAMES)}"
        raise argparse.ArgumentTypeError(message)
    return names


def _start(names: Sequence[str], *, may_install: bool, running: list[Server]) -> list[Row]:
    """Start the servers side by side; those that run are appended to `running`."""
    given = {name: os.environ[variable(name)] for name in names if os.environ.get(variable(name))}
    wanted = [name for name in names if name not in given]
    programs = obtain(wanted, _say) if may_install else _located(wanted)

    def start(name: str) -> Row:
        program = programs[name]
        if isinstance(program, str):
            return Row(name, problem=program)
        if name not in SERVERS:
            return Row(name, program.version, program.origin, str(program.executable))
        server = SERVERS[name](program)
        running.append(server)
        try:
            server.start()
        except (ServerStartError, ServerUnavailableError, RuntimeError, OSError) as error:
            running.remove(server)
            server.close()
            return Row(name, program.version, program.origin, problem=str(error))
        return Row(name, program.version, program.origin, f"port {server.port}")

    with ThreadPoolExecutor(max_workers=max(1, len(wanted))) as threads:
        started = dict(zip(wanted, threads.map(start, wanted), strict=True))
    return [
        started.get(name) or Row(name, origin="environment", where=given[name]) for name in names
    ]


def _located(names: Sequence[str]) -> dict[str, Program | str]:
    return {name: locate(name) or "not installed, and --no-install was given" for name in names}


def _show(rows: Sequence[Row]) -> None:
    table = [("server", "version", "from", "where")]
    table += [
        (
            row.name,
            row.version,
            row.origin,
            f"NOT HERE: {row.problem}" if row.problem else row.where,
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in table) for column in range(3)]
    for line in table:
        cells = [cell.ljust(width) for cell, width in zip(line[:3], widths, strict=True)]
        print("  ".join([*cells, line[3]]), flush=True)


def _run(command: Sequence[str], env: dict[str, str]) -> int:
    try:
        process = subprocess.Popen(command, env=env)
    except OSError as error:
        print(f"{shlex.join(command)} could not be started: {error}", flush=True)
        return 127
    try:
        code = process.wait()
    except Interrupted as interrupted:
        # A Ctrl-C has reached the command too, from the terminal; other signals reach only us.
        if interrupted.number != signal.SIGINT:
            process.terminate()
        _ignore_further_signals()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            signal_tree(process.pid, signal.SIGKILL)
            process.wait()
        raise
    return 128 - code if code < 0 else code


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(number)


def _ignore_further_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
