"""How soon things happen on an idle worker, and that waiting in a step holds nobody up."""

import itertools
import statistics
from collections.abc import Iterator

import pytest

from taskiq_flow import Pipeline, Task
from tests.integration.apps.settings import BrokerKind
from tests.integration.apps.steps import Note
from tests.integration.workers.conftest import build
from tests.integration.workers.harness import READY_LINE, App, eventually


@pytest.fixture(scope="module")
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An application on the list broker, with one worker that has two places."""
    app = build(request, tmp_path_factory.mktemp("timing") / "app", BrokerKind.LIST)
    try:
        app.spawn("--max-async-tasks", "2").wait_for_log(READY_LINE)
        yield app
    finally:
        app.close()


async def test_a_retry_comes_when_it_is_due(app: App) -> None:
    """A tenth of a second means 0.1 to 0.2 s, also with the jitter that lengthens it."""
    async with app.client() as client:
        pipeline = Pipeline(client.broker, client["flaky"]).with_retry(3, delay=0.1, backoff=1)
        for number in range(10):
            task = await pipeline.kiq(f"run {number}", failures=2)
            await task.wait_result(timeout=30)

    tries = [note.at for note in app.journal.notes("flaky", "ran")]
    gaps = [later - earlier for earlier, later in itertools.pairwise(tries)]
    waits = [gap for place, gap in enumerate(gaps) if place % 3 != 2]
    assert len(waits) == 20
    assert min(waits) >= 0.1
    assert statistics.median(waits) <= 0.2


async def test_a_step_may_start_another_run_and_wait_for_it(app: App) -> None:
    """It takes one of the worker's places while it waits, so there has to be a second one."""
    async with app.client() as client:
        task = await Pipeline(client.broker, client["start_another"]).kiq(1)

        result = await task.wait_result(timeout=30)

    assert result.return_value == 102


async def test_a_step_that_starts_a_run_in_a_loop_of_its_own_leaves_the_leases_of_others_alone(
    app: App,
) -> None:
    """What runs beside it is longer than a lease, which has to be renewed meanwhile."""

    def begun() -> list[Note]:
        return [note for note in app.journal.notes("pause", "began") if note.key == "4.5"]

    (worker,) = app.workers
    pids = worker.child_pids
    async with app.client() as client:
        task = await Pipeline(client.broker, client["pause"]).kiq(4.5)
        await eventually(lambda: bool(begun()))
        starting = await Pipeline(client.broker, client["start_apart"]).kiq(1)
        started = (await starting.wait_result(timeout=30)).return_value
        await task.wait_result(timeout=60)
        other = await Task(task_id=started, broker=client.broker).wait_result(timeout=30)

    assert other.return_value == 2
    assert len(begun()) == 1
    assert worker.child_pids == pids


@pytest.mark.slow
async def test_a_long_step_on_an_idle_list_worker_runs_once_and_ends(app: App) -> None:
    """redis-py's socket timeout of 5 s would kill an idle worker, and with it the step."""
    (worker,) = app.workers
    pids = worker.child_pids

    async with app.client() as client:
        task = await Pipeline(client.broker, client["pause"]).kiq(15.0)
        result = await task.wait_result(timeout=60)

    assert result.return_value == "rested"
    notes = [note for note in app.journal.notes("pause") if note.key == "15.0"]
    assert [note.what for note in notes] == ["began", "ended"]
    assert worker.child_pids == pids
