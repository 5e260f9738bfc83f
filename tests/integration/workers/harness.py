"""Applications with real worker processes: started, stopped and killed by tests."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskiq import AsyncBroker, AsyncTaskiqDecoratedTask, TaskiqMiddleware

from taskiq_flow import PipelineMiddleware, TaskiqFlowConfig
from tests.integration.apps.brokers import make_broker
from tests.integration.apps.settings import AppSettings
from tests.integration.apps.steps import Journal, register
from tests.support.tree import LEAN, ROOT
from tools.serving.keeper import tree
from tools.serving.processes import KeptProcess, wait_until

READY_LINE = "Running the steps of queue"
BARE_READY_LINE = "Listening started"
HARD_KILL_LINE = "Hard kill. Exiting."


class Worker:
    """One ``taskiq worker`` with its child process; leaves its log in its directory."""

    def __init__(self, command: list[str], directory: Path, env: Mapping[str, str]) -> None:
        directory.mkdir()
        self.log_file = directory / "worker.log"
        self._process = KeptProcess(command, directory=directory, log=self.log_file, env=env)

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def is_running(self) -> bool:
        return self._process.is_running

    @property
    def child_pids(self) -> list[int]:
        """The processes below the manager: the worker, and those of its pool."""
        return [pid for pid in tree(self._process.pid) if pid != self._process.pid]

    def wait_for_log(self, text: str, *, seconds: float = 30) -> None:
        """Block until the log has a text."""
        wait_until(lambda: text in self.log or not self.is_running, timeout_seconds=seconds)
        assert text in self.log, f"the worker has not logged {text!r}"

    async def has_logged(self, text: str, *, seconds: float = 30) -> None:
        """Wait until the log has a text."""
        await asyncio.to_thread(self.wait_for_log, text, seconds=seconds)

    async def terminate(self, *, seconds: float = 20) -> float:
        """Send SIGTERM, as a supervisor does; returns the seconds until all of it has exited."""
        began = time.monotonic()
        await asyncio.to_thread(self._process.stop, signal.SIGTERM, timeout_seconds=seconds)
        return time.monotonic() - began

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all of it, as a terminal does on Ctrl-C."""
        self._process.send(number)

    async def ends_when_told_again(self, number: signal.Signals, *, seconds: float = 20) -> float:
        """Repeat a signal until it has had enough; returns the seconds until all of it has exited.

        One signal more would interrupt it again, in the middle of giving its work back.
        """
        began = time.monotonic()
        while self.is_running and time.monotonic() - began < seconds:
            if HARD_KILL_LINE not in self.log:
                self.send(number)
            await asyncio.sleep(0.1)
        self.kill()
        return time.monotonic() - began

    def kill(self) -> None:
        """Send SIGKILL to all of it."""
        self._process.kill()


class Client:
    """A client's broker in this process, with the tasks of the application by name."""

    def __init__(self, broker: AsyncBroker) -> None:
        self.broker = broker

    def __getitem__(self, name: str) -> AsyncTaskiqDecoratedTask[..., Any]:
        task = self.broker.find_task(name)
        assert task is not None, name
        return task


@dataclass
class App:
    """One application: its settings, its worker processes and its clients."""

    settings: AppSettings
    directory: Path
    workers: list[Worker] = field(default_factory=list[Worker])
    scripts: dict[str, subprocess.Popen[str]] = field(
        default_factory=dict[str, "subprocess.Popen[str]"]
    )

    @property
    def journal(self) -> Journal:
        return Journal(self.settings.journal)

    @property
    def config(self) -> TaskiqFlowConfig:
        return TaskiqFlowConfig(**dict(self.settings.flow))

    @property
    def env(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("TASKIQ_FLOW")}
        path = os.pathsep.join(map(str, [LEAN, ROOT, ROOT / "src"]))
        return {**inherited, **self.settings.as_env(), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}

    async def start(
        self, *options: str, module: str = "plain", ready: str = READY_LINE, **env: str
    ) -> Worker:
        """Start a worker, and wait until it takes messages."""
        worker = self.spawn(*options, module=module, **env)
        await worker.has_logged(ready)
        return worker

    def spawn(self, *options: str, module: str = "plain", **env: str) -> Worker:
        """Start a worker, and do not wait."""
        app = f"tests.integration.apps.{module}:broker"
        command = [sys.executable, "-m", "taskiq", "worker", app, "--workers", "1", *options]
        directory = self.directory / f"worker-{len(self.workers) + 1}"
        worker = Worker(command, directory, {**self.env, **env})
        self.workers.append(worker)
        return worker

    @asynccontextmanager
    async def client(
        self, *middlewares: TaskiqMiddleware, started: bool = True
    ) -> AsyncIterator[Client]:
        """Be a client of the application in this process."""
        broker = make_broker(self.settings)
        broker.add_middlewares(*middlewares, PipelineMiddleware(config=self.config))
        register(broker)
        if started:
            await broker.startup()
        try:
            yield Client(broker)
        finally:
            await broker.shutdown()

    def spawn_script(self, module: str) -> None:
        """Start a module of `apps` as a process of its own, and do not wait."""
        self.scripts[module] = subprocess.Popen(
            [sys.executable, "-m", f"tests.integration.apps.{module}"],
            env=self.env, cwd=self.directory, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    async def output_of(self, module: str, *, seconds: float = 60) -> str:
        """Wait for the end of a script, and return what it printed."""
        script = self.scripts[module]
        output, errors = await asyncio.to_thread(script.communicate, timeout=seconds)
        assert script.returncode == 0, errors
        return output.strip()

    def close(self) -> None:
        for script in self.scripts.values():
            script.kill()
            script.communicate()
        for worker in self.workers:
            worker.kill()


async def eventually(
    condition: Callable[[], bool] | Callable[[], Awaitable[bool]], *, seconds: float = 20
) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.02)
