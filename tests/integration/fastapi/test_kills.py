"""A task whose response was received runs, whatever happens to the server; once, if it may."""

import random
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from taskiq_flow.model.records import RunStatus
from tests.integration.fastapi.killing import LONG, Tasks, until
from tests.integration.fastapi.serving import journal, serving, store_of

REQUESTS = 2000


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
        monkeypatch.setenv("BUSY", "5")
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
