"""What background tasks promise where a start, an end, a cancel or a crash comes between."""

import asyncio
import gc
import html
import os
import re
import statistics
import threading
import time
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import httpx
import pytest
from fastapi import FastAPI
from taskiq import InMemoryBroker, TaskiqMessage, TaskiqMiddleware

from fastapi_taskflow import (
    QueueConfig,
    TaskAdmin,
    TaskManager,
    TaskStatus,
    get_task_context,
    task_log,
)
from fastapi_taskflow.exceptions import TaskNotStoredError
from fastapi_taskflow.loggers import LifecycleEvent, TaskObserver
from fastapi_taskflow.runner import Ended
from taskiq_flow import PipelineMiddleware
from taskiq_flow.model.records import RunStatus
from taskiq_flow.operations import Operations
from tests.support.hanging import die, tell


async def test_bounds_that_were_set_before_the_start_hold_for_whoever_asks_first() -> None:
    """The first question opens the store in its event loop, and begins the tasks there."""
    manager = TaskManager(snapshot_db="memory://", queues={"mail": QueueConfig(concurrency=9)})
    manager.update_queue_config("mail", concurrency=1, max_size=2)

    await manager.list_scheduled()
    try:
        stats = {each["name"]: each for each in manager.queue_stats()}
    finally:
        await manager.shutdown()

    assert (stats["mail"]["concurrency"], stats["mail"]["max_size"]) == (1, 2)


async def test_a_task_that_was_put_off_begins_when_it_is_due_and_not_at_the_next_look() -> None:
    """The engine looks for what is due about once a second."""
    late: list[float] = []

    async def note(due: float) -> None:
        late.append(time.time() - due)

    async with TaskManager(snapshot_db="memory://") as manager:
        for number in range(12):
            due = datetime.now(UTC) + timedelta(seconds=0.1 + number / 20)
            await manager.schedule_once(note, due.timestamp(), run_at=due, run_key=str(number))
        async with asyncio.timeout(20):
            while len(late) < 12:  # noqa: ASYNC110 - in the tasks themselves
                await asyncio.sleep(0.01)

    assert min(late) >= 0
    assert statistics.median(late) < 0.15


async def test_who_hears_of_the_end_of_a_task_finds_its_last_line(tmp_path: Path) -> None:
    """Also over another connection, and when lines come while others are being written."""
    found: list[list[str]] = []

    async def speak() -> None:
        task_log("first")
        for _ in range(3):
            await asyncio.sleep(0)  # it is on its way
        for _ in range(400):
            task_log("-" * 10_000)
        task_log("last")

    async with TaskManager(snapshot_db=tmp_path / "tasks.db") as manager:

        def look(run_id: str, status: RunStatus) -> None:
            record = manager.store.get(run_id)
            assert record is not None
            found.append(record.logs)

        store = await manager.core.opened_store()
        await store.listen(look)
        assert await manager.wait([manager.add_task(speak)], 20)

    ((*_, last_line),) = found
    assert last_line.endswith(" last")


