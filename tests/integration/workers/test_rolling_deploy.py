"""While a deployment is under way, some workers do not know a new task yet."""

import asyncio

import pytest

from taskiq_flow import Pipeline, PipelineError
from tests.integration.workers.conftest import MakeApp


async def test_work_for_a_new_task_waits_for_a_worker_that_has_it(make_app: MakeApp) -> None:
    """An old worker takes the messages first; nothing is lost, and nothing counts as a failure."""
    app = make_app()
    old = await app.start(module="older")

    async with app.client() as client:
        new = client["add_noted"]
        pipeline = Pipeline(client.broker, client["add"]).call_next(new).call_next(client["add"])
        tasks = [await pipeline.kiq(number) for number in range(5)]
        wide = await Pipeline(client.broker, client["numbers"]).map(new).kiq(20)
        await asyncio.gather(*(task.get_partial_results() for task in tasks))
        await app.start()
        results = [await task.wait_result(timeout=60) for task in (*tasks, wide)]
        statuses = [await task.get_status() for task in (*tasks, wide)]

    assert [result.return_value for result in results[:5]] == [n + 3 for n in range(5)]
    assert results[5].return_value == list(range(1, 21))
    assert {step.retry_count for status in statuses for step in status.steps} == {0}
    assert len(app.journal.notes("add_noted")) == 25
    assert old.is_running


async def test_a_task_that_no_worker_has_fails_its_run_with_a_clear_error(
    make_app: MakeApp,
) -> None:
    app = make_app(unknown_task_seconds=1.0)
    await app.start(module="older")

    async with app.client() as client:
        pipeline = Pipeline(client.broker, client["add"]).call_next(client["add_noted"])
        task = await pipeline.kiq(1)
        with pytest.raises(PipelineError, match="'add_noted' is unknown to every") as caught:
            await task.wait_result(timeout=30)

    assert caught.value.failed_step == "add_noted"
    assert caught.value.partial_results == {"add": 2}
