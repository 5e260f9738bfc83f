"""Retries, dead letters and new runs of old ones, between processes; one worker for all."""

import asyncio
import os
from collections.abc import Iterator

import pytest

from taskiq_flow import Pipeline, Task
from taskiq_flow.engine.client import RunClient
from taskiq_flow.middlewares.retry import DLQManager
from taskiq_flow.model.records import RunFilter
from tests.integration.apps.retried import register_retried
from tests.integration.apps.settings import BrokerKind
from tests.integration.workers.conftest import build
from tests.integration.workers.harness import READY_LINE, App, eventually
from tests.support.fixtures import address_of

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    directory = tmp_path_factory.mktemp("retries") / "app"
    made = build(request, directory, BrokerKind.LIST, results_url=address_of("redis"))
    try:
        made.spawn(module="retrying").wait_for_log(READY_LINE)
        yield made
    finally:
        made.close()


async def test_items_are_tried_again_by_a_worker_which_tells_of_it(app: App) -> None:
    async with app.client() as client:
        register_retried(client.broker)
        pipeline = Pipeline(client.broker).map(client["flaky_item"], list(range(6)))
        task = await pipeline.with_retry(2, 0.05, on_retry="told").kiq()

        assert (await task.wait_result(timeout=30)).return_value == [n * 10 for n in range(6)]
        await eventually(lambda: len(app.journal.notes("told")) == 3)

        page = await RunClient.of(client.broker).store.list_runs(RunFilter(kind="on_retry"))
        assert len(page.runs) == 3
    told = app.journal.notes("told")
    assert {note.what for note in told} == {f"ConnectionError: try 1 of {n}" for n in (1, 3, 5)}
    assert os.getpid() not in {note.pid for note in told}


async def test_a_plain_task_is_tried_again_and_its_result_comes_as_ever(app: App) -> None:
    async with app.client() as client:
        kicker = client["flaky"].kicker().with_labels(max_retries=3, retry_delay=0.05)
        task = await kicker.kiq("plain", 2)
        result = await task.wait_result(check_interval=0.05, timeout=30)

        assert result.return_value == 3


async def test_a_failed_run_is_found_heard_of_and_gone_on_with_in_other_processes(
    app: App,
) -> None:
    heard: list[str] = []
    async with app.client() as client, app.client() as other:
        register_retried(client.broker)
        pipeline = Pipeline(client.broker, client["add_noted"]).call_next(client["mended"])
        async with DLQManager(other.broker).with_listener(lambda it: heard.append(it.task_id)):
            task = await pipeline.kiq(1)
            plain = await client["mended"].kiq(1)
            await task.wait_result(timeout=30, raise_on_error=False)
            failed = await plain.wait_result(check_interval=0.05, timeout=30)
            await eventually(lambda: len(heard) == 2)
        assert isinstance(failed.error, ConnectionError)
        assert set(heard) == {task.task_id, plain.task_id}
        (letter,) = await DLQManager(other.broker, queue="failed").list_failed()
        assert letter.task_id == plain.task_id

        app.journal.write("mended", "works")
        made = await asyncio.gather(
            *(Task(task_id=task.task_id, broker=each.broker).retry() for each in (client, other))
        )
        forked = await Task(task_id=task.task_id, broker=other.broker).fork(
            outputs={"add_noted": 40}
        )

        assert made[0].task_id == made[1].task_id
        assert (await made[1].wait_result(timeout=30)).return_value == 3
        assert (await forked.wait_result(timeout=30)).return_value == 41
    assert len(app.journal.notes("add_noted")) == 1
