"""When a store or a broker is away: a clear error in bounded time, or a run that ends later."""

import asyncio
import logging
import time

import pytest
from taskiq_aio_pika import AioPikaBroker
from taskiq_redis import ListQueueBroker

from taskiq_flow import (
    Pipeline,
    PipelineMiddleware,
    PipelineTimeoutError,
    StoreUnavailableError,
)
from taskiq_flow.engine.client import RunClient
from taskiq_flow.exceptions import NoStoreError, StoreUrlError
from taskiq_flow.model.records import RunFilter
from tests.integration.apps.settings import BrokerKind
from tests.integration.workers.conftest import MakeApp
from tests.integration.workers.harness import App
from tests.support.fixtures import private
from tools.servers import RabbitServer, RedisServer


async def test_without_its_store_nothing_is_started_and_nothing_kept(
    make_app: MakeApp, own_redis: RedisServer
) -> None:
    app = make_app(store=own_redis.url)

    async with app.client() as client:
        own_redis.stop()
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            await Pipeline(client.broker, client["add"]).kiq(1)
        seconds = time.monotonic() - began

        own_redis.start()
        page = await RunClient.of(client.broker).store.list_runs(RunFilter())

    assert seconds < 5
    assert page.runs == ()


async def test_a_store_that_stands_still_is_not_waited_for_for_ever(
    make_app: MakeApp, own_redis: RedisServer
) -> None:
    app = make_app(store=own_redis.url)

    async with app.client() as client:
        own_redis.freeze()
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="no answer for 5 s"):
            await Pipeline(client.broker, client["add"]).kiq(1)
        seconds = time.monotonic() - began
        own_redis.thaw()

    assert seconds < 10


async def test_a_store_that_is_not_there_is_named(make_app: MakeApp) -> None:
    app = make_app(store="redis://127.0.0.1:9/3")

    with pytest.raises(StoreUnavailableError, match=r"redis://127\.0\.0\.1:9/3"):
        async with app.client():
            pass


def test_a_url_of_no_kind_of_store_is_refused_with_the_kinds_that_there_are() -> None:
    broker = ListQueueBroker("redis://localhost")

    with pytest.raises(StoreUrlError, match=r"'mysql://somewhere'.*redis://.*postgresql://"):
        broker.add_middlewares(PipelineMiddleware("mysql://somewhere"))


@pytest.mark.parametrize("store", [None, "memory://"])
async def test_a_broker_with_other_processes_asks_for_a_store_that_they_share(
    store: str | None,
) -> None:
    with pytest.raises(NoStoreError, match=r"AioPikaBroker.*TASKIQ_FLOW_STORE_URL.*store="):
        AioPikaBroker("amqp://localhost").add_middlewares(PipelineMiddleware(store))


async def test_a_worker_waits_for_a_store_that_is_not_there_yet(
    make_app: MakeApp, own_redis: RedisServer
) -> None:
    app = make_app(store=own_redis.url)
    own_redis.stop()
    worker = app.spawn()
    await worker.has_logged("cannot be reached")

    own_redis.start()
    await worker.has_logged("Running the steps of queue")

    async with app.client() as client:
        task = await Pipeline(client.broker, client["add"]).kiq(1)
        assert (await task.wait_result(timeout=30)).return_value == 2


@pytest.mark.nats
async def test_a_message_that_nobody_heard_is_sent_by_the_first_worker_that_listens(
    make_app: MakeApp,
) -> None:
    """NATS keeps nothing. The worker looks for what is due as soon as it can send, not sooner."""
    app = make_app(BrokerKind.NATS)

    async with app.client() as client:
        task = await Pipeline(client.broker, client["add"]).kiq(1)
        # Its message counts as lost after two seconds.
        with pytest.raises(PipelineTimeoutError):
            await task.wait_result(timeout=2.5)
        worker = await app.start()
        assert (await task.wait_result(timeout=30)).return_value == 2

    assert "did not take a message" not in worker.log


async def test_a_run_started_without_its_list_broker_runs_when_that_is_back(
    make_app: MakeApp, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(broker_url=own_redis.url)
    await app.start()

    await started_while_away(app, own_redis, caplog)


@pytest.mark.rabbitmq
@pytest.mark.timeout(180)
async def test_a_run_started_without_its_rabbitmq_runs_when_that_is_back(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    with private(RabbitServer) as server:
        app = make_app(BrokerKind.RABBIT, broker_url=server.url)
        await app.start()

        await started_while_away(app, server, caplog)


async def started_while_away(
    app: App, server: RedisServer | RabbitServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with app.client() as client:
        await asyncio.to_thread(server.stop)
        with caplog.at_level(logging.WARNING):
            began = time.monotonic()
            task = await Pipeline(client.broker, client["add"]).call_next(client["add"]).kiq(1)
            seconds = time.monotonic() - began
        await asyncio.to_thread(server.start)

        assert seconds < 8
        assert "The broker did not take a message" in caplog.text
        assert (await task.wait_result(timeout=60)).return_value == 3
