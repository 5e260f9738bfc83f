"""Makes one measurement in this process, and prints it as one line of JSON."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from benchmarks import flow, plain
from benchmarks.app import CELL, broker, peak_mib
from benchmarks.counting import RedisCommands, statements
from benchmarks.listing import listing
from benchmarks.matrix import LOOKED_AT, Shape, Side, Sizes, Store
from benchmarks.pages import pages

SIDES: dict[Side, ModuleType] = {Side.PLAIN: plain, Side.FLOW: flow}

LOOKS = {Shape.LISTING: listing, Shape.PAGES: pages}

Work = Callable[[Sizes], Awaitable[bool | dict[str, Any]]]


async def look() -> dict[str, Any]:
    """Ask for what is stored; nothing runs."""
    await broker.startup()
    began = time.perf_counter()
    facts = await LOOKS[CELL.shape](CELL.sizes)
    facts |= {"seconds": time.perf_counter() - began, "steps": CELL.sizes.stored}
    facts["peak_mib"] = round(peak_mib(), 1)
    await broker.shutdown()
    return facts


async def measure(side: ModuleType) -> dict[str, Any]:
    """Do the cell's work once for the clock and, if asked to, once more for the counters."""
    work: Work = side.SHAPES[CELL.shape]
    await broker.startup()
    await side.warm_up()
    began = time.perf_counter()
    found = await work(CELL.sizes)
    seconds = time.perf_counter() - began
    peak_mib, _ = await side.worker_vitals()
    facts = {"seconds": seconds, "steps": steps_of(CELL.sizes), "peak_mib": round(peak_mib, 1)}
    facts |= found if isinstance(found, dict) else {"ok": found}
    if CELL.count:
        sizes = CELL.counted_sizes
        facts["sent_per_step"] = await _count(side, work, sizes) / steps_of(sizes)
    await broker.shutdown()
    return facts


async def _count(side: ModuleType, work: Work, sizes: Sizes) -> int:
    if CELL.store is Store.REDIS:
        with RedisCommands(CELL.redis_url, CELL.namespace) as commands:
            await work(sizes)
        return commands.count
    before = await _statements(side)
    await work(sizes)
    return await _statements(side) - before


async def _statements(side: ModuleType) -> int:
    _, of_worker = await side.worker_vitals()
    return of_worker + (0 if CELL.store.is_embedded else statements())


def steps_of(sizes: Sizes) -> int:
    """How many steps, or items of a map, the cell's shape has."""
    return {
        Shape.CHAIN: sizes.steps,
        Shape.LONG_CHAIN: sizes.steps,
        Shape.MANY: sizes.runs * sizes.run_steps,
        Shape.DIAMOND: sizes.diamonds * (sizes.fan + 2),
        Shape.MAP: sizes.items,
        Shape.WIDE_MAP: sizes.items,
    }[CELL.shape]


@contextmanager
def _worker() -> Iterator[None]:
    """One ordinary worker process with Taskiq's defaults, where the broker needs one."""
    if CELL.store.is_embedded:
        yield
        return
    command = [sys.executable, "-m", "taskiq", "worker", "benchmarks.app:broker"]
    command += ["--workers", "1", "--log-level", "WARNING"]
    process = subprocess.Popen(command, stdout=sys.stderr)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    if CELL.shape in LOOKED_AT:
        print(json.dumps(asyncio.run(look())))
        sys.exit()
    with _worker():
        facts = asyncio.run(measure(SIDES[CELL.side]))
    print(json.dumps(facts))
