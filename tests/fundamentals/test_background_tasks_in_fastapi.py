"""Background tasks in FastAPI applications: how routes get them, and what a response promises."""

import asyncio
import gc
import sqlite3
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from fastapi_taskflow.asgi import TaskMiddleware
from fastapi_taskflow.core import STORED_TOGETHER
from fastapi_taskflow.exceptions import QueueFullError, TaskNotStoredError
from fastapi_taskflow.loggers import TaskObserver
from fastapi_taskflow.manager import TaskManager
from fastapi_taskflow.models import QueueConfig, TaskStatus
from fastapi_taskflow.requests import tasks_of_request
from fastapi_taskflow.tasks import ManagedBackgroundTasks
from taskiq_flow.exceptions import StoreUnavailableError
from taskiq_flow.stores.memory import MemoryRunStore


class Desk:
    """An application with a task, and what the task was given."""

    def __init__(self, **options: Any) -> None:
        self.got: list[Any] = []
        self.app = FastAPI(**options.pop("app", {}))
        self.manager = TaskManager(**options)

        @self.manager.task()
        async def note(what: str) -> None:
            self.got.append(what)

        self.note = note


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_every_documented_way_to_get_tasks_gives_managed_ones(kind: str, tmp_path: Path) -> None:
    desk = Desk(snapshot_db=str(tmp_path / "tasks.db"))
    app, manager, note = desk.app, desk.manager, desk.note
    manager.install(app)

    def plain(bt: BackgroundTasks) -> str:
        return bt.add_task(note, "plain")  # type: ignore[func-returns-value]

    def managed(bt: ManagedBackgroundTasks) -> str:
        return bt.add_task(note, "managed")

    def dependency(bt=Depends(manager.get_tasks)) -> str:  # noqa: B008
        return bt.add_task(note, "dependency")

    def alias(bt=Depends(manager.background_tasks)) -> str:  # noqa: B008
        return bt.add_task(note, "alias")

    for route in (plain, managed, dependency, alias):
        app.post(f"/{route.__name__}")(route if kind == "sync" else _as_async(route))

    with TestClient(app) as client:
        for path in ("plain", "managed", "dependency", "alias"):
            task_id = client.post(f"/{path}").json()
            assert manager.store.get(task_id).status is TaskStatus.SUCCESS  # type: ignore[union-attr]

    assert desk.got == ["plain", "managed", "dependency", "alias"]


def _as_async(route: Any) -> Any:
    async def wrapper(**given: Any) -> Any:
        return route(**given)

    wrapper.__signature__ = __import__("inspect").signature(route)  # type: ignore[attr-defined]
    return wrapper


def test_all_levels_of_a_request_share_one_object() -> None:
    desk = Desk()
    desk.manager.install(desk.app)
    seen: list[Any] = []

    def below(bt: BackgroundTasks) -> None:
        seen.append(bt)

    @desk.app.post("/")
    def route(bt: ManagedBackgroundTasks, _: None = Depends(below)) -> None:
        seen.append(bt)

    with TestClient(desk.app) as client:
        client.post("/")

    assert seen[0] is seen[1]


def _adding(task: Any) -> Any:
    def route(bt: BackgroundTasks) -> None:
        bt.add_task(task, "here")

    return route


def test_applications_each_have_their_own_manager_and_others_have_fastapis_tasks() -> None:
    one, other = Desk(), Desk()
    bare, kinds = FastAPI(), []
    one.manager.install(one.app)
    other.manager.install(other.app)
    for desk in (one, other):
        desk.app.post("/")(_adding(desk.note))

    @bare.post("/")
    def plain(bt: BackgroundTasks) -> None:
        kinds.append(type(bt))

    with TestClient(one.app) as first, TestClient(other.app) as second, TestClient(bare) as third:
        first.post("/")
        second.post("/")
        second.post("/")
        third.post("/")

    assert (one.got, other.got) == (["here"], ["here", "here"])
    assert kinds == [BackgroundTasks]