async def test_nothing_is_kept_of_tasks_that_were_cancelled_while_they_ran() -> None:
    begun: list[str] = []

    async def stay() -> None:
        context = get_task_context()
        assert context is not None
        begun.append(context.task_id)
        await asyncio.Event().wait()

    async with TaskManager(snapshot_db="memory://") as manager:
        ids = [manager.add_task(stay) for _ in range(20)]
        async with asyncio.timeout(20):
            while len(begun) < 20:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for task_id in ids:
            await manager.cancel(task_id)
        assert await manager.wait(ids, 20)
        async with asyncio.timeout(20):
            while manager.queue_stats()[0]["running"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

        kept = [one for one in gc.get_objects() if isinstance(one, Ended)]
        statuses = {record.status for record in map(manager.store.get, ids) if record}

    assert kept == []
    assert statuses == {TaskStatus.CANCELLED}


async def test_a_process_that_dies_takes_its_task_with_it_and_is_replaced() -> None:
    async with TaskManager(snapshot_db="memory://", max_process_workers=1) as manager:
        for function in (die, tell):
            manager.task(executor="process")(function)
        dead = manager.add_task(die)
        assert await manager.wait([dead], 30)
        told = manager.add_task(tell, "hello")
        assert await manager.wait([told], 30)
        broken, next_one = manager.store.get(dead), manager.store.get(told)

    assert broken is not None
    assert next_one is not None
    assert (broken.status, next_one.status) == (TaskStatus.FAILED, TaskStatus.SUCCESS)
    assert broken.error is not None
    assert "process" in broken.error


async def test_processes_that_have_nothing_to_do_end_by_themselves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They were killed, with a warning that they had not ended in 0.0 s."""
    async with TaskManager(snapshot_db="memory://", max_process_workers=1) as manager:
        manager.task(executor="process")(tell)
        assert await manager.wait([manager.add_task(tell, "hello")], 30)

    assert not [record for record in caplog.records if "is killed" in record.message]


async def test_a_task_that_is_retried_where_pipelines_are_looked_at_goes_to_its_application(
    tmp_path: Path,
) -> None:
    """Both have one store; the broker of the pipelines has no worker that knows the task."""
    place, is_down, done = f"sqlite:///{tmp_path / 'runs.db'}", [True], asyncio.Event()

    async def deliver() -> None:
        if is_down:
            raise ConnectionError("down")
        done.set()

    class Sent(TaskiqMiddleware):
        names: ClassVar[list[str]] = []

        def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
            self.names.append(message.task_name)
            return message

    pipelines = InMemoryBroker().with_middlewares(Sent(), PipelineMiddleware(store=place))
    async with TaskManager(snapshot_db=place) as manager:
        manager.task()(deliver)
        failed = manager.add_task(deliver)
        assert await manager.wait([failed], 20)
        is_down.clear()

        async with await Operations.open(broker=pipelines) as operations:
            result = await operations.retry(failed, actor="me")
        async with asyncio.timeout(20):
            await done.wait()

    assert result.note is not None
    assert "or the application that it is a task of" in result.note
    assert Sent.names == []
    await pipelines.shutdown()


async def test_a_task_that_is_to_run_once_is_a_link_away_from_the_schedules() -> None:
    manager, app = TaskManager(snapshot_db="memory://"), FastAPI()
    TaskAdmin(app, manager, auth=False)

    async def remind() -> None: ...

    async with manager, httpx.AsyncClient(transport=httpx.ASGITransport(app)) as browser:
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        await manager.schedule_once(remind, run_at=tomorrow, run_key="k")
        page = await browser.get("http://test/tasks/dashboard/schedules")
        (link,) = re.findall(r'href="([^"]*tag=once[^"]*)"', page.text)
        runs = await browser.get(f"http://test{html.unescape(link)}")

    assert "remind" in runs.text


def test_a_task_that_the_store_did_not_take_takes_no_place(tmp_path: Path) -> None:
    """Otherwise a queue of bounded size would fill with tasks that nobody runs."""
    manager = TaskManager(
        snapshot_db=tmp_path / "nowhere" / "tasks.db",
        queues={"mail": QueueConfig(max_size=1)},
    )

    async def send() -> None: ...

    manager.task(queue="mail")(send)
    for _ in range(3):
        with pytest.raises(TaskNotStoredError):
            manager.add_task(send)
    assert manager.core.count_drafts("mail") == 0


async def test_a_cancelled_task_stops_at_once_and_leaves_its_place_in_the_queue() -> None:
    """Not only when leases are looked at, which is once a second, or when its turn would come."""
    begun, stopped = asyncio.Event(), asyncio.Event()
    queues = {"one": QueueConfig(concurrency=1, max_size=1)}

    async with TaskManager(queues=queues) as manager:

        @manager.task(queue="one")
        async def wait() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

        runs = manager.add_task(wait)
        await asyncio.wait_for(begun.wait(), 20)
        for _ in range(3):  # each takes the only place that there is for those that wait
            await manager.cancel(manager.add_task(wait))
        assert not stopped.is_set()
        await manager.cancel(runs)
        for _ in range(100):
            await asyncio.sleep(0)

        assert stopped.is_set()


def test_a_process_that_was_forked_after_a_question_gets_its_answers(tmp_path: Path) -> None:
    """As the workers of a server that loads the application first: a fork takes no thread along."""
    manager = TaskManager(snapshot_db=str(tmp_path / "tasks.db"))

    async def send() -> None: ...

    manager.task()(send)
    task_id = manager.add_task(send)
    reads, writes = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of threads beside a fork
        process = os.fork()
    if process == 0:
        record = manager.store.get(task_id)
        os.write(writes, b"?" if record is None else record.status.encode())
        os._exit(0)
    os.waitpid(process, 0)

    assert os.read(reads, 100) == b"pending"
    for end in (reads, writes):
        os.close(end)


async def test_questions_from_other_event_loops_leave_no_connections_behind(
    tmp_path: Path,
) -> None:
    def threads() -> int:
        return sum(each.name == "taskiq-flow-sqlite" for each in threading.enumerate())

    async with TaskManager(snapshot_db=str(tmp_path / "tasks.db")) as manager:
        before = threads()
        for _ in range(5):
            await asyncio.to_thread(lambda: asyncio.run(manager.store.alist()))
            await manager.store.alist()

        # That of the latest loop is left behind when the next one asks.
        async with asyncio.timeout(20):
            while threads() > before + 1:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)


async def test_a_task_that_asks_its_manager_while_the_application_stops_opens_nothing_again(
    tmp_path: Path,
) -> None:
    """It would take the engine away from what runs there, and the next start would find no core."""
    begun = asyncio.Event()
    manager = TaskManager(snapshot_db=str(tmp_path / "tasks.db"))

    async def later() -> None: ...

    async def ask() -> None:
        begun.set()
        while manager.core.loop is not None:  # noqa: ASYNC110 - nothing tells of the stop
            await asyncio.sleep(0)
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        await manager.schedule_once(later, run_at=tomorrow, run_key="next")

    for func in (later, ask):
        manager.task()(func)
    async with manager:
        task_id = manager.add_task(ask)
        await asyncio.wait_for(begun.wait(), 20)

    assert manager.core.loop is None
    async with manager:
        record = await manager.store.aget(task_id)
        waiting = await manager.list_scheduled()
    assert record is not None
    assert (record.status, [each.run_key for each in waiting]) == ("success", ["next"])


@pytest.mark.parametrize("own_thread", [False, True])
async def test_what_an_observer_retries_while_the_application_stops_is_left_for_the_next_start(
    own_thread: bool, tmp_path: Path
) -> None:
    """It asks from a loop of its own, or when the engine has gone: neither is to open another."""
    begun, heard, threads = asyncio.Event(), list[str](), set(threading.enumerate())

    class Again(TaskObserver):
        async def on_lifecycle(self, event: LifecycleEvent) -> None:
            heard.append(event.status.value)
            while len(heard) == 2 and manager.core.engine is not None:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
            if len(heard) == 2:
                heard.append((await manager.retry(event.task_id)).task_id)

    observer: type[TaskObserver] = type("Again", (Again,), {"own_thread": own_thread})
    place = str(tmp_path / "tasks.db")
    manager = TaskManager(snapshot_db=place, loggers=[observer()], shutdown_timeout=0.1)

    @manager.task()
    async def work() -> None:
        first = not begun.is_set()
        begun.set()
        if first:
            await asyncio.sleep(60)

    async with manager:
        manager.add_task(work)
        await asyncio.wait_for(begun.wait(), 20)

    assert heard[:2] == ["running", "interrupted"]
    assert (manager.core.loop, manager.core.engine) == (None, None)
    # What a thread of its own has opened is left by whoever opens or closes something next.
    ends = "Again-events" if own_thread else "taskiq-flow-sqlite"
    for thread in set(threading.enumerate()) - threads:
        if thread.name == ends:
            thread.join(5)
            assert not thread.is_alive()
    async with manager:
        assert await manager.wait([heard[2]], timeout=20)
        record = await manager.store.aget(heard[2])
    assert record is not None
    assert record.status == "success"


async def test_an_event_loop_of_its_own_in_a_sync_task_takes_nothing_away_from_the_application(
    tmp_path: Path,
) -> None:
    """`asyncio.run` in a route or a task: what runs, waits and is renewed here goes on."""
    begun = asyncio.Event()
    seen: list[object] = []
    threads = set(threading.enumerate())

    async with TaskManager(snapshot_db=str(tmp_path / "tasks.db")) as manager:

        @manager.task()
        async def long() -> None:
            begun.set()
            await asyncio.Event().wait()

        @manager.task()
        async def note(what: str) -> None:
            seen.append(what)

        async def beside(task_id: str) -> None:
            seen.append(await manager.wait([manager.add_task(note, "added")], 20))
            await manager.schedule_once(note, "put off", run_at=datetime.now(UTC), run_key="k")
            await manager.cancel(task_id)

        runs = manager.add_task(long)
        await asyncio.wait_for(begun.wait(), 20)
        here = manager.core.loop
        await asyncio.to_thread(lambda: asyncio.run(beside(runs)))
        async with asyncio.timeout(20):
            while "put off" not in seen:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
        record = await manager.store.aget(runs)
        assert manager.core.loop is here

    assert seen[:2] == ["added", True]
    assert record is not None
    assert record.status is TaskStatus.CANCELLED
    for thread in set(threading.enumerate()) - threads:
        if thread.name.startswith("taskiq-flow"):
            thread.join(5)
            assert not thread.is_alive(), thread.name
