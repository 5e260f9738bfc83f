"""A plain Taskiq client finds the outcome of a run in the broker's result backend."""

import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from taskiq import AsyncTaskiqTask, TaskiqResult
from taskiq_redis import RedisAsyncResultBackend

from taskiq_flow import Pipeline, PipelineError
from tests.integration.apps.settings import BrokerKind
from tests.integration.workers.conftest import build
from tests.integration.workers.harness import READY_LINE, App
from tests.support.fixtures import private
from tools.servers import RedisServer


@pytest.fixture(scope="module")
def results() -> Iterator[RedisServer]:
    """A Redis for results alone."""
    with private(RedisServer) as server:
        yield server


@pytest.fixture(scope="module")
def app(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, results: RedisServer
) -> Iterator[App]:
    directory = tmp_path_factory.mktemp("results") / "app"
    app = build(request, directory, BrokerKind.LIST, results_url=results.url)
    try:
        app.spawn().wait_for_log(READY_LINE)
        yield app
    finally:
        app.close()


@contextlib.asynccontextmanager
async def backend_of(server: RedisServer) -> AsyncIterator[RedisAsyncResultBackend]:
    backend = RedisAsyncResultBackend(server.url)
    try:
        yield backend
    finally:
        await backend.shutdown()


async def outcome(backend: RedisAsyncResultBackend, run_id: str) -> TaskiqResult:
    return await AsyncTaskiqTask(run_id, backend).wait_result(check_interval=0.05, timeout=30)


async def test_results_and_failures_are_published_under_the_id_of_the_run(
    app: App, results: RedisServer
) -> None:
    async with app.client() as client:
        good = await Pipeline(client.broker, client["add"]).call_next(client["add"]).kiq(1)
        bad = await Pipeline(client.broker, client["add"]).call_next(client["fails"]).kiq(1)

    async with backend_of(results) as backend:
        result = await outcome(backend, good.task_id)
        failure = await outcome(backend, bad.task_id)
        steps = [await backend.is_result_ready(f"{good.task_id}:{step}") for step in (0, 1)]
    assert (result.is_err, result.return_value) == (False, 3)
    assert failure.is_err
    assert "no 2 here" in str(failure.error)
    assert isinstance(failure.error, PipelineError)
    assert steps == [False, False], "no result of a step is written"


async def test_outcomes_are_published_when_the_result_backend_is_back(
    app: App, results: RedisServer
) -> None:
    """Also that of a run which was cancelled, so that no worker has seen its end."""
    async with app.client() as client:
        results.stop()
        done = await Pipeline(client.broker, client["add"]).kiq(1)
        assert (await done.wait_result(timeout=30)).return_value == 2
        stuck = await Pipeline(client.broker, client["pause"]).kiq(60)
        await stuck.cancel("enough")
        await app.workers[0].has_logged("was not published, trying again")

    results.start()
    async with backend_of(results) as backend:
        result = await outcome(backend, done.task_id)
        cancelled = await outcome(backend, stuck.task_id)
    assert result.return_value == 2
    assert "enough" in str(cancelled.error)
