"""A task whose response was received runs, whatever happens to the server; once, if it may."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from tests.integration.fastapi.serving import journal, post_many, serving, statuses

LONG = os.environ.get("TASKIQ_FLOW_CHAOS") == "long"
REQUESTS = 2000


async def until(holds: Callable[[], Awaitable[bool]], *, seconds: float = 60) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - other processes bring it about
            await asyncio.sleep(0.05)


async def test_tasks_of_a_killed_server_run_on_another_one_and_on_the_next(tmp_path: Path) -> None:
    """Two instances on one file; one is killed, then the other, then one starts anew."""
    file = tmp_path / "tasks.db"
    answered: dict[int, str] = {}

    async def done() -> bool:
        found = statuses(file)
        return all(found.get(task_id) == "COMPLETED" for task_id in answered.values())

    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=60))
        first = await stack.enter_async_context(serving(tmp_path, str(file)))
        other = await stack.enter_async_context(serving(tmp_path, str(file)))

        async def status_of(task_id: str) -> str:
            return str((await client.get(f"{other.url}/task/{task_id}")).json()["status"])

        async def both_run() -> bool:
            return {await status_of(killed), await status_of(cancelled)} == {"running"}

        async def is_lost() -> bool:
            return await status_of(killed) == "interrupted"

        async def is_squared() -> bool:
            return await status_of(squared) == "success"

        killed, cancelled = [
            (await client.post(f"{first.url}/once/{number}")).json() for number in (1, 2)
        ]
        squared = (await client.post(f"{other.url}/square/7")).json()
        await until(both_run)
        assert (await client.post(f"{other.url}/cancel/{cancelled}")).json() == "cancelled"
        await until(is_squared)
        assert (await client.get(f"{other.url}/task/{squared}")).json()["result"] == 49

        sending = asyncio.create_task(post_many([first.url, other.url], "note", 120, answered))
        await until(lambda: _are(len(answered) >= 40))
        first.kill()
        await sending
        await until(done)
        await until(is_lost)

        sending = asyncio.create_task(post_many([other.url], "note", 240, answered, first=120))
        await until(lambda: _are(len(answered) >= 130))
        other.kill()
        await sending
        await stack.enter_async_context(serving(tmp_path, str(file)))
        await until(done)

    ran = Counter(journal(tmp_path))
    assert all(ran[f"begin {number}"] for number in answered)
    assert [ran["once 1"], ran["once 2"]] == [1, 1]
    (square,) = [line for line in ran if line.startswith("square")]
    assert square != f"square 7 {other.process.pid}"


async def _are(what: bool) -> bool:
    return what


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not LONG, reason="ten long rounds of what the test above shows in short")
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("instances", [1, 2])
async def test_every_answered_task_runs_and_none_again_that_succeeded(
    instances: int, seed: int, tmp_path: Path
) -> None:
    """2,000 requests that each add a task, and a SIGKILL at a random moment."""
    file, chance = tmp_path / "tasks.db", random.Random(seed)
    answered: dict[int, str] = {}

    async def done() -> bool:
        found = statuses(file)
        return all(found.get(task_id) == "COMPLETED" for task_id in answered.values())

    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(serving(tmp_path, str(file))) for _ in range(instances)
        ]
        urls = [server.url for server in servers]
        sending = asyncio.create_task(post_many(urls, "note", REQUESTS, answered))
        wanted = chance.randrange(50, REQUESTS * 3 // 4)
        await until(lambda: _are(len(answered) >= wanted), seconds=300)
        servers[0].kill()
        completed = {task for task, status in statuses(file).items() if status == "COMPLETED"}
        begun = Counter(journal(tmp_path))
        await sending
        if instances == 1:
            await stack.enter_async_context(serving(tmp_path, str(file)))
        await until(done, seconds=300)

    ran = Counter(journal(tmp_path))
    assert all(ran[f"begin {number}"] for number in answered)
    succeeded = [number for number, task_id in answered.items() if task_id in completed]
    assert all(ran[f"begin {n}"] == begun[f"begin {n}"] for n in succeeded)
