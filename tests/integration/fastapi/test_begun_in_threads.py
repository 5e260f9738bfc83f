"""A response tells of a sync task when its thread has begun with it, and waits for no thread."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fastapi_taskflow import TaskManager, pools
from fastapi_taskflow.asgi import TaskMiddleware

began: list[str] = []
let_go = threading.Event()


def work(name: str) -> str:
    began.append(name)
    return name


def hold(name: str) -> None:
    began.append(name)
    let_go.wait(30)


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    began.clear()
    let_go.clear()
    yield
    let_go.set()


def answering(manager: TaskManager, add: Callable[[], Any]) -> asyncio.Task[list[str]]:
    """Send a request that adds tasks; the result is what had begun when it was answered."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        add()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def nothing() -> Any:
        return {"type": "http.disconnect"}

    async def answer() -> list[str]:
        before: list[str] = []

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                before.extend(began)

        await TaskMiddleware(app, manager)({"type": "http"}, nothing, send)
        return before

    return asyncio.ensure_future(answer())


async def test_a_response_is_not_sent_before_the_thread_of_its_task_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(ThreadPoolExecutor):
        """Its threads are started, and then get no processor for a while."""

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            def later() -> Any:
                let_go.wait(30)
                return fn(*args, **kwargs)

            return super().submit(later)

    monkeypatch.setattr(pools, "ThreadPoolExecutor", Slow)
    manager = TaskManager(snapshot_db=str(tmp_path / "tasks.db"))
    async with manager:
        answer = answering(manager, lambda: manager.add_task(work, "a"))
        await asyncio.sleep(0.3)
        assert not answer.done()

        let_go.set()
        async with asyncio.timeout(10):
            await answer


async def test_a_response_does_not_wait_for_a_thread_to_be_free(tmp_path: Path) -> None:
    manager = TaskManager(snapshot_db=str(tmp_path / "tasks.db"), max_sync_threads=1)
    async with manager:
        async with asyncio.timeout(10):
            await answering(manager, lambda: manager.add_task(hold, "first"))
            # Eager: it goes past its queue, though all threads are taken.
            second = answering(manager, lambda: manager.add_task(hold, "second", eager=True))
            assert await second == ["first"]

        let_go.set()
        async with asyncio.timeout(10):
            while began != ["first", "second"]:  # noqa: ASYNC110 - a thread appends to it
                await asyncio.sleep(0.01)
