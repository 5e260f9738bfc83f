"""Pipelines as steps, branches and waiting on real workers, through the death of the worker."""

import pytest

from taskiq_flow import Pipeline, Task, send_event
from taskiq_flow.conditions import greater_than
from taskiq_flow.engine.children import child_tag
from taskiq_flow.engine.client import RunClient
from taskiq_flow.model.records import RunFilter, RunSnapshot, RunStatus
from tests.integration.apps.continuing import register_continuing
from tests.integration.workers.conftest import MakeApp
from tests.integration.workers.harness import App, Client, eventually

PARKED = "step_parked"


@pytest.fixture
async def app(make_app: MakeApp) -> App:
    app = make_app()
    await app.start(module="pipelines")
    return app


async def children_of(client: Client, run_id: str) -> list[RunSnapshot]:
    store = RunClient.of(client.broker).store
    return list((await store.list_runs(RunFilter(tag=child_tag(run_id)))).runs)


async def test_every_kind_of_step_runs_on_a_worker(app: App) -> None:
    async with app.client() as client:
        register_continuing(client.broker)
        broker = client.broker
        inner = Pipeline(broker, client["square"]).call_next(client["add"])
        pipeline = (
            Pipeline(broker, client["numbers"])
            .map(inner)
            .reduce(client["total"])
            .sleep(0.1)
            .condition(greater_than(10), client["add"], client["fails"])
            .group([inner, client["splits"]])
            .wait_for("go on")
        )
        task = await pipeline.kiq(4)
        await task.send_event("go on", {"early": True})
        result = await task.wait_result(timeout=30)
        values = await task.get_partial_results()

    assert result.return_value == {"early": True}
    assert values["total"] == 18
    assert values["add"] == 19
    assert values["splits"] == sum(n * n for n in range(19))
    assert len(app.journal.notes("splits", "ran")) == 1


async def test_a_child_survives_its_worker_and_is_not_doubled(app: App) -> None:
    async with app.client() as client:
        inner = Pipeline(client.broker).call_after(client["pause_once"])
        task = await Pipeline(client.broker).call_next(inner).kiq()
        await eventually(lambda: bool(app.journal.notes("pause_once", "began")))

        app.workers[0].kill()
        await app.start(module="pipelines")

        result = await task.wait_result(timeout=30)
        children = await children_of(client, task.run_id)

    assert result.return_value == "second time"
    assert [child.status for child in children] == [RunStatus.COMPLETED]
    assert len(app.journal.notes("pause_once", "began")) == 2


async def test_a_map_of_pipelines_is_whole_after_kill_nine(app: App) -> None:
    async with app.client() as client:
        each = Pipeline(client.broker, client["add_noted"]).sleep(0.05).call_next(client["square"])
        task = await Pipeline(client.broker).map(each, range(40), max_parallel=8).kiq()
        await eventually(lambda: len(app.journal.notes("add_noted", "ran")) >= 12)

        app.workers[0].kill()
        await app.start(module="pipelines")

        result = await task.wait_result(timeout=60)
        children = await children_of(client, task.run_id)

    assert result.return_value == [(n + 1) ** 2 for n in range(40)]
    assert len(children) == 40
    assert {child.status for child in children} == {RunStatus.COMPLETED}


async def test_a_run_waits_for_its_event_though_no_worker_lives(app: App) -> None:
    async with app.client() as client:
        waiting = Pipeline(client.broker, client["add"]).wait_for("go").call_next(client["add"])
        task = await waiting.with_id("waits").kiq(1)
        async for event in task.events():
            if event.type == PARKED:
                break
        app.workers[0].kill()

        await send_event("waits", "go", 41, store=RunClient.of(client.broker).store)
        await app.start(module="pipelines")

        result = await Task("waits", client.broker).wait_result(timeout=30)

    assert result.return_value == 42


async def test_what_was_done_is_taken_back_by_the_next_worker(app: App) -> None:
    """The run is cancelled while no worker lives; the client does nothing else."""
    async with app.client() as client:
        register_continuing(client.broker)
        pipeline = Pipeline(client.broker, client["add"]).on_failure(client["undo"])
        task = await pipeline.wait_for("never").kiq(1)
        async for event in task.events():
            if event.type == PARKED:
                break
        app.workers[0].kill()
        await task.cancel()

    await app.start(module="pipelines")
    await eventually(lambda: bool(app.journal.notes("undo", "ran")))

    assert [note.key for note in app.journal.notes("undo", "ran")] == ["2"]


async def test_cancelling_reaches_a_child_on_a_worker(app: App) -> None:
    async with app.client() as client:
        inner = Pipeline(client.broker, client["pause"])
        task = await Pipeline(client.broker).call_next(inner).kiq(600)
        await eventually(lambda: bool(app.journal.notes("pause", "began")))

        await task.cancel()

        await eventually(lambda: bool(app.journal.notes("pause", "cancelled")))
        (child,) = await children_of(client, task.run_id)
    assert child.status is RunStatus.CANCELLED
