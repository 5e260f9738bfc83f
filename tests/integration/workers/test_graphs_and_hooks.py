"""Graphs whose steps run on a worker, and hooks that hear of them in the client's process."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from taskiq_flow import DAGBuilder, DataflowPipeline, ExecutionEngine, HookManager, MapReduce
from taskiq_flow.hooks import HookEvent, StepCompleteEvent
from tests.integration.workers.conftest import PLACES, build
from tests.integration.workers.harness import READY_LINE, App, Client

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def app(request, tmp_path_factory):
    """An application on Redis with one worker for all tests of this module."""
    broker, store = PLACES[0].values[0]
    app = build(request, tmp_path_factory.mktemp("graphs") / "app", broker, store=store)
    try:
        app.spawn().wait_for_log(READY_LINE)
        yield app
    finally:
        app.close()


@pytest.fixture
async def client(app: App) -> AsyncIterator[Client]:
    async with app.client() as client:
        yield client


async def test_hooks_hear_in_the_client_of_what_a_worker_did(client: Client) -> None:
    heard: list[HookEvent] = []
    ended = asyncio.Event()

    class Hook:
        def on_event(self, event: HookEvent) -> None:
            heard.append(event)

        async def on_pipeline_complete(self, event: HookEvent) -> None:
            ended.set()

    tasks = [client["left"], client["right"], client["join"]]
    pipeline = DataflowPipeline(client.broker, tasks).with_hooks(HookManager().add_hook(Hook()))
    task = await pipeline.kiq(source=1)
    async with asyncio.timeout(30):
        await ended.wait()

    assert (await task.wait_result(timeout=30)).return_value == {"left": 2, "right": 10, "join": 12}
    results = {e.step_name: e.result for e in heard if isinstance(e, StepCompleteEvent)}
    assert results == {"left": 2, "right": 10, "join": 12}
    words = [str(event.type) for event in heard]
    assert (words[0], words[-1]) == ("pipeline_start", "pipeline_complete")


async def test_a_branch_goes_on_while_another_of_its_level_is_still_at_work(
    client: Client,
) -> None:
    """The run is looked at when the slow step has begun and cannot have ended."""
    dag = DAGBuilder()
    dag.add_task(client["pause"], "rest", {"seconds": "seconds"})
    dag.add_task(client["left"], "left").add_task(client["add"], "sum", {"value": "left"})
    engine = ExecutionEngine(client.broker, dag.build())
    came: list[str] = []

    async with asyncio.timeout(30):
        async for name, _ in engine.execute_async({"seconds": 300, "source": 1}):
            came.append(name)
            if name == "sum":
                break

    assert came == ["left", "sum"]
    assert await engine.cancel("seen enough")


async def test_a_map_and_its_reduction_run_on_the_worker(client: Client) -> None:
    told: list[tuple[int, int]] = []
    squares = await MapReduce.map(
        client.broker,
        client["square"],
        range(50),
        max_parallel=4,
        progress_callback=lambda done, total: told.append((done, total)),
    )
    reduced = await MapReduce.reduce(client.broker, client["total"], squares)

    assert reduced == sum(number * number for number in range(50))
    assert told[-1] == (50, 50)
