"""A plain Taskiq client finds the outcome of a run in the broker's result backend."""

import pytest
from taskiq import AsyncTaskiqTask
from taskiq_redis import RedisAsyncResultBackend

from taskiq_flow import Pipeline, PipelineError
from tests.integration.workers.conftest import MakeApp
from tools.servers import RedisServer


async def test_results_and_failures_are_published_under_the_id_of_the_run(
    make_app: MakeApp, redis_url: str
) -> None:
    app = make_app(results_url=redis_url)
    await app.start()

    async with app.client() as client:
        good = await Pipeline(client.broker, client["add"]).call_next(client["add"]).kiq(1)
        bad = await Pipeline(client.broker, client["add"]).call_next(client["fails"]).kiq(1)
        stuck = await Pipeline(client.broker, client["pause"]).kiq(60)
        await stuck.cancel("enough")

    backend = RedisAsyncResultBackend(redis_url)
    try:
        result = await AsyncTaskiqTask(good.task_id, backend).wait_result(timeout=30)
        failure = await AsyncTaskiqTask(bad.task_id, backend).wait_result(timeout=30)
        cancelled = await AsyncTaskiqTask(stuck.task_id, backend).wait_result(timeout=30)
        keys = await backend_keys(backend, good.task_id)
    finally:
        await backend.shutdown()
    assert (result.is_err, result.return_value) == (False, 3)
    assert failure.is_err
    assert "no 2 here" in str(failure.error)
    assert isinstance(failure.error, PipelineError)
    assert "enough" in str(cancelled.error)
    assert keys == 1, "no result of a step is written"


async def backend_keys(backend: RedisAsyncResultBackend, run_id: str) -> int:
    return sum([await backend.is_result_ready(f"{run_id}{suffix}") for suffix in ("", ":0", ":1")])


@pytest.mark.timeout(90)
async def test_an_outcome_is_published_when_the_result_backend_is_back(
    make_app: MakeApp, own_redis: RedisServer
) -> None:
    app = make_app(results_url=own_redis.url)
    worker = await app.start()

    async with app.client() as client:
        own_redis.stop()
        task = await Pipeline(client.broker, client["add"]).kiq(1)
        assert (await task.wait_result(timeout=30)).return_value == 2
        await worker.has_logged("was not published, trying again")

    own_redis.start()
    backend = RedisAsyncResultBackend(own_redis.url)
    try:
        result = await AsyncTaskiqTask(task.task_id, backend).wait_result(timeout=60)
    finally:
        await backend.shutdown()
    assert result.return_value == 2
