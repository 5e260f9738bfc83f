"""Which functions can be background tasks, and what becomes of those that nobody finds again."""

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from taskiq import InMemoryBroker

from fastapi_taskflow import InMemoryLogger, QueueConfig, TaskManager, TaskStatus
from fastapi_taskflow.exceptions import TaskOptionError, UnnamedTaskError
from fastapi_taskflow.process import Work, work_off
from taskiq_flow import PipelineMiddleware
from tests.support.hanging import hang, tell


class Mailer:
    """Something with methods, of which there are several."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def send(self, to: str) -> str:
        return f"{self.name} to {to}"

    @classmethod
    def count(cls) -> str:
        return cls.__name__

    @staticmethod
    def fixed() -> int:
        return 7


first, second = Mailer("first"), Mailer("second")


async def results(manager: TaskManager, *task_ids: str) -> list[Any]:
    assert await manager.wait(task_ids, 20)
    return [record and record.result for record in map(manager.store.get, task_ids)]


async def test_methods_of_objects_are_tasks_with_their_options_each_its_own() -> None:
    async with TaskManager(
        snapshot_db="memory://", queues={"mail": QueueConfig(concurrency=1)}
    ) as manager:
        manager.task(queue="mail")(first.send)
        manager.task(retries=2)(second.send)
        ids = [manager.add_task(mailer.send, "Ann") for mailer in (first, second)]

        assert await results(manager, *ids) == ["first to Ann", "second to Ann"]
        assert manager.store.get(ids[0]).queue == "mail"  # type: ignore[union-attr]
        assert manager.registry.get_config(second.send).retries == 2  # type: ignore[union-attr]
        assert len(manager.registry) == 2


async def test_a_registered_method_is_found_again_by_another_process(tmp_path: Path) -> None:
    place = str(tmp_path / "tasks.db")
    before = TaskManager(snapshot_db=place)
    before.task()(second.send)
    ids = [before.add_task(second.send, "Ann"), before.add_task(Mailer.count)]
    ids.append(before.add_task(Mailer.fixed))

    after = TaskManager(snapshot_db=place)
    after.task()(second.send)
    async with after:
        assert await results(after, *ids) == ["second to Ann", "Mailer", 7]


async def test_a_task_that_no_process_could_find_is_warned_of_once_and_refused_where_it_must_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with TaskManager(snapshot_db=str(tmp_path / "tasks.db")) as manager:
        with caplog.at_level(logging.WARNING, "fastapi_taskflow"):
            ids = [manager.add_task(first.send, "Ann"), manager.add_task(second.send, "Bob")]
        assert await results(manager, *ids) == ["first to Ann", "second to Bob"]
        assert caplog.text.count("Task send ends with this process") == 1
        with pytest.raises(UnnamedTaskError, match="Task 'send' cannot be found by another"):
            await manager.schedule_once(first.send, "Ann", run_at=None, run_key="a")  # type: ignore[arg-type]

    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware(store=f"sqlite:///{tmp_path}/other.db"))
    with pytest.raises(UnnamedTaskError):
        TaskManager(broker=broker).add_task(lambda: None)


@pytest.mark.parametrize("func", [first.send, lambda: None], ids=["method", "lambda"])
def test_what_a_process_could_not_import_is_refused_for_processes(func: Any) -> None:
    manager = TaskManager(snapshot_db="memory://")

    with pytest.raises(TaskOptionError, match="has to be one of a module"):
        manager.task(executor="process")(func)
    manager.task(executor="process")(hang)


async def test_a_process_is_heard_and_is_killed_when_it_does_not_end_in_time(
    tmp_path: Path,
) -> None:
    file, memory = tmp_path / "pid", InMemoryLogger()
    async with TaskManager(
        snapshot_db="memory://",
        max_process_workers=1,
        shutdown_timeout=0.01,
        process_shutdown_timeout=0.1,
        loggers=[memory],
    ) as manager:
        manager.task(executor="process")(tell)
        told = manager.add_task(tell, "hello")
        assert await results(manager, told) == [told]
        assert manager.store.get(told).logs[0].endswith(" hello")  # type: ignore[union-attr]
        (line,) = memory.log_events
        assert (line.message, line.task_id) == ("hello", told)
        assert line.extra["pid"] != os.getpid()

        manager.task(executor="process")(hang)
        task_id = manager.add_task(hang, str(file))
        async with asyncio.timeout(30):
            while not (file.exists() and file.read_text()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    record = manager.store.get(task_id)
    assert record is not None
    assert record.status is TaskStatus.INTERRUPTED
    async with asyncio.timeout(30):
        while is_there(int(file.read_text())):  # noqa: ASYNC110 - until it is collected
            await asyncio.sleep(0.001)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def leave() -> None:
    raise GeneratorExit("gone")


def test_whatever_a_task_raises_in_a_process_comes_back_as_text() -> None:
    """As an exception it would end the coroutine that waits for the process."""
    arguments = b'{"args":[],"kwargs":{}}'
    worked = work_off(Work(f"{__name__}:leave", "leave", arguments, "id", 0, {}))

    assert b"gone" in (worked.error or b"")