async def test_a_manager_of_two_applications_goes_on_until_both_have_ended() -> None:
    desk, other = Desk(), FastAPI()
    begun, free = asyncio.Event(), asyncio.Event()
    for app in (desk.app, other):
        desk.manager.init_app(app)

    @desk.manager.task()
    async def work() -> None:
        begun.set()
        await free.wait()

    async with desk.app.router.lifespan_context(desk.app):
        async with other.router.lifespan_context(other):
            task_id = desk.manager.add_task(work)
            await asyncio.wait_for(begun.wait(), 20)
        assert desk.manager.core.loop is asyncio.get_running_loop()
        free.set()
        assert await desk.manager.wait([task_id], timeout=20)
        record = await desk.manager.store.aget(task_id)

    assert record is not None
    assert record.status is TaskStatus.SUCCESS
    assert desk.manager.core.loop is None


async def test_a_manager_whose_start_fails_half_way_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk()
    desk.manager.init_app(desk.app)

    async def fail() -> None:
        assert desk.manager.core.engine is not None
        raise StoreUnavailableError("memory://", "it went away")

    with monkeypatch.context() as away:
        away.setattr(desk.manager.schedules, "open", fail)
        with pytest.raises(StoreUnavailableError):
            async with desk.app.router.lifespan_context(desk.app):
                pass
    assert desk.manager.core.engine is None

    async with desk.app.router.lifespan_context(desk.app):
        assert await desk.manager.wait([desk.manager.add_task(desk.note, "later")], 20)
    assert desk.got == ["later"]


def test_a_web_socket_stores_its_tasks_at_once() -> None:
    desk = Desk(snapshot_db="memory://")
    desk.manager.install(desk.app)

    @desk.app.websocket("/talk")
    async def talk(socket: WebSocket, bt: BackgroundTasks) -> None:
        await socket.accept()
        await socket.send_text(bt.add_task(desk.note, "said"))  # type: ignore[func-returns-value]
        await socket.receive_text()

    with TestClient(desk.app) as client, client.websocket_connect("/talk") as socket:
        task_id = socket.receive_text()
        assert client.portal is not None
        assert client.portal.call(desk.manager.wait, [task_id], 20)
        socket.send_text("enough")

    assert desk.got == ["said"]


def test_an_application_with_a_lifespan_of_its_own_keeps_it_and_its_state() -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        events.append("start")
        yield {"name": "state"}
        events.append("end")

    desk = Desk(app={"lifespan": lifespan})
    desk.manager.install(desk.app)

    @desk.app.post("/")
    def route(bt: BackgroundTasks) -> None:
        bt.add_task(desk.note, "x")

    for _ in range(2):  # the same application starts twice in one process
        with TestClient(desk.app) as client:
            assert client.post("/").status_code == 200

    assert events == ["start", "end", "start", "end"]
    assert desk.got == ["x", "x"]


def test_a_test_client_without_lifespan_runs_tasks_too(tmp_path: Path) -> None:
    desk = Desk(snapshot_db=str(tmp_path / "tasks.db"))
    desk.manager.install(desk.app)

    @desk.app.post("/")
    def route(bt: BackgroundTasks) -> None:
        bt.add_task(desk.note, "x")

    client = TestClient(desk.app)
    client.post("/")
    client.post("/")

    assert desk.got == ["x", "x"]


@pytest.mark.parametrize("is_hidden", [False, True], ids=["seen", "behind a middleware"])
def test_tasks_of_a_request_that_fails_are_not_run(is_hidden: bool) -> None:
    desk = Desk()
    if is_hidden:

        @desk.app.middleware("http")
        async def through(request: Any, call_next: Any) -> Any:
            return await call_next(request)

    desk.manager.install(desk.app)

    @desk.app.post("/refused")
    def refused(bt: BackgroundTasks) -> None:
        bt.add_task(desk.note, "never")
        raise HTTPException(409)

    @desk.app.post("/broken")
    def broken(bt: BackgroundTasks) -> None:
        bt.add_task(desk.note, "never")
        raise RuntimeError

    with TestClient(desk.app, raise_server_exceptions=False) as client:
        assert client.post("/refused").status_code == 409
        assert client.post("/broken").status_code == 500

    assert desk.got == []
    assert desk.manager.store.list() == []


