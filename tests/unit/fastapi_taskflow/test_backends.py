"""The documented backends name the stores that tasks live in."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from fastapi_taskflow import PostgresBackend, RedisBackend, SnapshotScheduler, SqliteBackend
from fastapi_taskflow.exceptions import BackendOptionError
from fastapi_taskflow.manager import TaskManager


async def send(number: int) -> int:
    return number


async def refuse() -> None:
    raise ValueError("no")


async def test_a_file_is_asked_for_its_tasks_by_status_and_function(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "tasks.db", max_workers=2)
    async with TaskManager(snapshot_backend=backend) as manager:
        made = [manager.add_task(send, number) for number in range(3)]
        failed = manager.add_task(refuse)
        assert await manager.wait([*made, failed], timeout=20)

    # The manager has ended, and the loop of this test runs: a query needs neither.
    everything = await asyncio.to_thread(backend.query)
    succeeded = backend.query(status="success", func_name="send", limit=2)
    scheduler = SnapshotScheduler(backend, interval=5)

    assert {task["task_id"] for task in everything} == {*made, failed}
    assert [task["task_id"] for task in succeeded] == [made[2], made[1]]
    assert succeeded[0]["result"] == 2
    assert [task["error"] for task in scheduler.query("failed")] == ["no"]
    assert await scheduler.flush() == 0


def test_each_kind_of_backend_is_a_store_by_its_url() -> None:
    assert SqliteBackend().url == "sqlite:///tasks.db"
    assert SqliteBackend("/var/lib/tasks.db").url == "sqlite:////var/lib/tasks.db"
    assert RedisBackend().url == "redis://localhost:6379/0"
    assert PostgresBackend("postgresql://host/db", min_conn=2).url == "postgresql://host/db"


def test_the_prefix_in_redis_keeps_applications_apart() -> None:
    assert RedisBackend().make_store().options.namespace == "fastapi_taskflow"
    assert RedisBackend(prefix="shop:tasks").make_store().options.namespace == "shop.tasks"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RedisBackend(prefix="{x}"), r"RedisBackend\(prefix=…\).*letters, digits"),
        (lambda: RedisBackend(ttl=60), r"RedisBackend\(ttl=…\).*retention_days"),
        (lambda: RedisBackend(db=3), r"RedisBackend\(db=…\).*into the URL"),
        (PostgresBackend, r"PostgresBackend\(url=…\).*postgresql://user"),
        (lambda: PostgresBackend(pool=object()), r"PostgresBackend\(pool=…\).*give the URL"),
    ],
)
def test_an_option_that_means_nothing_here_says_what_to_do(
    make: Callable[[], object], words: str
) -> None:
    with pytest.raises(BackendOptionError, match=words):
        make()
