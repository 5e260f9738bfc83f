"""A dashboard that is served for real, with the shop's worker beside it, and a browser to look."""

import asyncio
import os
import shutil
import socket
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pytest
import uvicorn
from playwright.sync_api import Browser, sync_playwright

from taskiq_flow import PipelineScheduler
from taskiq_flow.dashboard import create_app
from taskiq_flow.operations import Operations
from taskiq_flow.security import Security
from tests.integration.workers.harness import READY_LINE, Worker
from tests.support.tree import ROOT

TOKEN = "let-me-in-please"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

T = TypeVar("T")


class House:
    """The dashboard with its loop in a thread; ``shop`` starts runs, ``operations`` looks at them.

    What is asked of the loop from here is waited for, so that tests stay plain functions.
    """

    def __init__(self, url: str, name: str, pace: float) -> None:
        self.env = {
            "SHOP_REDIS_URL": url,
            "SHOP_QUEUE": name,
            "SHOP_PACE": str(pace),
            "TASKIQ_FLOW_STORE_URL": url,
            "TASKIQ_FLOW_NAMESPACE": name,
            "TASKIQ_FLOW_LEASE_SECONDS": "4",
            "TASKIQ_FLOW_KICK_SECONDS": "2",
            "SHOP_ITEMS": "60" if pace < 1 else "1200",
        }
        self._url, self._name = url, name
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def open(self, shop: ModuleType) -> None:
        self._thread.start()
        self.ask(self._open(shop))

    async def _open(self, shop: ModuleType) -> None:
        self.shop = shop
        await shop.broker.startup()
        self.operations = await Operations.open(self._url, namespace=self._name, broker=shop.broker)
        app = create_app(self.operations, security=Security(token=TOKEN))
        config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1, lifespan="off")
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server.serve([self._socket]))

    def close(self) -> None:
        self.ask(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        await self._serving
        await self.operations.close()
        await self.shop.broker.shutdown()

    def start(self, pipeline: Any, *args: Any, **kwargs: Any) -> str:
        """Start a run; returns its id."""

        async def start() -> str:
            return str((await pipeline.kiq(*args, **kwargs)).task_id)

        return self.ask(start())

    def schedule(self, pipeline: Any, cron: str, *args: Any, job_id: str) -> None:
        """Let a pipeline run by the clock; no scheduler is started here."""

        async def put() -> None:
            scheduler = PipelineScheduler(self.shop.broker)
            await scheduler.schedule(pipeline, cron, args=args, job_id=job_id)
            await scheduler.shutdown()

        self.ask(put())

    def ended(self, run_id: str, *, seconds: float = 20.0) -> str:
        """Wait until a run has ended, and return how."""

        async def wait() -> str:
            async with asyncio.timeout(seconds):
                while True:
                    summary = await self.operations.summary(run_id)
                    if summary.status.is_final:
                        return str(summary.status)
                    await asyncio.sleep(0.03)

        return self.ask(wait())


@contextmanager
def served(url: str, name: str, directory: Path, *, pace: float = 0.01) -> Iterator[House]:
    """Serve the dashboard of a shop that has one worker."""
    house = House(url, name, pace)
    path = os.pathsep.join(map(str, [ROOT, ROOT / "src"]))
    env = {**os.environ, **house.env, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "taskiq", "worker", "tests.browser.shop:broker"]
    worker = Worker([*command, "--workers", "1"], directory / "worker", env)
    before = {key: os.environ.get(key) for key in house.env}
    os.environ.update(house.env)
    try:
        shop = _fresh_shop()
        house.open(shop)
        worker.wait_for_log(READY_LINE)
        yield house
    finally:
        house.close()
        worker.kill()
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})


def _fresh_shop() -> ModuleType:
    """The shop of this environment: its broker is made when the module is read."""
    from tests.browser import shop  # noqa: PLC0415 - it reads variables that were set just now

    return shop


@contextmanager
def browser() -> Iterator[Browser]:
    """The system's Chromium, by any of its names; on CI it has to be there."""
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        reason = f"no browser is installed: none of {', '.join(BROWSERS)} is on the path"
        if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield started
        finally:
            started.close()