def test_a_task_is_stored_before_the_first_byte_of_its_response(tmp_path: Path) -> None:
    desk = Desk(snapshot_db=str(tmp_path / "tasks.db"))
    stored: list[Any] = []

    class Watch:
        """Looks into the store when the response passes, around the application."""

        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def watched(message: Any) -> None:
                kind = message["type"]
                is_last = kind == "http.response.body" and not message.get("more_body")
                if kind == "http.response.start" or is_last:
                    stored.append(len((await desk.manager.store.alist()).tasks))
                await send(message)

            await self.app(scope, receive, watched)

    @desk.app.post("/")
    def route(bt: BackgroundTasks) -> StreamingResponse:
        bt.add_task(desk.note, "before")

        def body() -> Any:
            yield "a"
            bt.add_task(desk.note, "in the stream")
            yield "b"

        return StreamingResponse(body())

    desk.manager.install(desk.app)
    desk.app.add_middleware(Watch)
    with TestClient(desk.app) as client:
        assert client.post("/").text == "ab"

    assert stored == [1, 2]


def test_a_task_that_cannot_be_stored_turns_the_response_into_a_503(tmp_path: Path) -> None:
    file = tmp_path / "tasks.db"
    desk = Desk(snapshot_db=str(file))
    desk.manager.install(desk.app)

    @desk.app.post("/")
    def route(bt: BackgroundTasks) -> str:
        bt.add_task(desk.note, "never")
        return "done"

    with TestClient(desk.app) as client:
        with closing(sqlite3.connect(file)) as vandal:
            vandal.execute("ALTER TABLE taskiq_flow_run RENAME TO taskiq_flow_away")
            answer = client.post("/")
            with pytest.raises(TaskNotStoredError):
                desk.manager.add_task(desk.note, "never")
            vandal.execute("ALTER TABLE taskiq_flow_away RENAME TO taskiq_flow_run")
        assert client.post("/").status_code == 200

    assert desk.got == ["never"]
    assert answer.status_code == 503
    assert answer.json() == {"detail": "The background tasks of this request could not be stored."}


async def stored_by_a_request(desk: Desk, *queues: str) -> None:
    """Let a request add a task to each of these queues, and store them."""

    async def route(*_: Any) -> None:
        for queue in queues:
            desk.manager.add_task(desk.note, "never", queue=queue)
        request = tasks_of_request(desk.manager.core)
        assert request is not None
        await request.store()

    application: Any = TaskMiddleware(route, desk.manager)
    async with desk.manager:
        await application({"type": "http"}, None, None)


async def test_a_key_that_a_request_has_used_before_takes_no_second_place_in_the_queue() -> None:
    desk = Desk(queues={"small": QueueConfig(max_size=1)})
    made: list[str] = []

    async def route(*_: Any) -> None:
        for _ in range(2):
            again = desk.manager.add_task(desk.note, "once", queue="small", idempotency_key="k")
            made.append(again)
        raise ConnectionError("the client has gone")

    application: Any = TaskMiddleware(route, desk.manager)
    async with desk.manager:
        with pytest.raises(ConnectionError):
            await application({"type": "http"}, None, None)

    assert made[0] == made[1]


