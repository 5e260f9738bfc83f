"""What a pipeline promises it keeps on every broker, with a store beside it and a real worker."""

import asyncio
import time

import pytest

from taskiq_flow import DataflowPipeline, Pipeline, PipelineError, Task
from taskiq_flow.exceptions import PipelineCancelledError
from tests.integration.workers.harness import App, eventually


async def test_a_chain_hands_its_results_on(served_app: App) -> None:
    async with served_app.client() as client:
        add = client["add"]
        task = await Pipeline(client.broker, add).call_next(add, 10).call_next(add, 100).kiq(1)

        result = await task.wait_result(timeout=30)

    assert result.return_value == 112


async def test_a_graph_joins_its_branches(served_app: App) -> None:
    async with served_app.client() as client:
        tasks = [client["left"], client["right"], client["join"]]
        outputs = await DataflowPipeline(client.broker, tasks).kiq_dataflow(source=4)

    assert outputs == {"left": 5, "right": 40, "join": 45}


async def test_a_map_over_an_earlier_result_is_reduced(served_app: App) -> None:
    async with served_app.client() as client:
        pipeline = Pipeline(client.broker, client["numbers"]).map(client["square"], max_parallel=4)
        task = await pipeline.call_next(client["total"]).kiq(100)

        result = await task.wait_result(timeout=30)

    assert result.return_value == sum(n * n for n in range(100))


async def test_a_step_that_fails_twice_succeeds_on_its_third_try(served_app: App) -> None:
    async with served_app.client() as client:
        pipeline = Pipeline(client.broker, client["flaky"]).with_retry(3, delay=0.05)
        task = await pipeline.kiq(f"retry-{time.time()}", failures=2)

        result = await task.wait_result(timeout=30)
        status = await task.get_status()

    assert result.return_value == 3
    assert status.steps[0].retry_count == 2


async def test_a_failure_is_named_and_keeps_what_was_done(served_app: App) -> None:
    async with served_app.client() as client:
        pipeline = Pipeline(client.broker, client["add"]).call_next(client["fails"])
        task = await pipeline.kiq(1)

        with pytest.raises(PipelineError, match="no 2 here") as caught:
            await task.wait_result(timeout=30)

    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.failed_step == "fails"
    assert caught.value.partial_results == {"add": 2}


async def test_a_cancel_reaches_running_code_within_two_seconds(served_app: App) -> None:
    seconds = 60 + time.time() % 1  # a key for the journal
    notes = served_app.journal.notes

    def noted(what: str) -> bool:
        return any(note.key == str(seconds) for note in notes("pause", what))

    async with served_app.client() as client:
        task = await Pipeline(client.broker, client["pause"]).kiq(seconds)
        await eventually(lambda: noted("began"))

        await task.cancel("changed my mind")
        await eventually(lambda: noted("cancelled"), seconds=2)

        with pytest.raises(PipelineCancelledError, match="changed my mind"):
            await task.wait_result(timeout=10)


async def test_a_run_outlives_the_client_that_started_it(served_app: App) -> None:
    """The client exits as soon as ``kiq`` has returned; another process reads the result.

    Perhaps there is no worker yet at that time.
    """
    run_id = await served_app.output_of("leave")

    async with served_app.client() as client:
        result = await Task(task_id=run_id, broker=client.broker).wait_result(timeout=30)

    assert result.return_value == 112


async def test_many_runs_at_once_mix_nothing_up(served_app: App) -> None:
    async with served_app.client() as client:
        pipeline = Pipeline(client.broker, client["add"]).call_next(client["add"], 1000)

        async def run(number: int) -> int:
            task = await pipeline.kiq(number)
            return (await task.wait_result(timeout=60)).return_value

        results = await asyncio.gather(*map(run, range(50)))

    assert results == [number + 1001 for number in range(50)]
