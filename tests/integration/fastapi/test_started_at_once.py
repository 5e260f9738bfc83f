"""Tasks that begin as soon as they are stored: one call to the store for both, on every store."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fastapi_taskflow import TaskManager
from fastapi_taskflow.asgi import TaskMiddleware
from fastapi_taskflow.models import TaskRecord, TaskStatus
from taskiq_flow.exceptions import StoreUnavailableError
from taskiq_flow.optimization.parallel import set_max_parallel_tasks
from taskiq_flow.stores.base import RunStore
from taskiq_flow.stores.memory import MemoryRunStore

began: list[str] = []

LATE_SECONDS = 5.0
"""A task whose lease has to run out first comes later than this: a lease lasts 10 s."""


async def work(name: str) -> str:
    began.append(name)
    return name


def sync_work(name: str) -> str:
    began.append(name)
    return name


@pytest.fixture
def one_at_a_time() -> Iterator[None]:
    set_max_parallel_tasks(1)
    yield
    set_max_parallel_tasks(None)


@pytest.fixture(autouse=True)
def nothing_has_begun() -> None:
    began.clear()


@pytest.fixture(
    params=[
        "memory",
        "sqlite",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("postgres", marks=pytest.mark.postgres),
    ]
)
def url(request: pytest.FixtureRequest, url_of: Callable[[str], str | None]) -> str | None:
    return url_of(request.param)


class Asked:
    """A manager whose store's calls are counted, and may be made to wait or fail."""

    def __init__(self, url: str | None, monkeypatch: pytest.MonkeyPatch, **facts: Any) -> None:
        self.manager = TaskManager(snapshot_db=url, **facts)
        self.calls: list[str] = []
        self.began_before: list[str] = []  # the response of the latest request
        self.after: Callable[[str], Awaitable[None]] | None = None
        kind: type[RunStore] = type(self.manager.core.store)
        for name in ("create", "create_started", "start", "finish", "release", "get"):
            self._watch(monkeypatch, kind, name)

    def _watch(self, monkeypatch: pytest.MonkeyPatch, kind: type[RunStore], name: str) -> None:
        original = getattr(kind, name)

        async def asked(*args: Any, **facts: Any) -> Any:
            self.calls.append(name)
            answer = await original(*args, **facts)
            if self.after is not None:
                await self.after(name)
            return answer

        monkeypatch.setattr(kind, name, asked)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[TaskManager]:
        async with self.manager:
            yield self.manager

    async def request(self, add: Callable[[], Any]) -> Any:
        """Send a request that adds tasks, and return what it was told."""
        told: list[Any] = []

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            told.append(add())
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.began_before = [*began]

        await TaskMiddleware(app, self.manager)({"type": "http"}, _nothing, send)
        return told[0]


async def _nothing() -> Any:
    return {"type": "http.disconnect"}


async def record_of(manager: TaskManager, task_id: str) -> TaskRecord:
    assert await manager.wait([task_id], 30)
    record = await manager.store.aget(task_id)
    assert record is not None
    return record


