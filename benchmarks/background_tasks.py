"""What a durable background task costs: many in one process, one alone, one in a request."""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from statistics import median
from typing import Any

from fastapi import BackgroundTasks, FastAPI
from starlette.types import Message, Receive, Scope, Send

from benchmarks.matrix import Cell, Shape, Sizes
from benchmarks.stalls import TICK_SECONDS, Stalls
from fastapi_taskflow import TaskManager
from fastapi_taskflow.asgi import TaskMiddleware
from taskiq_flow.model.records import RunFilter, RunStatus

REQUESTS_AT_ONCE = 64
"""Requests that add a task at the same time."""

KEEPING_UP, BACKLOG = 2 * REQUESTS_AT_ONCE, 1000
"""How many tasks may be added and not finished: on a server that keeps up, and on one that has more
to do than it can, where most tasks wait."""

WARM, ALONE, BESIDE = 200, 50, 5000
"""Tasks before the clock runs, those that are timed one by one, and those of each other load."""

COLLECT_AFTER = 10_000
"""Objects after which the collector looks, as the how-to advises; Python's own is 700."""

CELL = Cell.from_json(os.environ["BENCHMARK_CELL"])

manager = TaskManager(snapshot_db=CELL.store_url)


@manager.task()
async def same(number: int) -> int:
    return number


# -- in one process


async def _add_one(scope: Scope, _receive: Receive, send: Send) -> None:
    """An application whose every request adds a task; no framework is measured with it."""
    manager.add_task(same, scope["number"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


application = TaskMiddleware(_add_one, manager)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


async def _drop(_message: Message) -> None:
    return None


def _finished() -> int:
    """Tasks whose end is stored."""
    return sum([lane.finished for lane in manager.core.queues.lanes.values()])


async def _add(count: int, most: int = KEEPING_UP) -> None:
    """Send so many requests, some at a time, and wait until their tasks have finished.

    As many as ``most`` tasks are under way.
    """
    before = _finished()
    for first in range(0, count, REQUESTS_AT_ONCE):
        numbers = range(first, min(first + REQUESTS_AT_ONCE, count))
        least = before + numbers.stop - most
        await _until(lambda least=least: _finished() >= least)
        await asyncio.gather(*[_request(number) for number in numbers])
    await _until(lambda: _finished() == before + count)


async def _request(number: int) -> None:
    await application({"type": "http", "number": number}, _nothing, _drop)


async def _until(holds: Callable[[], bool], pause_seconds: float = TICK_SECONDS) -> None:
    while not holds():  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(pause_seconds)


async def many(sizes: Sizes) -> dict[str, Any]:
    """Add many tasks and wait until the end of the last one is stored.

    Then one by one, then more than the process can begin, then with the collector as it is.
    """
    async with manager:
        await _add(WARM)
        # As the how-to says: the collector would go through all modules again and again, 50 ms at
        # a time, whatever runs.
        gc.collect()
        gc.freeze()
        usual = gc.get_threshold()
        gc.set_threshold(COLLECT_AFTER)
        busy, began = time.process_time(), time.perf_counter()
        async with Stalls() as stalls:
            await _add(sizes.tasks)
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
        memory = _resident_mib()
        alone = [await _time_alone() for _ in range(ALONE)]
        beside = min(BESIDE, sizes.tasks)
        backlog = await _time_each(beside, BACKLOG)
        gc.set_threshold(*usual)
        untuned = await _time_each(beside, KEEPING_UP)
        store = await manager.core.opened_store()
        stored = await store.count_runs(RunFilter(status=RunStatus.COMPLETED))
    return {
        "ok": stored == WARM + sizes.tasks + ALONE + 2 * beside,
        "seconds": seconds,
        "steps": sizes.tasks,
        "peak_mib": memory,
        "figures": {
            "stall_ms": stalls.longest * 1000,
            "by_clock_ms": stalls.by_clock * 1000,
            "collecting_ms": stalls.collecting * 1000,
            "busy_ms": busy * 1000 / sizes.tasks,
            "alone_ms": median(alone) * 1000,
            "backlog_ms": backlog * 1000,
            "untuned_ms": untuned * 1000,
        },
    }


async def _time_each(count: int, most: int) -> float:
    began = time.perf_counter()
    await _add(count, most)
    return (time.perf_counter() - began) / count


async def _time_alone() -> float:
    began, before = time.perf_counter(), _finished()
    await application({"type": "http", "number": 0}, _nothing, _drop)
    await _until(lambda: _finished() > before, 0)
    return time.perf_counter() - began


def _resident_mib() -> float:
    """The memory of this process now, where the system tells; else nothing is said of it."""
    with suppress(OSError), open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))
    return 0.0


# -- in a request


def app() -> FastAPI:
    """The application that uvicorn serves: one route that adds a task, and one that does not."""
    served = FastAPI()
    manager.install(served)

    @served.get("/without")
    async def without() -> str:
        return "nothing"

    @served.get("/with")
    async def adding(tasks: BackgroundTasks) -> str:
        tasks.add_task(same, 1)
        return "added"

    return served


def requests(sizes: Sizes) -> dict[str, Any]:
    """Ask a server in turns for an answer with and without a task."""
    took: dict[str, list[float]] = {"/without": [], "/with": []}
    with _serving() as port:
        began = time.perf_counter()
        clients = {path: http.client.HTTPConnection("127.0.0.1", port) for path in took}
        for number in range(sizes.requests + WARM // 10):
            for path, client in clients.items():
                seconds = _ask(client, path)
                if number >= WARM // 10:
                    took[path].append(seconds)
                time.sleep(0.005)  # the task is over before the next answer is timed
        for client in clients.values():
            client.close()
    without, adding = (median(took[path]) * 1000 for path in ("/without", "/with"))
    return {
        "ok": all(len(times) == sizes.requests for times in took.values()),
        "seconds": time.perf_counter() - began,
        "steps": 2 * sizes.requests,
        "figures": {"without_ms": without, "with_ms": adding},
    }


def _ask(client: http.client.HTTPConnection, path: str) -> float:
    began = time.perf_counter()
    client.request("GET", path)
    answer = client.getresponse()
    answer.read()
    took = time.perf_counter() - began
    assert answer.status == 200, answer.status
    return took


@contextmanager
def _serving() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = int(listening.getsockname()[1])
    command = [sys.executable, "-m", "uvicorn", "--factory", "--log-level", "warning"]
    command += ["--no-access-log", "--port", str(port), "benchmarks.background_tasks:app"]
    server = subprocess.Popen(command, stdout=sys.stderr)
    try:
        _wait_until_it_listens(port, server)
        yield port
    finally:
        server.terminate()
        server.wait()


def _wait_until_it_listens(port: int, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the server ended with {server.returncode}")


if __name__ == "__main__":
    if CELL.shape is Shape.REQUESTS:
        print(json.dumps(requests(CELL.sizes)))
    else:
        print(json.dumps(asyncio.run(many(CELL.sizes))))