async def test_what_was_added_before_the_start_begins_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And not only when its message counts as lost."""
    monkeypatch.setenv("TASKIQ_FLOW_KICK_SECONDS", "600")
    desk = Desk()
    task_id = await asyncio.to_thread(desk.manager.add_task, desk.note, "early")

    async with desk.manager:
        assert await desk.manager.wait([task_id], timeout=20)

    assert desk.got == ["early"]


def test_a_second_event_loop_leaves_no_thread_of_the_first_behind() -> None:
    """A test client, for example, makes one for each `with`, and not all of them are shut down."""
    desk = Desk()

    async def run() -> None:
        assert await desk.manager.wait([desk.manager.add_task(desk.note, "x")], timeout=20)

    async def run_and_stop() -> None:
        await run()
        await desk.manager.shutdown()

    before = threading.enumerate()
    asyncio.run(run())
    (left,) = [each for each in threading.enumerate() if each not in before and is_of_leases(each)]
    asyncio.run(run_and_stop())
    left.join(20)

    assert desk.got == ["x", "x"]
    assert not left.is_alive()


def is_of_leases(thread: threading.Thread) -> bool:
    return thread.name == "taskiq-flow-leases"


async def test_of_several_queues_that_are_full_the_first_is_named(tmp_path: Path) -> None:
    place = str(tmp_path / "tasks.db")
    queues = {name: QueueConfig(max_size=1) for name in "ab"}
    other = Desk(snapshot_db=place, queues=queues)
    for name in queues:  # by an instance that has not begun to run them
        await asyncio.to_thread(other.manager.add_task, other.note, "waits", queue=name)

    with pytest.raises(QueueFullError, match="'a'"):
        await stored_by_a_request(Desk(snapshot_db=place, queues=queues), "a", "b")


async def test_a_store_that_is_away_is_not_asked_for_every_task_of_a_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Away(MemoryRunStore):
        """Takes nothing, and counts who asks."""

        asked = 0

        def twin(self, *, namespace: str | None = None) -> MemoryRunStore:
            return self

        async def create(self, *_: Any) -> Any:
            self.asked += 1
            raise StoreUnavailableError("memory://", "away")

        create_started = create

    desk, store = Desk(), Away()
    monkeypatch.setattr(desk.manager.core, "store", store)

    with pytest.raises(TaskNotStoredError, match="away"):
        await stored_by_a_request(desk, *["default"] * (2 * STORED_TOGETHER + 1))

    assert store.asked == STORED_TOGETHER
    assert desk.manager.core.count_drafts("default") == 0


async def test_a_request_that_breaks_off_gives_its_place_in_the_queue_back() -> None:
    desk = Desk(queues={"small": QueueConfig(max_size=1)})

    async def route(*_: Any) -> None:
        desk.manager.add_task(desk.note, "never", queue="small")
        raise ConnectionError("the client has gone")

    application: Any = TaskMiddleware(route, desk.manager)
    async with desk.manager:
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await application({"type": "http"}, None, None)

    assert desk.got == []


async def test_a_task_that_waits_does_not_keep_its_request_in_memory() -> None:
    class Upload:
        """Something large that the server, or a middleware, left with the request."""

    desk = Desk(queues={"one by one": QueueConfig(concurrency=1)})
    gate = asyncio.Event()

    @desk.manager.task(queue="one by one")
    async def held() -> None:
        await gate.wait()

    async def route(_scope: Any, _receive: Any, send: Any) -> None:
        desk.manager.add_task(held)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def ignore(*_: Any) -> None: ...

    application = TaskMiddleware(route, desk.manager)
    async with desk.manager:
        upload = Upload()
        kept = weakref.ref(upload)
        for _ in range(2):
            await application({"type": "http", "upload": upload}, ignore, ignore)
        del upload
        gc.collect()
        assert [queue["pending"] + queue["running"] for queue in desk.manager.queue_stats()] == [
            0,
            2,
        ]
        assert kept() is None
        gate.set()


def test_eager_tasks_begin_before_the_response_from_sync_and_async_routes() -> None:
    desk = Desk()
    began = threading.Event()

    @desk.manager.task(eager=True)
    def start() -> None:
        began.set()

    @desk.app.post("/sync")
    def sync(bt: BackgroundTasks) -> bool:
        bt.add_task(start)
        return began.wait(10)

    @desk.app.post("/async")
    async def not_sync(bt: BackgroundTasks) -> bool:
        bt.add_task(start)
        return await asyncio.to_thread(began.wait, 10)

    desk.manager.install(desk.app)
    with TestClient(desk.app) as client:
        for path in ("/sync", "/async"):
            assert client.post(path).json() is True
            began.clear()


def test_in_tests_tasks_have_ended_before_the_response() -> None:
    desk = Desk(run_synchronously=True)
    tries: list[int] = []

    @desk.manager.task(retries=2, delay=0.01)
    async def flaky() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError

    seen: list[int] = []

    class Watch:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def watched(message: Any) -> None:
                if message["type"] == "http.response.start":
                    seen.append(len(tries))
                await send(message)

            await self.app(scope, receive, watched)

    @desk.app.post("/")
    def route(bt: BackgroundTasks) -> None:
        bt.add_task(flaky)

    desk.manager.install(desk.app)
    desk.app.add_middleware(Watch)
    with TestClient(desk.app) as client:
        client.post("/")

    assert seen == [3]


@pytest.mark.parametrize("way", ["async", "sync", "stream"])
def test_in_tests_eager_tasks_and_those_of_streams_have_ended_before_the_response(way: str) -> None:
    desk = Desk(run_synchronously=True)
    ended: list[str] = []

    @desk.manager.task()
    async def slow() -> None:
        await asyncio.sleep(0.3)
        ended.append(way)

    @desk.app.post("/async")
    async def eager() -> str:
        return desk.manager.add_task(slow, eager=True)

    @desk.app.post("/sync")
    def eager_in_a_thread() -> str:
        return desk.manager.add_task(slow, eager=True)

    @desk.app.post("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            yield "a part"
            desk.manager.add_task(slow)

        return StreamingResponse(parts())

    desk.manager.init_app(desk.app)
    with TestClient(desk.app) as client:
        assert client.post(f"/{way}").status_code == 200
        assert ended == [way]


def test_a_task_adds_a_task() -> None:
    desk = Desk()

    @desk.manager.task()
    async def first(name: str) -> None:
        desk.manager.add_task(desk.note, f"after {name}")

    @desk.app.post("/")
    def route(bt: BackgroundTasks) -> None:
        bt.add_task(first, "this")

    desk.manager.install(desk.app)
    with TestClient(desk.app) as client:
        client.post("/")
        client.portal.call(desk.manager.wait, [t.task_id for t in desk.manager.store.list()])  # type: ignore[union-attr]

    assert desk.got == ["after this"]


def test_what_a_task_adds_does_not_wait_for_the_response_nor_end_with_it() -> None:
    desk = Desk()
    streams, added = threading.Event(), threading.Event()

    @desk.manager.task(eager=True)
    async def first() -> None:
        assert await asyncio.to_thread(streams.wait, 5.0)
        desk.manager.add_task(desk.note, "after it")
        added.set()

    @desk.app.get("/")
    async def route(bt: BackgroundTasks) -> StreamingResponse:
        bt.add_task(first)

        async def lines() -> AsyncIterator[str]:
            yield "one"
            streams.set()
            await asyncio.to_thread(added.wait, 5.0)
            raise RuntimeError

        return StreamingResponse(lines())

    desk.manager.install(desk.app)
    with TestClient(desk.app, raise_server_exceptions=False) as client:
        client.get("/")
        client.portal.call(desk.manager.wait, [t.task_id for t in desk.manager.store.list()])  # type: ignore[union-attr]

    assert desk.got == ["after it"]


def test_an_application_that_is_called_where_an_exception_is_handled_keeps_its_tasks() -> None:
    desk = Desk(run_synchronously=True)
    desk.manager.install(desk.app)

    @desk.app.post("/")
    def route(bt: BackgroundTasks) -> str:
        return bt.add_task(desk.note, "kept")

    async def second_try(scope: Any, receive: Any, send: Any) -> None:
        try:
            raise ConnectionError("the first server is away")
        except ConnectionError:
            await desk.app(scope, receive, send)

    with TestClient(second_try) as client:
        assert client.post("/").status_code == 200

    assert desk.got == ["kept"]


async def test_a_key_of_a_request_that_fails_is_no_task_for_another_that_succeeds() -> None:
    """The second one would be told the id of a task that never comes to be."""
    desk = Desk()
    added, told = asyncio.Event(), asyncio.Event()

    async def fails(*_: Any) -> None:
        desk.manager.add_task(desk.note, "dropped", idempotency_key="k")
        added.set()
        await told.wait()
        raise ConnectionError("the client has gone")

    async def succeeds(*_: Any) -> None:
        await added.wait()
        desk.manager.add_task(desk.note, "kept", idempotency_key="k")

    async with desk.manager:
        first = asyncio.create_task(asgi(desk, fails))
        await asgi(desk, succeeds)
        told.set()
        with pytest.raises(ConnectionError):
            await first
        page = await desk.manager.store.alist()
        await desk.manager.wait([record.task_id for record in page.tasks])

    assert desk.got == ["kept"]


@pytest.mark.parametrize("finds_place", [True, False])
async def test_a_key_that_a_full_queue_refused_to_one_request_is_not_told_to_another(
    finds_place: bool,
) -> None:
    """The id of the other is that of a record by now, and nothing would ever run."""
    desk = Desk(queues={"small": QueueConfig(concurrency=1, max_size=1)})
    added, refused = asyncio.Event(), asyncio.Event()
    has_begun, block = asyncio.Event(), asyncio.Event()

    @desk.manager.task(queue="small")
    async def hold() -> None:
        has_begun.set()
        await block.wait()

    async def slow(*_: Any) -> None:
        desk.manager.add_task(desk.note, "never", idempotency_key="k")
        added.set()
        await refused.wait()

    async def quick(*_: Any) -> None:
        desk.manager.add_task(desk.note, "never", queue="small", idempotency_key="k")

    async with desk.manager:
        first = asyncio.create_task(asgi(desk, slow))
        await added.wait()
        held = [desk.manager.add_task(hold)]
        await has_begun.wait()
        held.append(desk.manager.add_task(hold))
        with pytest.raises(QueueFullError):
            await asgi(desk, quick)
        while not (await desk.manager.store.alist("rejected")).tasks:  # noqa: ASYNC110 - as below
            await asyncio.sleep(0)
        if finds_place:  # else it is only stored, behind the one that waits
            block.set()
            assert await desk.manager.wait(held, 20)
        refused.set()
        with pytest.raises(TaskNotStoredError, match="with its key"):
            await first
        block.set()
        held.append(desk.manager.add_task(desk.note, "kept", idempotency_key="k"))
        assert await desk.manager.wait(held, 20)

    assert desk.got == ["kept"]


async def test_what_a_full_queue_refused_leaves_the_task_alone_that_another_stored_meanwhile(
    tmp_path: Path,
) -> None:
    """Two instances, one key: the record of the one's refusal has the id of the other's task."""
    place = str(tmp_path / "tasks.db")
    full = Desk(snapshot_db=place, queues={"small": QueueConfig(concurrency=1, max_size=1)})
    other = Desk(snapshot_db=place)
    has_begun, block = asyncio.Event(), asyncio.Event()

    @full.manager.task(queue="small")
    async def hold() -> None:
        has_begun.set()
        await block.wait()

    @other.manager.task()
    async def kept() -> str:
        await block.wait()
        return "kept"

    async with full.manager, other.manager:
        held = [full.manager.add_task(hold)]
        await has_begun.wait()
        held.append(full.manager.add_task(hold))
        # Nothing is awaited in between: the refusal is recorded after the other's task is stored.
        with pytest.raises(QueueFullError):
            full.manager.add_task(full.note, "refused", queue="small", idempotency_key="k")
        task_id = other.manager.add_task(kept, idempotency_key="k")
        refusing = [task for task in asyncio.all_tasks() if "_reject_here" in repr(task)]
        await asyncio.wait(refusing, timeout=20)
        block.set()
        assert await full.manager.wait([*held, task_id], 20)
        record = await other.manager.store.aget(task_id)

    assert record is not None
    assert (record.status, record.result) == (TaskStatus.SUCCESS, "kept")


@pytest.mark.parametrize("tasks", [1, 2])
async def test_a_request_that_is_cancelled_while_it_stores_leaves_nothing_behind(
    tasks: int, tmp_path: Path
) -> None:
    """Else its places in the queue and its keys would be taken until the process ends."""
    desk = Desk(snapshot_db=str(tmp_path / "tasks.db"), queues={"small": QueueConfig(max_size=2)})

    async def route(*_: Any) -> None:
        for number in range(tasks):
            desk.manager.add_task(desk.note, "x", queue="small", idempotency_key=str(number))

    async with desk.manager:
        request = asyncio.create_task(asgi(desk, route))
        await until(lambda: bool(desk.manager.core.drafts))
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    assert desk.manager.core.drafts == {}
    assert desk.manager.core.count_drafts("small") == 0


async def test_an_eager_task_that_is_not_stored_leaves_no_place_taken_by_the_others() -> None:
    desk = Desk(queues={"small": QueueConfig(max_size=1)})

    class Torn(MemoryRunStore):
        async def create(self, *_: Any) -> Any:
            raise StoreUnavailableError("memory://", "away")

    async def route(*_: Any) -> None:
        desk.manager.add_task(desk.note, "never", eager=True)
        desk.manager.add_task(desk.note, "never", queue="small")

    async with desk.manager:
        engine = desk.manager.core.engine
        assert engine is not None
        known, engine.runtime.store = engine.runtime.store, Torn()
        with pytest.raises(TaskNotStoredError):
            await asgi(desk, route)
        engine.runtime.store = known

    assert desk.manager.core.count_drafts("small") == 0


def test_a_store_that_cannot_be_opened_costs_a_503_and_no_thread(tmp_path: Path) -> None:
    """An application that is mounted in another one opens it with its first request."""
    desk = Desk(snapshot_db=str(tmp_path / "nowhere" / "tasks.db"))
    desk.manager.install(desk.app)

    @desk.app.post("/")
    def route(bt: BackgroundTasks) -> str:
        return bt.add_task(desk.note, "never")

    client = TestClient(desk.app)  # no lifespan
    before = set(threading.enumerate())
    codes = {client.post("/").status_code for _ in range(3)}

    assert codes == {503}
    assert desk.manager.core.drafts == {}
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive(), thread.name


@pytest.mark.parametrize("own_thread", [False, True])
async def test_an_observer_is_started_once_however_often_the_store_is_away(
    own_thread: bool, tmp_path: Path
) -> None:
    """Each further start would leave a thread, or a task, behind that hands events over, too."""
    started: list[str] = []

    class Named(TaskObserver):
        async def startup(self) -> None:
            started.append(threading.current_thread().name)

    observer: type[TaskObserver] = type("Named", (Named,), {"own_thread": own_thread})
    place = tmp_path / "nowhere"
    manager = TaskManager(snapshot_db=str(place / "tasks.db"), loggers=[observer()])

    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            await manager.startup()
    place.mkdir()
    async with manager:
        pass

    assert len(started) == 1
    assert_ended("Named-events")


def test_an_observer_keeps_its_thread_where_one_event_loop_follows_another() -> None:
    """A test client without lifespan makes one for each request, and ends none."""
    started: list[str] = []

    class Named(TaskObserver):
        own_thread = True

        async def startup(self) -> None:
            started.append(threading.current_thread().name)

    desk = Desk(loggers=[Named()])
    desk.manager.install(desk.app)

    @desk.app.post("/")
    def route(bt: BackgroundTasks) -> str:
        return bt.add_task(desk.note, "x")

    client = TestClient(desk.app)
    for _ in range(3):
        client.post("/")
    with TestClient(desk.app) as client:
        client.post("/")

    assert desk.got == ["x"] * 4
    assert started == ["Named-events"]
    assert_ended("Named-events")


def assert_ended(name: str) -> None:
    for thread in [each for each in threading.enumerate() if each.name == name]:
        thread.join(5)
        assert not thread.is_alive(), name


async def asgi(desk: Desk, route: Any) -> None:
    """One request, answered by an application that sends nothing."""
    application: Any = TaskMiddleware(route, desk.manager)
    await application({"type": "http"}, None, None)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
