"""Background tasks of FastAPI: what a task is, how it ends, and what its record shows."""

import asyncio
import contextvars
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel
from taskiq import InMemoryBroker

from fastapi_taskflow.exceptions import (
    QueueConfigError,
    QueueFullError,
    TaskArgumentError,
    TaskGoneError,
    TaskOptionError,
    TaskStateError,
)
from fastapi_taskflow.loggers import InMemoryLogger
from fastapi_taskflow.manager import TaskManager
from fastapi_taskflow.models import QueueConfig, TaskStatus
from fastapi_taskflow.queues import STARTING_MOST
from fastapi_taskflow.runner import task_progress
from fastapi_taskflow.settings import url_of
from fastapi_taskflow.task_log import task_log
from taskiq_flow import PipelineMiddleware


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where tasks live: in memory, or in a file."""
    return "memory://" if request.param == "memory" else str(tmp_path / "tasks.db")


@pytest.fixture
async def manager(place: str) -> AsyncIterator[TaskManager]:
    async with TaskManager(
        snapshot_db=place,
        shutdown_timeout=0.2,
        queues={
            "slow": QueueConfig(concurrency=1),
            "small": QueueConfig(concurrency=1, max_size=1),
        },
    ) as manager:
        yield manager


async def ended(manager: TaskManager, *task_ids: str) -> list[Any]:
    """The records of tasks when all of them have ended."""
    assert await manager.wait(task_ids, 20)
    return [manager.store.get(task_id) for task_id in task_ids]


async def until(holds: Callable[[], object]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - nobody could tell
            await asyncio.sleep(0.001)


class Colour(Enum):
    RED = "red"


class User(BaseModel):
    name: str


@dataclass
class Point:
    x: int


async def test_arguments_keep_their_types_by_the_annotations_of_the_function(
    manager: TaskManager,
) -> None:
    got: list[Any] = []

    @manager.task()
    async def take(
        user: User, at: datetime, *, key: UUID, price: Decimal, colour: Colour, point: Point
    ) -> User:
        got.extend([user, at, key, price, colour, point])
        return user

    now, key = datetime.now(UTC), UUID(int=7)
    sent = (User(name="Ann"), now, key, Decimal("1.10"), Colour.RED, Point(3))
    task_id = manager.add_task(
        take, *sent[:2], key=key, price=sent[3], colour=sent[4], point=sent[5]
    )

    (record,) = await ended(manager, task_id)
    assert got == list(sent)
    assert record.status is TaskStatus.SUCCESS
    assert record.result == {"name": "Ann"}


async def test_what_cannot_be_stored_is_refused_with_the_name_of_its_parameter(
    manager: TaskManager,
) -> None:
    @manager.task()
    def save(path: str, lock: object) -> None: ...

    with pytest.raises(TaskArgumentError, match="'lock' of task 'save'"):
        manager.add_task(save, "x", threading.Lock())
    with pytest.raises(TaskArgumentError, match="missing a required argument: 'lock'"):
        manager.add_task(save, "x")

    @manager.task()
    def note(**facts: str) -> None: ...

    with pytest.raises(TaskArgumentError, match="lone surrogates"):  # JSON may have them
        manager.add_task(note, **{"\ud800": "x"})

    assert manager.store.list() == []


async def test_a_task_is_retried_as_often_as_it_says_and_its_record_counts(
    manager: TaskManager,
) -> None:
    tries: list[int] = []

    @manager.task(retries=3, delay=0.01)
    async def flaky() -> str:
        task_log(f"try {len(tries)}")
        tries.append(1)
        if len(tries) < 3:
            raise OSError("not yet")
        return "ok"

    (record,) = await ended(manager, manager.add_task(flaky))

    assert (record.status, record.retries_used, record.result) == ("success", 2, "ok")
    assert [line.partition(" ")[2] for line in record.logs] == [
        "try 0",
        "Retry 1 ---",
        "try 1",
        "Retry 2 ---",
        "try 2",
    ]


async def test_filters_choose_which_errors_are_retried(manager: TaskManager) -> None:
    tries: list[str] = []

    @manager.task(retries=3, retry_on=OSError, no_retry_on=FileNotFoundError)
    def fail(kind: str) -> None:
        tries.append(kind)
        raise {"io": OSError, "missing": FileNotFoundError, "value": ValueError}[kind](kind)

    records = await ended(
        manager, *(manager.add_task(fail, kind) for kind in ("io", "missing", "value"))
    )

    assert [tries.count(kind) for kind in ("io", "missing", "value")] == [4, 1, 1]
    assert [record.retries_used for record in records] == [3, 0, 0]
    assert [record.error for record in records] == ["io", "missing", "value"]
    assert "ValueError" in records[2].stacktrace


async def test_an_attempt_that_takes_too_long_fails(manager: TaskManager) -> None:
    @manager.task(timeout=0.05)
    async def hang() -> None:
        await asyncio.Event().wait()

    (record,) = await ended(manager, manager.add_task(hang))

    assert record.status is TaskStatus.FAILED
    assert record.error == "Task 'hang' took longer than its timeout of 0.05 s."


@pytest.mark.parametrize("error", [StopIteration, GeneratorExit])
async def test_a_sync_task_that_raises_what_no_future_can_hold_fails(
    error: type[BaseException],
) -> None:
    """`GeneratorExit` would end who waits for the thread, and the task would begin for ever."""
    async with TaskManager(snapshot_db="memory://") as manager:

        @manager.task()
        def work() -> None:
            raise error

        (record,) = await ended(manager, manager.add_task(work))

    assert (record.status, record.error) == ("failed", f"task 'work' raised {error.__name__}")


async def test_sys_exit_ends_the_task_and_nothing_else(manager: TaskManager) -> None:
    @manager.task()
    async def leave() -> None:
        sys.exit(3)

    @manager.task()
    def leave_thread() -> None:
        sys.exit("bye")

    records = await ended(manager, manager.add_task(leave), manager.add_task(leave_thread))

    assert [record.error for record in records] == [
        "Task 'leave' called sys.exit(3).",
        "Task 'leave_thread' called sys.exit('bye').",
    ]


async def test_a_cancelled_pending_task_never_runs(manager: TaskManager) -> None:
    ran: list[str] = []
    go_on = asyncio.Event()

    @manager.task(queue="slow")
    async def work(name: str) -> None:
        ran.append(name)
        await go_on.wait()

    first, second, third = (manager.add_task(work, name) for name in ("a", "b", "c"))
    record = await manager.cancel(second)
    go_on.set()
    await ended(manager, first, third)

    assert record.status is TaskStatus.CANCELLED
    assert ran == ["a", "c"]
    with pytest.raises(TaskStateError, match="cannot be cancelled"):
        await manager.cancel(second)


async def test_of_two_who_cancel_a_task_at_once_the_later_hears_that_it_is_cancelled(
    manager: TaskManager,
) -> None:
    @manager.task()
    async def hang() -> None:
        await asyncio.sleep(60)

    task_id = manager.add_task(hang)
    both = await asyncio.gather(*(manager.cancel(task_id) for _ in "ab"), return_exceptions=True)
    (refused,) = [each for each in both if isinstance(each, TaskStateError)]

    assert refused.status == TaskStatus.CANCELLED


async def test_a_running_task_is_cancelled_at_once(manager: TaskManager) -> None:
    seen: list[str] = []
    started = asyncio.Event()

    @manager.task()
    async def hang() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    task_id = manager.add_task(hang)
    await started.wait()
    record = await manager.cancel(task_id)
    await until(lambda: seen)

    assert record.status is TaskStatus.CANCELLED


async def test_a_task_is_cancelled_during_the_pause_before_a_retry(manager: TaskManager) -> None:
    tries: list[int] = []
    failed = asyncio.Event()

    @manager.task(retries=5, delay=60)
    async def fail() -> None:
        tries.append(1)
        failed.set()
        raise ValueError

    task_id = manager.add_task(fail)
    await failed.wait()
    record = await manager.cancel(task_id)

    assert record.status is TaskStatus.CANCELLED
    assert tries == [1]


async def test_a_high_priority_task_behind_twenty_low_ones_runs_next(place: str) -> None:
    order: list[str] = []
    go_on = asyncio.Event()
    async with TaskManager(snapshot_db=place, max_concurrent_tasks=1) as manager:

        @manager.task()
        async def work(name: str) -> None:
            order.append(name)
            await go_on.wait()

        ids = [manager.add_task(work, f"low{n}", priority=1) for n in range(20)]
        await until(lambda: order)
        ids.append(manager.add_task(work, "high", priority=9))
        go_on.set()
        await ended(manager, *ids)

    assert order[:3] == ["low0", "high", "low1"]
    assert order[3:] == [f"low{n}" for n in range(2, 20)]


async def test_priorities_hold_on_a_broker_too_for_a_queue_with_a_bound(place: str) -> None:
    order: list[str] = []
    go_on, all_wait = asyncio.Event(), asyncio.Event()
    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware(store=url_of(place)))
    queues = {"mail": QueueConfig(concurrency=1)}
    async with TaskManager(broker=broker, queues=queues) as manager:

        @manager.task(queue="mail")
        async def work(name: str) -> None:
            order.append(name)
            await go_on.wait()

        @manager.task()
        async def last() -> None:
            all_wait.set()

        ids = [manager.add_task(work, "first")]
        await until(lambda: order)
        ids += [manager.add_task(work, name, priority=n) for n, name in enumerate("dcba", 1)]
        ids += [manager.add_task(work, name, priority=9) for name in ("high", "next")]
        ids.append(manager.add_task(last))
        await all_wait.wait()
        go_on.set()
        await ended(manager, *ids)
    await broker.shutdown()

    assert order == ["first", "high", "next", "a", "b", "c", "d"]


async def test_tasks_that_wait_inside_keep_no_others_from_beginning() -> None:
    inside: list[int] = []
    go_on = asyncio.Event()
    async with TaskManager(snapshot_db="memory://") as manager:

        @manager.task()
        async def work(number: int) -> None:
            inside.append(number)
            await go_on.wait()

        ids = [manager.add_task(work, number) for number in range(2 * STARTING_MOST)]
        await until(lambda: len(inside) == 2 * STARTING_MOST)
        go_on.set()
        await ended(manager, *ids)


async def test_sync_tasks_share_the_threads_by_priority_too(place: str) -> None:
    order: list[str] = []
    go_on = threading.Event()
    async with TaskManager(snapshot_db=place, max_sync_threads=1) as manager:

        @manager.task()
        def work(name: str) -> None:
            order.append(name)
            assert go_on.wait(10)

        ids = [manager.add_task(work, f"low{n}") for n in range(5)]
        await until(lambda: order)
        ids.append(manager.add_task(work, "high", priority=9))
        go_on.set()
        await ended(manager, *ids)

    assert order[:2] == ["low0", "high"]


async def test_a_full_queue_refuses_a_task_and_leaves_a_record(manager: TaskManager) -> None:
    go_on = asyncio.Event()
    started = asyncio.Event()

    @manager.task(queue="small")
    async def work() -> None:
        started.set()
        await go_on.wait()

    running = manager.add_task(work)
    await started.wait()
    waiting = manager.add_task(work)
    with pytest.raises(QueueFullError, match="'small' is full: 1 tasks wait"):
        manager.add_task(work)
    go_on.set()
    await ended(manager, running, waiting)
    await until(lambda: manager.store.list(TaskStatus.REJECTED))

    (refused,) = manager.store.list(TaskStatus.REJECTED)
    assert refused.end_time is not None
    (stats,) = [each for each in manager.queue_stats() if each["name"] == "small"]
    assert (stats["rejected"], stats["finished"], stats["running"]) == (1, 2, 0)


async def test_bounds_of_a_busy_queue_change_at_once_and_for_good(place: str) -> None:
    running: set[int] = set()
    most: list[int] = []
    go_on = asyncio.Event()

    def make() -> TaskManager:
        return TaskManager(snapshot_db=place, queues={"mail": QueueConfig(concurrency=2)})

    async with make() as manager:

        @manager.task(queue="mail")
        async def work(number: int) -> None:
            running.add(number)
            most.append(len(running))
            await go_on.wait()
            running.discard(number)

        ids = [manager.add_task(work, number) for number in range(12)]
        await until(lambda: len(running) == 2)
        assert manager.update_queue_config("mail", concurrency=3)["concurrency"] == 3
        await until(lambda: len(running) == 3)
        manager.update_queue_config("mail", concurrency=1, max_size=50)
        go_on.set()
        await ended(manager, *ids)
        with pytest.raises(QueueConfigError, match="concurrency=0 must be a whole number"):
            manager.update_queue_config("mail", concurrency=0)
        assert max(most) == 3
        assert manager.update_queue_config("mail", concurrency=4)["max_size"] == 50

    if place == "memory://":
        return
    async with make() as again:
        (stats,) = [each for each in again.queue_stats() if each["name"] == "mail"]
        assert (stats["concurrency"], stats["max_size"]) == (4, 50)


async def test_a_task_with_a_key_runs_once_unless_it_fails(manager: TaskManager) -> None:
    ran: list[str] = []

    @manager.task()
    async def charge(name: str) -> None:
        ran.append(name)
        if len(ran) == 1:
            raise ValueError

    first = manager.add_task(charge, "failing", idempotency_key="order-1")
    await ended(manager, first)
    second = manager.add_task(charge, "working", idempotency_key="order-1")
    again = manager.add_task(charge, "never", idempotency_key="order-1")
    await ended(manager, second)
    later = manager.add_task(charge, "never", idempotency_key="order-1")

    assert first != second
    assert second == again == later
    assert ran == ["failing", "working"]


async def test_a_failed_task_is_run_again_with_all_that_it_had(place: str) -> None:
    ran: list[Any] = []
    async with TaskManager(snapshot_db=place, retry_replaces_original=False) as manager:

        @manager.task(name="Charge a card")
        async def charge(user: User, *, amount: int) -> None:
            ran.append((user, amount))
            if len(ran) == 1:
                raise ValueError

        task_id = manager.add_task(
            charge,
            User(name="Ann"),
            amount=3,
            tags={"tenant": "a"},
            priority=4,
            idempotency_key="k",
        )
        await ended(manager, task_id)
        again = await manager.retry(task_id)
        (record,) = await ended(manager, again.task_id)

        assert ran == [(User(name="Ann"), 3)] * 2
        assert (record.tags, record.priority, record.idempotency_key) == ({"tenant": "a"}, 4, "k")
        assert record.func_name == "Charge a card"
        assert manager.add_task(charge, User(name="x"), amount=0, idempotency_key="k") == (
            again.task_id
        )
        assert manager.store.get(task_id).status is TaskStatus.FAILED
        with pytest.raises(TaskStateError, match="it has succeeded"):
            await manager.retry(again.task_id)
        with pytest.raises(TaskGoneError, match="there is no such task"):
            await manager.retry("nothing")


async def test_two_who_run_a_failed_task_again_at_once_run_it_once(manager: TaskManager) -> None:
    ran: list[int] = []

    @manager.task()
    async def charge() -> None:
        ran.append(1)
        if len(ran) == 1:
            raise ValueError

    task_id = manager.add_task(charge)
    await ended(manager, task_id)
    made = await asyncio.gather(*(manager.retry(task_id) for _ in range(3)), return_exceptions=True)
    records = [each for each in made if not isinstance(each, TaskGoneError)]
    await ended(manager, *(record.task_id for record in records))

    assert len({record.task_id for record in records}) == 1
    assert len(ran) == 2


@pytest.mark.parametrize("replaces", [True, False])
async def test_each_retry_of_a_failed_task_with_a_key_runs_until_one_has_succeeded(
    place: str, replaces: bool
) -> None:
    """Older failures of a key are no reason to run nothing, nor to run again what succeeded."""
    ran: list[int] = []

    async def charge() -> None:
        ran.append(1)
        if len(ran) < 4:
            raise ValueError

    async with TaskManager(snapshot_db=place, retry_replaces_original=replaces) as manager:
        manager.task()(charge)
        first = manager.add_task(charge, idempotency_key="order-17")
        await ended(manager, first)
        second = manager.add_task(charge, idempotency_key="order-17")
        await ended(manager, second)
        for task_id in (first, second):
            again = await manager.retry(task_id)
            (record,) = await ended(manager, again.task_id)
        if not replaces:
            assert (await manager.retry(first)).task_id == record.task_id

    assert (record.status, len(ran)) == (TaskStatus.SUCCESS, 4)


@pytest.mark.parametrize("key", [None, "order-17"])
async def test_a_retry_that_a_full_queue_refused_is_made_when_there_is_room(
    manager: TaskManager, key: str | None
) -> None:
    """The record of the refusal is no task that would take the place of the original."""
    ran: list[int] = []
    has_begun, block = asyncio.Event(), asyncio.Event()
    manager.update_queue_config("default", concurrency=1, max_size=1)

    @manager.task()
    async def charge() -> None:
        ran.append(1)
        if len(ran) == 1:
            raise ValueError

    @manager.task()
    async def wait() -> None:
        has_begun.set()
        await block.wait()

    task_id = manager.add_task(charge, idempotency_key=key)
    await ended(manager, task_id)
    runs = manager.add_task(wait)
    await has_begun.wait()  # by then it is no task that waits, in the store as well
    waits = manager.add_task(wait)
    with pytest.raises(QueueFullError):
        await manager.retry(task_id)
    block.set()
    await ended(manager, runs, waits)
    again = await manager.retry(task_id)
    (record,) = await ended(manager, again.task_id)

    assert (record.status, len(ran)) == (TaskStatus.SUCCESS, 2)


async def test_encrypted_arguments_are_read_with_the_old_key_and_written_with_the_new_one(
    tmp_path: Path,
) -> None:
    from cryptography.fernet import Fernet  # noqa: PLC0415 - an extra

    old, new = Fernet.generate_key(), Fernet.generate_key()
    got: list[str] = []
    file = tmp_path / "tasks.db"

    async def tell(secret: str) -> None:
        got.append(secret)
        if len(got) == 1:
            raise ValueError

    async with TaskManager(snapshot_db=str(file), encrypt_args_key=old) as manager:
        manager.task(name="tell")(tell)
        task_id = manager.add_task(tell, "4111-1111")
        (record,) = await ended(manager, task_id)
        assert record.encrypted_payload is not None
        assert (record.args, record.kwargs) == ((), {})
    async with TaskManager(snapshot_db=str(file), encrypt_args_key=[new, old]) as manager:
        manager.task(name="tell")(tell)
        again = await manager.retry(task_id)
        await ended(manager, again.task_id)

    assert got == ["4111-1111", "4111-1111"]
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir())  # noqa: ASYNC240
    assert b"4111-1111" not in everything


async def test_tasks_of_an_earlier_process_run_when_the_next_one_starts(tmp_path: Path) -> None:
    got: list[Any] = []
    file = str(tmp_path / "tasks.db")

    def make() -> TaskManager:
        manager = TaskManager(snapshot_db=file)

        async def greet(user: User) -> None:
            got.append(user)

        manager.task()(greet)
        return manager

    before = make()
    task = next(iter(before.registry))
    task_id = before.add_task(task.func, User(name="Ann"), tags={"tenant": "a"})

    async with make() as manager:
        (record,) = await ended(manager, task_id)

    assert got == [User(name="Ann")]
    assert record.tags == {"tenant": "a"}
    assert record.status is TaskStatus.SUCCESS


@pytest.mark.parametrize("broker", [None, InMemoryBroker()], ids=["here", "broker"])
async def test_a_task_that_is_added_before_the_start_runs_when_it_has_started(
    broker: InMemoryBroker | None,
) -> None:
    place = "memory://" if broker is None else None
    manager = TaskManager(snapshot_db=place, broker=broker)
    manager.task()(sys.intern)

    task_id = manager.add_task(sys.intern, "early")

    async with manager:
        (record,) = await ended(manager, task_id)
    assert record.result == "early"


async def test_what_runs_when_the_application_stops_is_interrupted_or_run_again(
    tmp_path: Path,
) -> None:
    started: list[str] = []
    block = asyncio.Event()

    def make() -> TaskManager:
        manager = TaskManager(snapshot_db=str(tmp_path / "tasks.db"), shutdown_timeout=0.05)

        async def once() -> None:
            started.append("once")
            await block.wait()

        async def again() -> None:
            started.append("again")
            await block.wait()

        manager.task()(once)
        manager.task(requeue_on_interrupt=True)(again)
        return manager

    async with make() as manager:
        first, second = (manager.add_task(task.func) for task in manager.registry)
        await until(lambda: len(started) == 2)
    block.set()
    async with make() as manager:
        records = await ended(manager, first, second)

    assert [record.status for record in records] == ["interrupted", "success"]
    assert [record.retries_used for record in records] == [0, 0]
    assert sorted(started) == ["again", "again", "once"]


async def test_observers_hear_of_each_status_after_it_is_recorded(place: str) -> None:
    memory = InMemoryLogger()
    async with TaskManager(snapshot_db=place, loggers=[memory]) as manager:

        @manager.task(retries=1)
        def fail() -> None:
            task_log("charging", amount=99)
            raise ValueError("no money")

        task_id = manager.add_task(fail, tags={"tenant": "a"})
        await ended(manager, task_id)
        await until(lambda: len(memory.lifecycle_events) == 2)

    assert [event.status for event in memory.lifecycle_events] == ["running", "failed"]
    last = memory.lifecycle_events[-1]
    assert (last.error, last.retries_used, last.tags) == ("no money", 1, {"tenant": "a"})
    assert last.duration is not None
    assert [(event.message, event.attempt, event.extra) for event in memory.log_events] == [
        ("charging", 0, {"amount": 99}),
        ("--- Retry 1 ---", 1, {}),
        ("charging", 1, {"amount": 99}),
    ]


async def test_observers_hear_that_the_end_of_the_application_interrupted_a_task(
    place: str,
) -> None:
    memory, begun = InMemoryLogger(), asyncio.Event()
    async with TaskManager(snapshot_db=place, loggers=[memory], shutdown_timeout=0.1) as manager:

        @manager.task()
        async def wait() -> None:
            begun.set()
            await asyncio.Event().wait()

        manager.add_task(wait)
        await asyncio.wait_for(begun.wait(), 20)

    assert [event.status for event in memory.lifecycle_events] == ["running", "interrupted"]


async def test_a_task_sees_the_context_variables_of_who_added_it(manager: TaskManager) -> None:
    trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="none")
    seen: list[str] = []

    @manager.task()
    async def look() -> None:
        seen.append(trace.get())

    @manager.task()
    def look_in_thread() -> None:
        seen.append(trace.get())

    trace.set("abc")
    ids = [manager.add_task(look), manager.add_task(look_in_thread)]
    trace.set("other")
    ids.append(manager.add_task(look))
    trace.set("none of them")
    await ended(manager, *ids)

    assert sorted(seen) == ["abc", "abc", "other"]


async def test_a_task_that_waits_for_its_time_is_listed_replaced_and_cancelled(
    manager: TaskManager,
) -> None:
    ran: list[str] = []

    @manager.task()
    async def remind(name: str) -> None:
        ran.append(name)

    tomorrow = datetime.now(UTC) + timedelta(days=1)
    await manager.schedule_once(remind, "first", run_at=tomorrow, run_key="a")
    await manager.schedule_once(remind, "second", run_at=tomorrow, run_key="a")
    await manager.schedule_once(remind, "third", run_at=tomorrow + timedelta(days=800), run_key="b")
    listed = await manager.list_scheduled()
    assert [(each.run_key, each.args) for each in listed] == [("a", ("second",)), ("b", ("third",))]
    assert len(await manager.list_scheduled(before=tomorrow + timedelta(hours=1))) == 1
    assert await manager.cancel_scheduled("a")
    assert not await manager.cancel_scheduled("a")

    await manager.schedule_once(remind, "now", run_at=datetime.now(UTC), run_key="b")
    await until(lambda: ran)
    assert ran == ["now"]


async def test_a_task_that_waits_for_its_time_has_its_idempotency_key(manager: TaskManager) -> None:
    ran: list[str] = []
    charge, put_off = charging(manager, ran)

    await put_off("failing", "a")
    await put_off("never", "b")
    (waiting,) = await manager.list_scheduled()
    assert (waiting.run_key, waiting.args) == ("a", ("failing",))
    first = manager.add_task(charge, "never", idempotency_key="order-1")
    assert ran == []

    await put_off("failing", "a", days=0)  # another time for the one that waits
    await until(lambda: manager.queue_stats()[0]["finished"])
    assert ran == ["failing"]
    assert manager.store.get(first).status is TaskStatus.CANCELLED

    await put_off("working", "a")
    await manager.cancel_scheduled("a")
    second = manager.add_task(charge, "working", idempotency_key="order-1")
    await ended(manager, second)
    await put_off("never", "a", days=0)

    assert second == manager.add_task(charge, "never", idempotency_key="order-1")
    assert await manager.list_scheduled() == []
    assert ran == ["failing", "working"]


async def test_a_task_that_waited_for_its_time_keeps_its_key_when_older_ones_are_forgotten(
    manager: TaskManager,
) -> None:
    ran: list[str] = []
    charge, put_off = charging(manager, ran)

    first = manager.add_task(charge, "failing", idempotency_key="order-1")
    await ended(manager, first)
    await put_off("working", "a", days=0)
    await until(lambda: manager.queue_stats()[0]["finished"] == 2)
    await manager.run_store.delete(first)

    await put_off("never", "b", days=0)
    manager.add_task(charge, "never", idempotency_key="order-1")
    assert ran == ["failing", "working"]
    assert len((await manager.store.alist()).tasks) == 1


def charging(
    manager: TaskManager, ran: list[str]
) -> tuple[Callable[[str], Awaitable[None]], Callable[..., Awaitable[None]]]:
    """A task, and what puts it off by days, under a run key and one idempotency key."""

    @manager.task()
    async def charge(name: str) -> None:
        ran.append(name)
        if name == "failing":
            raise ValueError

    async def put_off(name: str, run_key: str, days: int = 1) -> None:
        when = datetime.now(UTC) + timedelta(days=days)
        await manager.schedule_once(
            charge, name, run_at=when, run_key=run_key, idempotency_key="order-1"
        )

    return charge, put_off


async def test_a_task_says_how_far_it_is(manager: TaskManager) -> None:
    @manager.task()
    async def work() -> None:
        task_progress(3, 10, "three of ten")
        await asyncio.sleep(0)

    (record,) = await ended(manager, manager.add_task(work))
    await until(lambda: manager.store.get(record.task_id).progress)

    assert manager.store.get(record.task_id).progress == {
        "current": 3,
        "total": 10,
        "message": "three of ten",
    }


@pytest.mark.parametrize("result", [threading.Lock(), "x" * (16 * 1024 * 1024)])
async def test_a_result_that_cannot_be_stored_does_not_fail_the_task(
    manager: TaskManager, result: object
) -> None:
    @manager.task()
    async def work() -> object:
        return result

    (record,) = await ended(manager, manager.add_task(work))

    assert (record.status, record.result) == (TaskStatus.SUCCESS, None)


async def test_a_lambda_runs_and_is_tracked(manager: TaskManager) -> None:
    got: list[int] = []

    (record,) = await ended(manager, manager.add_task(lambda: got.append(3)))

    assert got == [3]
    assert record.status is TaskStatus.SUCCESS


def test_an_executor_that_does_not_fit_is_refused_at_decoration() -> None:
    manager = TaskManager(snapshot_db="memory://")

    with pytest.raises(TaskOptionError, match="a plain function needs 'thread' or 'process'"):
        manager.task(executor="async")(sys.exit)


async def test_two_functions_of_one_name_are_two_tasks(manager: TaskManager) -> None:
    def make(name: str) -> Any:
        def work() -> str:
            return name

        return manager.task()(work)

    one, other = make("one"), make("other")
    records = await ended(manager, manager.add_task(one), manager.add_task(other))

    assert [record.result for record in records] == ["one", "other"]
