"""Two instances on one store: one key runs once, and both see, cancel and retry all tasks."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fastapi_taskflow import TaskManager
from fastapi_taskflow.models import QueueConfig


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("postgres", marks=pytest.mark.postgres),
    ]
)
async def instances(
    request: pytest.FixtureRequest,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[list[TaskManager]]:
    url = f"sqlite:///{tmp_path / 'tasks.db'}"
    if request.param != "sqlite":
        url = str(request.getfixturevalue(f"{request.param}_url"))
    monkeypatch.setenv("TASKIQ_FLOW_NAMESPACE", namespace)
    queues = {"small": QueueConfig(concurrency=1, max_size=1)}
    made = [
        TaskManager(snapshot_db=url, queues=queues, shutdown_timeout=0.2, max_concurrent_tasks=5)
        for _ in range(2)
    ]
    for each in made:
        await each.startup()
    yield made
    for each in made:
        await each.shutdown()


ran: list[str] = []
may_go_on: list[bool] = []


async def work(name: str) -> str:
    ran.append(name)
    while not may_go_on:  # noqa: ASYNC110 - of no event loop, as every test has its own
        await asyncio.sleep(0.01)
    if ran.count(name) == 1 and name.startswith("failing"):
        raise ValueError(name)
    return name


async def test_a_key_runs_once_among_all_instances(instances: list[TaskManager]) -> None:
    ran.clear()
    may_go_on.append(True)

    ids = await asyncio.gather(
        *(
            asyncio.to_thread(each.add_task, work, "keyed", idempotency_key="order")
            for each in instances * 10
        )
    )
    assert await instances[0].wait(ids, 30)

    assert len(set(ids)) == 1
    assert ran == ["keyed"]


async def test_a_key_of_a_task_that_waits_for_its_time_counts_on_all_instances(
    instances: list[TaskManager],
) -> None:
    ran.clear()
    may_go_on.append(True)

    async def put_off(name: str, days: int) -> None:
        when = datetime.now(UTC) + timedelta(days=days)
        await asyncio.gather(
            *(
                each.schedule_once(
                    work, name, run_at=when, run_key=f"{name} {number}", idempotency_key="order 1"
                )
                for number, each in enumerate(instances)
            )
        )

    await put_off("tomorrow", 1)
    (waiting,) = await instances[0].list_scheduled()
    ids = {
        await asyncio.to_thread(each.add_task, work, "never", idempotency_key="order 1")
        for each in instances
    }
    assert len(ids) == 1
    assert await instances[1].cancel_scheduled(waiting.run_key)
    await put_off("now", 0)
    while not ran:  # noqa: ASYNC110 - of no event loop, as every test has its own
        await asyncio.sleep(0.01)
    last = await asyncio.to_thread(instances[0].add_task, work, "never", idempotency_key="order 1")
    assert await instances[0].wait([last], 30)

    assert ran == ["now"]


async def test_an_instance_sees_cancels_and_retries_the_tasks_of_another(
    instances: list[TaskManager],
) -> None:
    ran.clear()
    may_go_on.clear()
    one, other = instances

    async def status(manager: TaskManager, task_id: str) -> Any:
        record = await manager.store.aget(task_id)
        return None if record is None else record.status

    async def until(task_id: str, wanted: str) -> None:
        async with asyncio.timeout(30):
            while await status(other, task_id) != wanted:  # noqa: ASYNC110 - it is elsewhere
                await asyncio.sleep(0.02)

    running = one.add_task(work, "a", queue="small")
    await until(running, "running")
    waiting = one.add_task(work, "b", queue="small")
    failing = one.add_task(work, "failing", tags={"tenant": "x"})
    assert (await other.cancel(waiting)).status == "cancelled"
    assert (await other.cancel(running)).status == "cancelled"
    await until(failing, "running")
    may_go_on.append(True)
    await until(failing, "failed")
    again = await other.retry(failing)
    assert await one.wait([again.task_id], 30)
    record = await one.store.aget(again.task_id)

    assert record is not None
    assert (record.result, record.tags) == ("failing", {"tenant": "x"})
    assert await one.store.aget(failing) is None
    assert sorted(ran) == ["a", "failing", "failing"]


async def test_bounds_that_one_instance_sets_reach_the_other(instances: list[TaskManager]) -> None:
    one, other = instances
    one.update_queue_config("small", concurrency=7)

    async with asyncio.timeout(30):
        while other.queue_stats()[1]["concurrency"] != 7:  # noqa: ASYNC110 - it looks by itself
            await asyncio.sleep(0.02)

    assert other.queue_stats()[1]["max_size"] == 1
