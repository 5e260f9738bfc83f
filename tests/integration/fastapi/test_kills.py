"""A task whose response was received runs, whatever happens to the server; once, if it may."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from taskiq_flow.model.records import RunStatus
from taskiq_flow.stores.base import RunStore
from tests.integration.fastapi.serving import Server, journal, post_many, serving, store_of

LONG = os.environ.get("TASKIQ_FLOW_CHAOS") == "long"
REQUESTS = 2000


async def until(holds: Callable[[], Awaitable[bool]], *, seconds: float = 60) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - other processes bring it about
            await asyncio.sleep(0.05)


@dataclass
class Tasks:
    """The tasks whose responses were received, where they are stored and what they wrote."""

    directory: Path
    store: RunStore
    answered: dict[int, str]

    async def succeeded(self) -> set[int]:
        ended = await self.store.ended_among(list(self.answered.values()))
        return {n for n, i in self.answered.items() if ended.get(i) is RunStatus.COMPLETED}

    async def have_all_succeeded(self) -> bool:
        return len(await self.succeeded()) == len(self.answered)

    def begun(self) -> Counter[int]:
        """How often each has begun."""
        lines = (line.split() for line in journal(self.directory))
        return Counter(int(number) for word, number, *_ in lines if word == "begin")

    async def kill_amid(
        self,
        numbers: range,
        servers: list[Server],
        *,
        after: int,
        how: signal.Signals = signal.SIGKILL,
    ) -> Counter[int]:
        """Add tasks through servers, and kill the first of them after so many answers.

        Returns how often each task that had succeeded by then had begun.
        """
        urls, enough = [server.url for server in servers], len(self.answered) + after
        sending = asyncio.create_task(post_many(urls, "note", numbers, self.answered))
        await until(lambda: _are(len(self.answered) >= enough), seconds=300)
        await asyncio.to_thread(servers[0].kill, how)
        succeeded = await self.succeeded()
        begun = self.begun()
        await sending
        return Counter({number: begun[number] for number in succeeded})

    def begun_again(self, before: Counter[int]) -> set[int]:
        """The tasks that have begun since, though they had succeeded then."""
        begun = self.begun()
        return {number for number in before if begun[number] != before[number]}


async def test_tasks_of_a_killed_server_run_on_another_one_and_on_the_next(tmp_path: Path) -> None:
    """Two instances on one file: one is killed, then the other; a third starts, and is ended."""
    url = f"sqlite:///{tmp_path}/tasks.db"

    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(store_of(url))
        tasks = Tasks(tmp_path, store, answered := {})
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=60))
        first = await stack.enter_async_context(serving(tmp_path, url))
        other = await stack.enter_async_context(serving(tmp_path, url))

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

        at_first = await tasks.kill_amid(range(120), [first, other], after=40)
        await until(tasks.have_all_succeeded)
        await until(is_lost)

        at_second = await tasks.kill_amid(range(120, 240), [other], after=10)
        last = await stack.enter_async_context(serving(tmp_path, url))
        await until(tasks.have_all_succeeded)

        await tasks.kill_amid(range(240, 300), [last], after=20, how=signal.SIGTERM)
        left = await store.ended_among(list(answered.values()))
        assert set(left.values()) == {RunStatus.COMPLETED}, "a restart fails none; the rest waits"

    ran = Counter(journal(tmp_path))
    waiting = {n for n, task_id in answered.items() if task_id not in left}
    assert answered.keys() - waiting <= tasks.begun().keys()
    assert at_first
    assert at_second
    assert not tasks.begun_again(at_first)
    assert not tasks.begun_again(at_second)
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
@pytest.mark.parametrize(
    ("instances", "store"), [(1, "sqlite"), (2, "sqlite"), (2, "redis"), (2, "postgres")]
)
async def test_every_answered_task_runs_and_none_again_that_succeeded(
    instances: int,
    store: str,
    seed: int,
    namespace: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """2,000 requests that each add a task, and a SIGKILL at a random moment.

    In every other round most tasks still wait then.
    """
    monkeypatch.setenv("TASKIQ_FLOW_NAMESPACE", namespace)
    if seed % 2:
        monkeypatch.setenv("BUSY", "yes")
    kept = f"sqlite:///{tmp_path}/tasks.db"
    url = kept if store == "sqlite" else str(request.getfixturevalue(f"{store}_url"))
    chance = random.Random(seed)

    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(store_of(url))
        tasks = Tasks(tmp_path, opened, answered := {})
        servers = [
            await stack.enter_async_context(serving(tmp_path, url)) for _ in range(instances)
        ]
        began = time.monotonic()
        after = chance.randrange(50, REQUESTS * 3 // 4)
        succeeded = await tasks.kill_amid(range(REQUESTS), servers, after=after)
        sent = time.monotonic()
        if instances == 1:
            await stack.enter_async_context(serving(tmp_path, url))
        await until(tasks.have_all_succeeded, seconds=300)

    begun = tasks.begun()
    print(  # shown by `make chaos ARGS=-rP`
        f"{instances} on {store}, seed {seed}: killed after {after} answers"
        f" ({len(succeeded)} had succeeded), {len(answered)} answered,"
        f" {sum(count > 1 for count in begun.values())} begun twice; {sent - began:.1f} s to the"
        f" last answer, {time.monotonic() - sent:.1f} s to the last end"
    )
    assert answered.keys() <= begun.keys()
    assert not tasks.begun_again(succeeded)
