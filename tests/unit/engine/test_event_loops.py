"""One process that runs pipelines in one event loop after another, as `asyncio.run` makes them."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from taskiq import InMemoryBroker, TaskiqMessage, TaskiqMiddleware, TaskiqResult
from taskiq.brokers.inmemory_broker import InmemoryResultBackend

from taskiq_flow import Pipeline, PipelineMiddleware
from taskiq_flow.engine.runtime import runtimes


@pytest.mark.parametrize("store", ["memory://", "sqlite:///{directory}/runs.sqlite"])
@pytest.mark.parametrize("closes", [True, False], ids=["closed", "left open"])
def test_each_event_loop_has_an_engine_that_looks_for_what_is_due(
    store: str, closes: bool, tmp_path: Path
) -> None:
    broker = InMemoryBroker()
    url = store.format(directory=tmp_path)
    middleware = PipelineMiddleware(store=url, namespace=f"loops-{closes}")
    broker.add_middlewares(middleware)

    @broker.task(task_name="loops:add")
    async def add(value: int) -> int:
        return value + 1

    chain = Pipeline(broker).call_next(add).sleep(0.01).call_next(add)

    async def run_one(value: int) -> int:
        await broker.startup()
        task = await chain.kiq(value)
        result = await task.wait_result(timeout=20)
        if closes:
            await broker.shutdown()
        return int(result.return_value)

    assert [asyncio.run(run_one(value)) for value in (1, 5)] == [3, 7]


@pytest.mark.parametrize("in_place", [False, True], ids=["in_tasks", "in_place"])
async def test_a_step_that_starts_a_run_in_an_event_loop_of_its_own_takes_no_lease_away(
    in_place: bool,
) -> None:
    broker = InMemoryBroker(await_inplace=in_place)
    broker.add_middlewares(PipelineMiddleware(lease_seconds=0.4))
    begun: list[str] = []
    works, other_has_run = asyncio.Event(), asyncio.Event()

    @broker.task
    async def note(value: str) -> str:
        begun.append(value)
        return value

    @broker.task
    def start_another(value: str) -> str:
        async def start() -> str:
            task = await Pipeline(broker, note).kiq("another")
            return str((await task.wait_result(timeout=20)).return_value)

        return value + asyncio.run(start())

    @broker.task
    async def work(value: str) -> str:
        begun.append("work")
        works.set()
        [lease] = runtimes[broker].leases.held
        await other_has_run.wait()
        async with asyncio.timeout(10):
            for _ in range(2):  # one renewal may have been under way
                known = lease.confirmed_at
                while lease.confirmed_at == known:  # noqa: ASYNC110 - its thread tells nobody
                    await asyncio.sleep(0.01)
        return value

    working = asyncio.create_task(Pipeline(broker, work).kiq("work"))
    await asyncio.wait_for(works.wait(), 20)
    starting = await Pipeline(broker, start_another).kiq("and ")
    assert (await starting.wait_result(timeout=20)).return_value == "and another"
    other_has_run.set()
    assert (await (await working).wait_result(timeout=20)).return_value == "work"
    await broker.shutdown()

    assert sorted(begun) == ["another", "work"]


async def test_event_loops_that_come_and_go_leave_no_threads_of_their_store_behind(
    tmp_path: Path,
) -> None:
    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware(store=f"sqlite:///{tmp_path}/runs.sqlite"))

    @broker.task
    async def note(value: int) -> int:
        return value

    @broker.task
    def start_another(value: int) -> int:
        async def start() -> int:
            task = await Pipeline(broker, note).kiq(value)
            return int((await task.wait_result(timeout=20)).return_value)

        return asyncio.run(start())

    before = _threads_of_stores()
    for value in range(8):
        task = await Pipeline(broker, start_another).kiq(value)
        assert (await task.wait_result(timeout=20)).return_value == value
    most = before + 3  # that at home, that of its leases, and of the last loop beside it
    async with asyncio.timeout(10):
        while _threads_of_stores() > most:  # noqa: ASYNC110 - a thread tells nobody of its end
            await asyncio.sleep(0.01)
    await broker.shutdown()


async def test_what_needs_the_broker_is_done_in_the_event_loop_in_which_it_works() -> None:
    """Connections of a broker or of a result backend belong to the loop that opened them."""
    sent_in: list[asyncio.AbstractEventLoop] = []
    published: dict[str, asyncio.AbstractEventLoop] = {}

    class Sending(TaskiqMiddleware):
        def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
            sent_in.append(asyncio.get_running_loop())
            return message

    class Publishing(InmemoryResultBackend[Any]):
        async def set_result(self, task_id: str, result: TaskiqResult[Any]) -> None:
            published[task_id] = asyncio.get_running_loop()
            await super().set_result(task_id, result)

    broker = InMemoryBroker().with_result_backend(Publishing())
    broker.add_middlewares(PipelineMiddleware(), Sending())

    @broker.task
    async def note(value: str) -> str:
        return value

    @broker.task
    def start_and_cancel(value: str) -> str:
        async def start() -> str:
            task = await Pipeline(broker, note).sleep(60).kiq(value)
            assert await task.cancel()
            return task.run_id

        return asyncio.run(start())

    starting = await Pipeline(broker, start_and_cancel).kiq("another")
    other = str((await starting.wait_result(timeout=20)).return_value)
    await broker.wait_all()
    await broker.shutdown()

    home = asyncio.get_running_loop()
    assert len(sent_in) >= 2
    assert set(sent_in) == {home}
    assert published == {starting.run_id: home, other: home}


async def test_a_blocked_loop_of_the_broker_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("taskiq_flow.engine.beside.HOME_SECONDS", 0.1)

    class Sending(TaskiqMiddleware):
        def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
            return message

    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware(), Sending())

    @broker.task
    async def note(value: str) -> str:
        return value

    async def start() -> str:
        return (await Pipeline(broker, note).kiq("a value")).run_id

    await broker.startup()
    thread = threading.Thread(target=lambda: asyncio.run(start()))
    thread.start()
    thread.join(20)  # and so the loop of this test is blocked

    assert not thread.is_alive()
    assert "1 step(s) of run" in caplog.text
    assert "did not answer in 0.1 s" in caplog.text
    await broker.shutdown()


def _threads_of_stores() -> int:
    return sum(thread.name == "taskiq-flow-sqlite" for thread in threading.enumerate())
