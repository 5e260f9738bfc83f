"""Thousands of tasks leave the event loop to others: what grows with them is done in portions."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from fastapi_taskflow import TaskManager
from fastapi_taskflow.asgi import TaskMiddleware
from fastapi_taskflow.endings import Endings
from taskiq_flow.model.records import RunStatus
from taskiq_flow.stores.memory import MemoryRunStore

COUNT = 1000


async def work(number: int) -> int:
    return number


class Turns:
    """Counts what a store is asked for in each turn of the event loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.number = 0
        self.calls = {name: Counter[int]() for name in names}
        for name in names:
            self._count(monkeypatch, name)

    def _count(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        original = getattr(MemoryRunStore, name)

        def counting(*args: Any, **facts: Any) -> Any:
            self.calls[name][self.number] += 1
            return original(*args, **facts)

        monkeypatch.setattr(MemoryRunStore, name, counting)

    async def turn(self) -> None:
        while True:
            self.number += 1
            await asyncio.sleep(0)


@pytest.mark.parametrize("at_once", [None, 1], ids=["as they come", "one at a time"])
async def test_the_tasks_of_a_request_are_stored_and_begun_in_many_turns_of_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, at_once: int | None
) -> None:
    turns = Turns(monkeypatch, "create", "start", "create_started", "finish")
    task_ids: list[str] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        task_ids.extend(manager.add_task(work, number) for number in range(COUNT))
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_message: Message) -> None:
        return None

    async with TaskManager(max_concurrent_tasks=at_once) as manager:
        turning = asyncio.create_task(turns.turn())
        await TaskMiddleware(app, manager)({"type": "http"}, receive, send)
        assert await manager.wait(task_ids, 60)
        turning.cancel()

    begun = {name: calls.total() for name, calls in turns.calls.items()}
    assert begun["create"] == begun["start"] == COUNT - begun["create_started"]
    assert begun["finish"] == COUNT
    assert (begun["create"] > begun["create_started"]) is (at_once is not None)
    for name, calls in turns.calls.items():
        assert max(calls.values(), default=0) <= COUNT / 10, name


class AskedStore(MemoryRunStore):
    """Counts how often it is asked for ends."""

    asked = 0

    async def ended_among(self, run_ids: Sequence[str]) -> dict[str, RunStatus]:
        self.asked += 1
        return await super().ended_among(run_ids)


async def test_who_waits_for_many_tasks_asks_once_and_hears_of_each() -> None:
    """A look for each end would cost the square of their number."""
    store = AskedStore()
    endings = Endings(None, forget=lambda _: None, is_here=lambda _: False)
    endings.open(store)
    task_ids = [f"task {number}" for number in range(COUNT)]

    waiting = [asyncio.create_task(endings.wait(task_ids, 60)) for _ in range(2)]
    await asyncio.sleep(0)
    for task_id in task_ids:
        endings.hear(task_id, RunStatus.COMPLETED)
        await asyncio.sleep(0)

    assert await asyncio.gather(*waiting) == [True, True]
    assert store.asked == len(waiting)
