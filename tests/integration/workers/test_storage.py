"""What workers copy to a storage, and what they need not compute again."""

import asyncio
from collections.abc import Iterator

import pytest
import redis.asyncio as redis
from taskiq import AsyncBroker
from taskiq.kicker import AsyncKicker

from taskiq_flow import Pipeline
from taskiq_flow.storage import RedisStorageAdapter
from tests.integration.apps.settings import BrokerKind
from tests.integration.workers.conftest import build
from tests.integration.workers.harness import READY_LINE, App, eventually

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An application with one worker for all tests."""
    app = build(request, tmp_path_factory.mktemp("app") / "app", BrokerKind.LIST)
    try:
        app.spawn(module="stored").wait_for_log(READY_LINE)
        yield app
    finally:
        app.close()


async def test_results_of_steps_and_of_plain_tasks_are_copied_by_the_worker(app: App) -> None:
    url, prefix = app.settings.broker_url, f"{app.settings.queue}:storage:"
    async with app.client() as client, RedisStorageAdapter(url, key_prefix=prefix) as storage:
        add = client.broker.find_task("add")
        assert add is not None
        run = await Pipeline(client.broker, add).call_next(add).kiq(1)
        assert (await run.wait_result(timeout=20)).return_value == 3
        plain = await add.kiq(10)

        async def all_there() -> bool:
            return len(await storage.keys()) == 3

        await eventually(all_there)
        values = [await storage.get(key) for key in await storage.keys("pipeline:*")]
        assert sorted(value["return_value"] for value in values) == [2, 3]
        assert {value["pipeline_id"] for value in values} == {run.pipeline_id}
        stored = await storage.get(f"task:{plain.task_id}")
        assert stored is not None
        assert (stored["return_value"], stored["is_err"]) == (11, False)


async def test_of_equal_calls_one_is_computed(app: App) -> None:
    url, prefix = app.settings.broker_url, f"{app.settings.queue}:storage:"
    async with app.client() as client, RedisStorageAdapter(url, key_prefix=prefix) as storage:
        kicked = [await call(client.broker, number) for number in (3, 3, 3, 4)]

        async def all_there() -> bool:
            return all(await asyncio.gather(*map(storage.exists, kicked)))

        await eventually(all_there)
        results = [await storage.get(key) for key in kicked]
        assert [result["return_value"] for result in results if result] == [9, 9, 9, 16]
        assert sorted(note.key for note in app.journal.notes("squared")) == ["3", "4"]


async def test_nothing_that_a_worker_wrote_stays_for_ever(app: App) -> None:
    connection = redis.Redis.from_url(app.settings.broker_url)
    async with connection:
        keys = [key async for key in connection.scan_iter(f"{app.settings.queue}:*")]
        lives = [await connection.ttl(key) for key in keys]

    assert keys
    assert min(lives) > 0


async def call(broker: AsyncBroker, number: int) -> str:
    """Send a call as a client does that has not imported the task; returns its storage key."""
    kicker = AsyncKicker[[int], int]("squared", broker, {"cache_ttl": 60})
    return f"task:{(await kicker.kiq(number)).task_id}"
