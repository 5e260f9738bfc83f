"""Servers of the application for tests: started, killed, asked over HTTP."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from taskiq_flow.stores.base import RunStore, StoreOptions
from taskiq_flow.stores.factory import make_store
from tests.support.tree import ROOT


class Server:
    """One uvicorn process with the application."""

    def __init__(self, directory: Path, tasks: str) -> None:
        env = {
            **os.environ,
            "JOURNAL": str(directory / "journal"),
            "TASKS": tasks,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}",
            "TASKIQ_FLOW_LEASE_SECONDS": "2",
            "TASKIQ_FLOW_KICK_SECONDS": "2",
        }
        # Bound here: one that was only looked for may be taken by the time the server has started.
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port, fd = listening.getsockname()[1], listening.fileno()
            self.url = f"http://127.0.0.1:{port}"
            command = [sys.executable, "-m", "uvicorn", "--log-level", "warning", "--fd", str(fd)]
            self._log = (directory / f"server-{port}.log").open("w+b")
            self.process = subprocess.Popen(
                [*command, "tests.integration.fastapi.app:served"],
                cwd=ROOT,
                env=env,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                pass_fds=[fd],
            )

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(how)
        self.process.wait(30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        self._log.close()

    async def is_up(self) -> None:
        """Wait until it answers; until it does, the connection waits at its port."""
        async with httpx.AsyncClient(timeout=100) as client:
            try:
                await client.get(f"{self.url}/nothing")
            except httpx.TransportError as error:
                self._log.seek(0)
                raise AssertionError(f"no server: {self._log.read().decode()}") from error


@asynccontextmanager
async def serving(directory: Path, tasks: str) -> AsyncIterator[Server]:
    server = Server(directory, tasks)
    try:
        await server.is_up()
        yield server
    finally:
        server.close()


async def post_many(urls: list[str], path: str, numbers: range, answered: dict[int, str]) -> None:
    """Send requests one after another in eight lanes, to each server in turn; note the answers.

    A server that dies takes the requests that it is answering with it.
    """

    async def lane(client: httpx.AsyncClient, numbers: range) -> None:
        for number in numbers:
            url = f"{urls[number % len(urls)]}/{path}/{number}"
            with contextlib.suppress(httpx.TransportError):
                answer = await client.post(url)
                if answer.status_code == 200:
                    answered[number] = answer.json()

    async with httpx.AsyncClient(timeout=60) as client:
        await asyncio.gather(*(lane(client, numbers[start::8]) for start in range(8)))


def journal(directory: Path) -> list[str]:
    """What the tasks have written so far."""
    file = directory / "journal"
    return file.read_text().splitlines() if file.exists() else []


@asynccontextmanager
async def store_of(tasks: str) -> AsyncIterator[RunStore]:
    """The store of the servers, as another process sees it."""
    namespace = os.environ.get("TASKIQ_FLOW_NAMESPACE", "default")
    store = make_store(tasks, StoreOptions(namespace=namespace))
    try:
        await store.open()
        yield store
    finally:
        await store.close()