async def test_a_task_of_a_request_is_stored_and_begun_in_one_call(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(url, monkeypatch)
    async with asked.open() as manager:
        for function in (work, sync_work):
            task_id = await asked.request(lambda f=function: manager.add_task(f, f.__name__))
            assert await manager.wait([task_id], 30)
            assert asked.calls == ["create_started", "finish"]
            record = await record_of(manager, task_id)
            assert (record.status, record.result) == (TaskStatus.SUCCESS, function.__name__)
            assert (record.retries_used, record.start_time) == (0, record.created_at)
            asked.calls.clear()

        assert began == ["work", "sync_work"]
        assert manager.queue_stats()[0]["finished"] == 2
        assert manager.queue_stats()[0]["running"] == 0


async def test_a_response_tells_of_no_task_that_is_started_and_not_begun(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies in between would leave it as interrupted, though it never ran."""
    asked = Asked(url, monkeypatch)
    names = [f"task {number}" for number in range(20)]
    async with asked.open() as manager:
        ids = await asked.request(lambda: [manager.add_task(work, name) for name in names])
        assert sorted(asked.began_before) == sorted(names)
        assert await manager.wait(ids, 30)


async def test_a_task_that_fails_before_it_begins_keeps_no_response_waiting(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(url, monkeypatch)

    async def broken(*_: Any) -> Any:
        raise LookupError("of its facts")

    async with asked.open() as manager:
        monkeypatch.setattr(manager.core._runner, "facts_of", broken)
        async with asyncio.timeout(30):
            task_id = await asked.request(lambda: manager.add_task(work, "never"))
        record = await record_of(manager, task_id)

    assert (record.status, began) == (TaskStatus.FAILED, [])


async def test_what_has_to_wait_is_stored_first_and_started_later(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(url, monkeypatch, max_concurrent_tasks=1)
    async with asked.open() as manager:
        ids = await asked.request(
            lambda: [
                manager.add_task(work, name, priority=priority)
                for name, priority in (("low", 1), ("high", 9), ("middle", 5))
            ]
        )
        assert await manager.wait(ids, 30)

    assert began == ["high", "middle", "low"]
    assert sorted(asked.calls) == sorted(
        ["create_started", "create", "create", "start", "start", *["finish"] * 3]
    )


async def test_a_task_whose_request_is_cancelled_while_it_is_stored_runs_soon(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is started already, but its request does not hear of that."""
    asked, is_stored = Asked(url, monkeypatch), asyncio.Event()

    async def hang(name: str) -> None:
        if name == "create_started":
            is_stored.set()
            await asyncio.Event().wait()

    async with asked.open() as manager:
        asked.after = hang
        request = asyncio.create_task(asked.request(lambda: manager.add_task(work, "given back")))
        async with asyncio.timeout(30):
            await is_stored.wait()
        asked.after = None
        request.cancel()
        await asyncio.wait([request])
        asked_at = time.monotonic()
        async with asyncio.timeout(30):
            while not began:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)

    assert request.cancelled()
    assert time.monotonic() - asked_at < LATE_SECONDS
    assert began == ["given back"]
    assert asked.manager.queue_stats()[0]["running"] == 0


async def test_a_request_that_is_cancelled_leaves_no_other_task_behind(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two tasks the first is stored and begun; the second is still being stored."""
    asked, may_go_on = Asked(url, monkeypatch), asyncio.Event()
    created = 0

    async def hang(name: str) -> None:
        nonlocal created
        created += name == "create_started"
        if name == "create_started" and created == 2:
            await may_go_on.wait()

    async with asked.open() as manager:
        asked.after = hang
        ids: list[str] = []
        request = asyncio.create_task(
            asked.request(
                lambda: ids.extend(manager.add_task(work, name) for name in ("first", "second"))
            )
        )
        async with asyncio.timeout(30):
            while not began or created < 2:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        records = [await manager.store.aget(task_id) for task_id in ids]
        assert {each.func_name for each in records if each is not None} == {"work"}
        assert TaskStatus.PENDING in {each.status for each in records if each is not None}
        assert len({each.status for each in records if each is not None}) == 2, "one has begun"
        request.cancel()
        await asyncio.wait([request])
        asked.after = None
        may_go_on.set()
        async with asyncio.timeout(LATE_SECONDS):
            while len(began) < 2:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            while manager.queue_stats()[0]["running"]:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)

    assert sorted(began) == ["first", "second"]


@pytest.mark.usefixtures("one_at_a_time")
async def test_a_store_that_does_not_take_a_task_leaves_its_place_to_others(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(url, monkeypatch, max_concurrent_tasks=1)

    async def fail(name: str) -> None:
        # Nor is it heard that the task is given back, or it could begin before the next one.
        if name == "release" or (name == "create_started" and asked.calls.count(name) == 1):
            raise StoreUnavailableError("it", "away")

    async with asked.open() as manager:
        asked.after = fail
        await asked.request(lambda: manager.add_task(work, "lost answer"))  # answered by a 503
        assert manager.queue_stats()[0]["running"] == 0
        task_id = await asked.request(lambda: manager.add_task(work, "next"))
        record = await record_of(manager, task_id)

    assert record.status is TaskStatus.SUCCESS
    assert began[0] == "next"


async def test_a_task_that_is_stored_while_its_application_stops_is_left_to_the_next_one(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given back, and not taken for one that was interrupted."""
    if url is None:
        pytest.skip("what is in memory ends with its process")
    asked, is_stored, has_stopped = Asked(url, monkeypatch), asyncio.Event(), asyncio.Event()

    async def hang(name: str) -> None:
        if name == "create_started":
            is_stored.set()
            await has_stopped.wait()

    await asked.manager.startup()
    asked.after = hang
    request = asyncio.create_task(asked.request(lambda: asked.manager.add_task(work, "later")))
    async with asyncio.timeout(30):
        await is_stored.wait()
    asked.after = None
    queues = asked.manager.core.queues
    stopping = asyncio.create_task(asked.manager.shutdown())
    while queues.begin is not None:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)
    await asyncio.wait([stopping], timeout=0.5)
    assert not stopping.done(), "it waits for the answer of its store"
    has_stopped.set()
    task_id = await request
    await stopping
    assert began == []
    assert asked.calls == ["create_started", "release"]

    async with TaskManager(snapshot_db=url) as following:
        asked_at = time.monotonic()
        following.task()(work)
        record = await record_of(following, task_id)

    assert record.status is TaskStatus.SUCCESS
    assert time.monotonic() - asked_at < LATE_SECONDS
    assert began == ["later"]


async def test_a_request_that_is_cancelled_before_it_stores_keeps_no_places(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(url, monkeypatch, max_concurrent_tasks=2)
    requests: list[asyncio.Task[Any]] = []

    def add_and_leave() -> None:
        for name in ("never", "neither"):
            asked.manager.add_task(work, name)
        asyncio.get_running_loop().call_soon(requests[0].cancel)

    async with asked.open() as manager:
        requests.append(asyncio.create_task(asked.request(add_and_leave)))
        await asyncio.wait(requests)
        await asyncio.sleep(0)
        assert requests[0].cancelled()
        assert manager.queue_stats()[0]["running"] == 0
        ids = await asked.request(lambda: [manager.add_task(work, name) for name in "ab"])
        assert await manager.wait(ids, 30)

    assert sorted(began) == ["a", "b"]  # they are stored side by side


async def test_a_store_of_ones_own_does_it_in_two_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryRunStore, "create_started", RunStore.create_started)
    asked = Asked(None, monkeypatch)
    async with asked.open() as manager:
        task_id = await asked.request(lambda: manager.add_task(work, "plain"))
        record = await record_of(manager, task_id)

    assert (record.status, began) == (TaskStatus.SUCCESS, ["plain"])
    assert asked.calls == ["create_started", "create", "start", "finish", "get"]


@pytest.mark.usefixtures("one_at_a_time")
async def test_a_task_that_has_no_room_in_the_process_is_started_when_there_is(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, may_end = Asked(url, monkeypatch), asyncio.Event()

    async def wait(name: str) -> None:
        began.append(name)
        await may_end.wait()

    async with asked.open() as manager:
        ids = [await asked.request(lambda: manager.add_task(wait, "first"))]
        async with asyncio.timeout(30):
            while not began:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        ids.append(await asked.request(lambda: manager.add_task(wait, "second")))
        assert asked.calls == ["create_started", "create"]
        may_end.set()
        assert await manager.wait(ids, 30)
        ids = [await asked.request(lambda: manager.add_task(wait, "third"))]
        assert await manager.wait(ids, 30)

    assert began == ["first", "second", "third"]
    assert asked.calls.count("create_started") == 2


async def test_a_task_whose_creation_was_obeyed_unheard_runs_when_it_is_added_again(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is started in the store, and nobody else would give it back: it may run only once."""
    asked = Asked(url, monkeypatch)

    async def fail(name: str) -> None:
        if name == "create_started":
            raise StoreUnavailableError("it", "away")

    async with asked.open() as manager:

        def add() -> str:
            return manager.add_task(work, "keyed", idempotency_key="key")

        asked.after = fail
        first = await asked.request(add)  # answered by a 503
        asked.after = None
        assert await asked.request(add) == first
        record = await record_of(manager, first)

    assert (record.status, began) == (TaskStatus.SUCCESS, ["keyed"])


async def test_a_task_that_is_cancelled_while_it_is_stored_never_begins(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, is_stored, may_go_on = Asked(url, monkeypatch), asyncio.Event(), asyncio.Event()

    async def hang(name: str) -> None:
        if name == "create_started":
            is_stored.set()
            await may_go_on.wait()

    async with asked.open() as manager:
        asked.after = hang
        ids: list[str] = []
        request = asyncio.create_task(
            asked.request(lambda: ids.append(manager.add_task(work, "cancelled")))
        )
        async with asyncio.timeout(30):
            await is_stored.wait()
        await manager.cancel(ids[0])
        may_go_on.set()
        await request
        record = await record_of(manager, ids[0])
        assert manager.queue_stats()[0]["running"] == 0
        await asyncio.sleep(0.1)

    assert (record.status, began) == (TaskStatus.CANCELLED, [])


async def test_a_task_of_two_requests_begins_at_once_though_the_first_one_is_cancelled(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first has its place, but the second has stored it."""
    asked, is_asked = Asked(url, monkeypatch), asyncio.Event()
    kind = type(asked.manager.core.store)

    async def hang(*_: Any) -> None:
        is_asked.set()
        await asyncio.Event().wait()

    async with asked.open() as manager:

        def add() -> str:
            return manager.add_task(work, "keyed", idempotency_key="key")

        with monkeypatch.context() as patch:
            patch.setattr(kind, "create_started", hang)
            first = asyncio.create_task(asked.request(add))
            async with asyncio.timeout(30):
                await is_asked.wait()
            task_id = await asked.request(add)
        first.cancel()
        asked_at = time.monotonic()
        record = await record_of(manager, task_id)

    assert time.monotonic() - asked_at < LATE_SECONDS
    assert (record.status, began) == (TaskStatus.SUCCESS, ["keyed"])


async def test_an_answer_that_comes_while_the_engine_stops_has_its_task_given_back(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its request is told that it will run, so its lease may not just run out."""
    if url is None:
        pytest.skip("what is in memory ends with its process")
    asked, is_stored = Asked(url, monkeypatch), asyncio.Event()
    engine_stops = asyncio.Event()
    await asked.manager.startup()
    engine = asked.manager.core.engine
    assert engine is not None
    dispatcher = engine.runtime.dispatcher
    stop = type(dispatcher).stop

    async def stop_slowly(self: Any) -> None:
        self.stopping = True
        engine_stops.set()
        await asyncio.wait([request])
        await stop(self)

    async def hang(name: str) -> None:
        if name == "create_started":
            is_stored.set()
            await engine_stops.wait()

    monkeypatch.setattr(type(dispatcher), "stop", stop_slowly)
    asked.after = hang
    request = asyncio.create_task(asked.request(lambda: asked.manager.add_task(work, "later")))
    async with asyncio.timeout(30):
        await is_stored.wait()
        await asked.manager.shutdown()
    monkeypatch.setattr(type(dispatcher), "stop", stop)
    task_id = await request
    assert began == []

    async with TaskManager(snapshot_db=url) as following:
        following.task()(work)
        record = await record_of(following, task_id)

    assert (record.status, began) == (TaskStatus.SUCCESS, ["later"])
