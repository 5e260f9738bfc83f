"""The broker and the tasks of a cell, for the measuring process and for its worker.

Which cell it is stands in the variable ``BENCHMARK_CELL``: `taskiq worker` passes nothing on.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from taskiq import AsyncBroker, InMemoryBroker
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from benchmarks import counting
from benchmarks.matrix import LOOKED_AT, Cell, Side, Store
from taskiq_flow import PipelineMiddleware

VARIABLE = "BENCHMARK_CELL"

CELL = Cell.from_json(os.environ[VARIABLE])

if CELL.count:
    counting.count_statements()


def _make_broker(cell: Cell) -> AsyncBroker:
    broker: AsyncBroker
    if cell.store.is_embedded or cell.shape in LOOKED_AT:
        # Taskiq keeps 100 results by default, and whoever waits for an older one waits for ever.
        broker = InMemoryBroker(await_inplace=cell.in_place, max_stored_results=1_000_000)
    else:
        broker = ListQueueBroker(cell.redis_url, queue_name=cell.namespace)
    if cell.side is Side.FLOW:
        url = {Store.MEMORY: None, Store.REDIS: cell.redis_url}.get(cell.store, cell.store_url)
        broker.add_middlewares(PipelineMiddleware(store=url, namespace=cell.namespace))
    elif not cell.store.is_embedded:
        # Plain Taskiq cannot wait for a step without it; runs of pipelines have their store.
        backend = RedisAsyncResultBackend(
            cell.redis_url, result_ex_time=3600, prefix_str=cell.namespace
        )
        broker = broker.with_result_backend(backend)
    return broker


broker = _make_broker(CELL)


@broker.task(task_name="increase")
async def increase(number: int) -> int:
    return number + 1


@broker.task(task_name="same")
async def same(number: int) -> int:
    return number


@broker.task(task_name="total")
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@broker.task(task_name="refuse")
async def refuse(number: int) -> int:
    raise ValueError(f"{number} is none of ours")


@broker.task(task_name="vitals")
async def vitals() -> tuple[float, int]:
    """Peak memory of this process in MiB, and how many SQL statements it has sent."""
    return peak_mib(), counting.statements()


def peak_mib() -> float:
    """The most memory that this process has had at one time."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not `ru_maxrss`: on Linux a process inherits the one of the process that started it.
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
