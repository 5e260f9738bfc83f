"""Servers of the application for tests: started, killed, asked over HTTP."""

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tests.support.tree import ROOT


class Server:
    """One uvicorn process with the application."""

    def __init__(self, directory: Path, tasks: str) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        env = {
            **os.environ,
            "JOURNAL": str(directory / "journal"),
            "TASKS": tasks,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}",
            "TASKIQ_FLOW_LEASE_SECONDS": "2",
            "TASKIQ_FLOW_KICK_SECONDS": "2",
        }
        command = [sys.executable, "-m", "uvicorn", "--log-level", "warning", "--port"]
        command += [str(self.port), "tests.integration.fastapi.app:app"]
        self._log = (directory / f"server-{self.port}.log").open("wb")
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=self._log, stderr=subprocess.STDOUT
        )

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(how)
        self.process.wait(30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        self._log.close()

    async def is_up(self) -> None:
        """Wait until it answers."""
        async with asyncio.timeout(60), httpx.AsyncClient() as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    await client.get(f"{self.url}/nothing")
                    return
                await asyncio.sleep(0.05)


@asynccontextmanager
async def serving(directory: Path, tasks: str) -> AsyncIterator[Server]:
    server = Server(directory, tasks)
    try:
        await server.is_up()
        yield server
    finally:
        server.close()


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


async def post_many(
    urls: list[str], path: str, count: int, answered: dict[int, str], *, first: int = 0
) -> None:
    """Send requests one after another in eight lanes, to each server in turn; note the answers.

    A server that dies takes the requests that it is answering with it.
    """

    async def lane(start: int) -> None:
        async with httpx.AsyncClient(timeout=60) as client:
            for number in range(start, count, 8):
                url = f"{urls[number % len(urls)]}/{path}/{number}"
                with contextlib.suppress(httpx.TransportError):
                    answer = await client.post(url)
                    if answer.status_code == 200:
                        answered[number] = answer.json()

    await asyncio.gather(*(lane(first + number) for number in range(8)))


def journal(directory: Path) -> list[str]:
    """What the tasks have written so far."""
    file = directory / "journal"
    return file.read_text().splitlines() if file.exists() else []


def statuses(file: Path) -> dict[str, str]:
    """The status of every stored task, read from the file itself."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return dict(connection.execute("SELECT run_id, status FROM taskiq_flow_run"))
