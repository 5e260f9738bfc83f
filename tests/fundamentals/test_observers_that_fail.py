"""Whoever is told of runs and tasks may raise, exit, hang or reach nobody: it costs them nothing.

Tracking storages, exporters of traces and readers of metrics are told of in their own tests.
"""

import asyncio
import inspect
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from taskiq import InMemoryBroker

from fastapi_taskflow import LifecycleEvent, LogEvent, TaskManager, TaskObserver
from taskiq_flow import HookManager, Pipeline, PipelineTrackingManager
from tests.integration.workers.harness import eventually

STEPS = 10
PATIENCE_SECONDS = 2.0
"""More than a busy machine adds to ten steps, and less than a hook that hangs."""

gate = threading.Event()


def raises(*_: Any) -> None:
    raise OSError("no")


def exits(*_: Any) -> None:
    sys.exit("no")


async def exits_in_the_loop(*_: Any) -> None:
    sys.exit("no")


async def cancels_itself(*_: Any) -> None:
    raise asyncio.CancelledError


async def hangs(*_: Any) -> None:
    await asyncio.Event().wait()


def blocks(*_: Any) -> None:
    gate.wait(60)


def reaches_nobody(*_: Any) -> None:
    socket.create_connection(("127.0.0.1", 1), timeout=60).close()


EACH_WAY = pytest.mark.parametrize(
    "how", [raises, exits, exits_in_the_loop, cancels_itself, hangs, blocks, reaches_nobody]
)


@pytest.fixture(autouse=True)
def threads_end() -> Iterator[None]:
    gate.clear()
    yield
    gate.set()


def bad(how: Callable[..., Any]) -> Any:
    """A listener, or hook, of which every call goes wrong."""
    names = ("on_pipeline_start", "on_step_start", "on_step_complete", "on_pipeline_complete")
    return type("Bad", (), {name: staticmethod(how) for name in names})()


class Good:
    """One beside it."""

    def __init__(self) -> None:
        self.ends = 0

    def on_pipeline_complete(self, *_: Any) -> None:
        self.ends += 1


async def chain(broker: InMemoryBroker) -> Pipeline[Any]:
    task = broker.register_task(increase, task_name="increase")
    pipeline: Pipeline[Any] = Pipeline(broker)
    for _ in range(STEPS):
        pipeline = pipeline.call_next(task)
    await took(pipeline)
    return pipeline


async def increase(value: int) -> int:
    return value + 1


async def took(pipeline: Pipeline[Any]) -> float:
    """Run it, well; return in how many seconds."""
    began = time.perf_counter()
    task = await pipeline.kiq(0)
    assert (await task.wait_result(timeout=20)).return_value == STEPS
    return time.perf_counter() - began


async def leaves_soon(end: Callable[[], Any]) -> None:
    """A process that ends waits for none of them longer than a moment."""
    async with asyncio.timeout(2 * PATIENCE_SECONDS):
        await end()


@EACH_WAY
async def test_a_listener_fails_no_run_and_costs_it_no_time(how: Callable[..., Any]) -> None:
    broker, good = InMemoryBroker(), Good()
    pipeline = await chain(broker)
    alone = await took(pipeline)
    tracking = PipelineTrackingManager().with_auto_storage(broker)
    for listener in (bad(how), good):
        tracking.add_listener(listener)

    seconds = [await took(pipeline) for _ in range(2)]

    assert max(seconds) < alone + PATIENCE_SECONDS
    await eventually(lambda: good.ends == 2)
    await leaves_soon(broker.shutdown)


@EACH_WAY
async def test_a_hook_fails_no_run_and_costs_it_no_time(how: Callable[..., Any]) -> None:
    broker, good = InMemoryBroker(), Good()
    pipeline = await chain(broker)
    alone = await took(pipeline)
    manager = HookManager(timeout_seconds=0.01).add_hook(bad(how)).add_hook(good)
    hooked = pipeline.with_hooks(manager)

    seconds = [await took(hooked) for _ in range(2)]

    assert max(seconds) < alone + PATIENCE_SECONDS
    await eventually(lambda: good.ends == 2)
    await leaves_soon(broker.shutdown)


@EACH_WAY
async def test_an_observer_fails_no_task_and_costs_it_no_time(
    how: Callable[..., Any], alone: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_taskflow.loggers.delivery.PATIENCE_SECONDS", 0.05)

    class Bad(TaskObserver):
        own_thread = not inspect.iscoroutinefunction(how)

        async def on_log(self, event: LogEvent) -> None:
            await self.on_lifecycle(event)

        async def on_lifecycle(self, event: LogEvent | LifecycleEvent) -> None:
            said = how(event)
            if inspect.isawaitable(said):
                await said

    async with asyncio.timeout(10 * PATIENCE_SECONDS):
        seconds = await ten_tasks(TaskManager(loggers=[Bad()]))

    assert seconds < alone + PATIENCE_SECONDS


@pytest.fixture
async def alone() -> float:
    return await ten_tasks(TaskManager())


async def ten_tasks(manager: TaskManager) -> float:
    """Run tasks, each well; return in how many seconds."""
    ran: list[int] = []

    @manager.task()
    async def note(number: int) -> int:
        ran.append(number)
        return number

    await manager.startup()
    began = time.perf_counter()
    ids = [manager.add_task(note, number) for number in range(STEPS)]
    assert await manager.wait(ids, 20)
    seconds = time.perf_counter() - began
    records = [await manager.store.aget(task_id) for task_id in ids]
    assert [record and record.status for record in records] == ["success"] * STEPS
    assert sorted(ran) == list(range(STEPS))
    await manager.shutdown()
    return seconds
