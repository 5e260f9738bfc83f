"""How long pages of the dashboard and the API take over many runs, and what open tabs cost."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from statistics import median
from typing import Any

from httpx import ASGITransport, AsyncClient, HTTPError, Limits

from benchmarks.app import broker, increase, refuse
from benchmarks.bulk import Copy, copy_run
from benchmarks.host import BEARER, host_app
from benchmarks.listing import SPREAD_SECONDS, Stopwatch
from benchmarks.matrix import Sizes
from taskiq_flow import Pipeline
from taskiq_flow.engine.client import RunClient
from taskiq_flow.exceptions import TaskiqFlowError
from taskiq_flow.model.records import RunStatus, WorkerRecord
from taskiq_flow.operations import Operations
from taskiq_flow.scheduling import PipelineScheduler
from taskiq_flow.stores.base import RunStore

GOING = 100
"""Runs that wait for an event meanwhile."""

ROUNDS = 3
CACHED_SECONDS = 2.1
"""After so long the dashboard asks the store again for what all pages show."""

TABS = ("/flow/", "/flow/runs", "/flow/runs?status=failed", "/flow/queues", "/flow/dead-letters")
TABS_OPEN = 10
BLOCK_SECONDS, PING_SECONDS = 4.0, 0.01
BLOCKS = 3
"""Stretches without tabs and with them, which take turns."""


async def pages(sizes: Sizes) -> dict[str, Any]:
    """Store runs, ask for every page and for what the API says of the same, then open tabs."""
    store = RunClient.of(broker).store
    failed = await fill(store, sizes.stored)
    html, data = Stopwatch(), Stopwatch()
    right = True
    async with await Operations.open(broker=broker) as operations:
        for number in range(200):
            await operations.record("anna", "cancel", f"run {number}")
        app = await host_app(operations)
        async with AsyncClient(
            transport=ASGITransport(app), base_url="http://host", headers=BEARER
        ) as client:
            for number in range(ROUNDS + 1):
                for watch, addresses in ((html, _pages(failed)), (data, _data(failed))):
                    for title, address in addresses.items():
                        answer = await _asked(client, watch, title, address, is_first=not number)
                        right = right and answer
                await asyncio.sleep(CACHED_SECONDS)
    alone, beside = await _tabs()
    return {
        "ok": right,
        "asked": {"page": html.facts(), "data": data.facts()},
        "figures": {"alone_ms": round(alone, 3), "beside_ms": round(beside, 3)},
    }


async def _asked(
    client: AsyncClient, watch: Stopwatch, title: str, address: str, *, is_first: bool
) -> bool:
    """Ask once; what is loaded once is not what a page takes."""
    began = time.perf_counter()
    answer = await client.get(address)
    if not is_first:
        took = (time.perf_counter() - began) * 1000
        watch.milliseconds.setdefault(title, []).append(took)
    if answer.status_code != 200:
        print(f"{address}: {answer.status_code} {answer.text[:200]}", file=sys.stderr)
    return answer.status_code == 200


def _pages(failed: str) -> dict[str, str]:
    filters = {
        "": "runs",
        "?status=failed": "failed runs",
        "?name=report+9": "runs of a name",
        "?tag=odd": "runs of a tag",
        "?kind=pipeline": "runs of a kind",
        "?span=1h": "runs of an hour",
        "?q=report+4": "runs whose names begin so",
        "?status=failed&tag=odd&span=24h": "failed runs of a tag",
        "?status=failed&tag=even": "failed runs of a tag that never fails",
        "?q=report&status=cancelled&span=24h": "cancelled runs whose names begin so",
        "?name=report+9&tag=odd": "runs of a name and a tag",
        "?kind=pipeline&tag=odd&span=24h": "runs of a kind and a tag",
    }
    return {
        "overview": "/flow/",
        "overview of a week": "/flow/?span=7d",
        **{title: f"/flow/runs{query}" for query, title in filters.items()},
        "a run": f"/flow/runs/{failed}",
        "tasks": "/flow/tasks",
        "queues": "/flow/queues",
        "schedules": "/flow/schedules",
        "dead letters": "/flow/dead-letters",
        "dead letters of a tag": "/flow/dead-letters?tag=odd&span=24h",
        "workers": "/flow/workers",
        "audit": "/flow/audit",
    }


def _data(failed: str) -> dict[str, str]:
    return {
        "runs": "/api/runs?count=true",
        "failed runs of a tag": "/api/runs?status=FAILED&tag=odd&count=true",
        "runs of a kind and a tag": "/api/runs?kind=pipeline&tag=odd&count=true",
        "runs whose names begin so": "/api/runs?search=report+4&count=true",
        "a run": f"/api/runs/{failed}",
        "its graph": f"/api/runs/{failed}/graph",
        "its timeline": f"/api/runs/{failed}/timeline",
        "overview": "/api/overview",
        "tasks": "/api/tasks",
        "queues": "/api/queues",
        "workers": "/api/workers",
        "schedules": "/api/schedules",
        "dead letters": "/api/dead-letters",
        "audit": "/api/audit",
    }


# -- what is stored


async def fill(store: RunStore, count: int) -> str:
    """Store ended runs, most of them copies, and some that go on; return the id of a failed one."""
    newest = time.time()
    chain = Pipeline(broker, increase).call_next(increase).call_next(increase)
    failing = Pipeline(broker, increase).call_next(refuse).call_next(increase)
    waiting = Pipeline(broker, increase).wait_for("go")
    examples = {
        RunStatus.COMPLETED: await _ended(chain),
        RunStatus.FAILED: await _ended(failing),
        RunStatus.CANCELLED: await _ended(waiting, cancel=True),
    }
    for end, example in examples.items():
        copies = [
            _copy(number, newest - SPREAD_SECONDS * (count - number) / count)
            for number in range(count)
            if _end(number) is end
        ]
        await copy_run(store, example, copies)
    for _ in range(min(GOING, count)):
        await waiting.kiq(1)
    now = time.time()
    for number in range(4):
        facts = ("benchmark", ("bench|queue",), ("increase", "refuse"), now, "host", number, "1")
        await store.announce(WorkerRecord(f"worker-{number}", *facts), ttl_seconds=600.0)
    scheduler = PipelineScheduler(broker)
    for number in range(10):
        await scheduler.schedule_interval(chain, 3600.0, job_id=f"job-{number}", args=(1,))
    return examples[RunStatus.FAILED]


def _end(number: int) -> RunStatus:
    if number % 10 == 9:
        return RunStatus.FAILED
    return RunStatus.CANCELLED if number % 20 == 8 else RunStatus.COMPLETED


def _copy(number: int, created_at: float) -> Copy:
    tags = ("all", "even" if number % 2 == 0 else "odd", f"tenant {number % 1000}")
    kind = ("pipeline", "map_reduce", "task")[number % 3]
    return Copy(f"run-{number:09}", f"report {number % 50}", kind, tags, created_at)


async def _ended(pipeline: Pipeline[Any], *, cancel: bool = False) -> str:
    task = await pipeline.kiq(1)
    if cancel:
        await task.cancel()
    with suppress(TaskiqFlowError):
        await task.wait_result()
    return task.task_id


# -- open tabs


async def _tabs() -> tuple[float, float]:
    """The median time in which the application answers, without open tabs and with them."""
    alone: list[float] = []
    beside: list[float] = []
    async with _served() as address, AsyncClient(base_url=address, timeout=30.0) as client:
        await _ping(client, 1.0)
        for _ in range(BLOCKS):
            alone += await _ping(client, BLOCK_SECONDS)
            async with _open_tabs(address):
                await _ping(client, 1.0)
                beside += await _ping(client, BLOCK_SECONDS)
    return median(alone), median(beside)


async def _ping(client: AsyncClient, seconds: float) -> list[float]:
    found: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        (await client.get("/ping")).raise_for_status()
        found.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(PING_SECONDS)
    return found


@asynccontextmanager
async def _open_tabs(address: str) -> AsyncIterator[None]:
    limits = Limits(max_connections=None)
    async with AsyncClient(base_url=address, headers=BEARER, timeout=None, limits=limits) as client:
        tabs = [
            asyncio.create_task(_tab(client, TABS[number % len(TABS)]))
            for number in range(TABS_OPEN)
        ]
        going = asyncio.create_task(_something_happens())
        try:
            yield
        finally:
            for task in (*tabs, going):
                task.cancel()
            await asyncio.wait([*tabs, going])


async def _something_happens() -> None:
    """A run a second, of which every tab is told."""
    while True:
        await Pipeline(broker, increase).kiq(1)
        await asyncio.sleep(1.0)


async def _tab(client: AsyncClient, page: str) -> None:
    """What a browser does: load a page, listen, and fetch regions again as they say."""
    text = (await client.get(page)).text
    regions = [dict(re.findall(r'data-(src|on|every|wait)="([^"]*)"', tag))
               for tag in re.findall(r"<[^>]*data-live=[^>]*>", text)]  # fmt: skip
    news = asyncio.Event()
    polls = [asyncio.create_task(_region(client, one, news)) for one in regions]
    try:
        async with client.stream("GET", "/flow/live") as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    news.set()
                    news.clear()
    finally:
        for poll in polls:
            poll.cancel()


async def _region(client: AsyncClient, region: dict[str, str], news: asyncio.Event) -> None:
    every = float(region.get("every", 3600))
    hears = bool(region.get("on"))
    while True:
        try:
            async with asyncio.timeout(every):
                await (news.wait() if hears else asyncio.sleep(every + 1))
            await asyncio.sleep(float(region.get("wait", 50)) / 1000)
        except TimeoutError:
            pass
        await client.get(region["src"].replace("&amp;", "&"))


@asynccontextmanager
async def _served() -> AsyncIterator[str]:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.host", str(port)
    )
    address = f"http://127.0.0.1:{port}"
    try:
        async with AsyncClient(base_url=address) as client:
            await _until(lambda: client.get("/ping"))
        yield address
    finally:
        process.terminate()
        await process.wait()


async def _until(ask: Callable[[], Awaitable[Any]]) -> None:
    until = time.monotonic() + 60.0
    while True:
        try:
            await ask()
        except HTTPError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.1)
        else:
            return
