"""A worker that is told to stop hands its work on: at once, and without counting a failure."""

import signal

import pytest

from taskiq_flow import Pipeline
from taskiq_flow.engine.client import RunClient
from taskiq_flow.tracking import PipelineStatus
from tests.integration.workers.conftest import MakeApp
from tests.integration.workers.harness import App, eventually

STEPS = 20_000

PATIENT = {"lease_seconds": 60.0, "kick_seconds": 60.0}
"""What goes on sooner than this was handed on, and not found by recovery."""


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--use-process-pool",)], ids=["threads", "processes"])
async def test_a_worker_leaves_a_long_chain_within_three_seconds_and_another_goes_on(
    make_app: MakeApp, options: tuple[str, ...]
) -> None:
    app = make_app(**PATIENT)
    first = await app.start(*options)

    async with app.client() as client:
        runs = RunClient.of(client.broker)
        pipeline = Pipeline(client.broker, client["add"])
        for _ in range(STEPS - 1):
            pipeline.call_next(client["add"])
        task = await pipeline.kiq(0)

        async def left() -> int:
            return (await runs.find(task.task_id)).remaining

        async def has_begun() -> bool:
            return await left() < STEPS

        await eventually(has_begun)
        seconds = await first.terminate()
        at_the_stop = await left()

        async def goes_on() -> bool:
            return await left() < at_the_stop

        await app.start(*options)
        await eventually(goes_on)
        status = await runs.status(task.task_id, values=False)
        await task.cancel()

    assert seconds < 3
    assert 0 < at_the_stop < STEPS
    assert {step.lost_count + step.retry_count for step in status.steps} == {0}


async def test_a_running_async_step_is_given_back_at_once(make_app: MakeApp) -> None:
    """After the time that Taskiq waits for it; another worker begins it again, as a first try."""
    app = make_app(**PATIENT)
    first = await app.start("--wait-tasks-timeout", "0.2")

    async with app.client() as client:
        task = await Pipeline(client.broker, client["pause_once"]).kiq()
        await eventually(lambda: len(app.journal.notes("pause_once", "began")) == 1)
        second = await app.start()
        seconds = await first.terminate()

        result = await task.wait_result(timeout=10)
        status = await task.get_status()

    assert seconds < 3
    assert result.return_value == "second time"
    assert_given_back_once(app, status)
    assert second.is_running


async def test_a_running_sync_step_ends_and_is_recorded_before_its_worker_goes(
    make_app: MakeApp,
) -> None:
    """A thread cannot be stopped: its lease is kept until it has ended, and nothing is repeated."""
    app = make_app()
    first = await app.start("--wait-tasks-timeout", "0.2")

    async with app.client() as client:
        pipeline = Pipeline(client.broker, client["hold"]).call_after(client["hold"], 0)
        task = await pipeline.kiq(3)
        await eventually(lambda: len(app.journal.notes("hold", "began")) == 1)
        await app.start()
        await first.terminate()

        await task.wait_result(timeout=30)

    assert [note.what for note in app.journal.notes("hold")] == ["began", "ended"] * 2


async def test_a_step_in_a_process_pool_is_recorded_too(make_app: MakeApp) -> None:
    """Steps that are continued in place run in the pool's processes, as the first one does."""
    app = make_app()
    options = ("--use-process-pool", "--max-process-pool-processes", "1")
    worker = await app.start(*options)

    async with app.client() as client:
        pipeline = Pipeline(client.broker, client["where"])
        for _ in range(4):
            pipeline.call_next(client["where"])
        task = await pipeline.kiq([])
        pids = (await task.wait_result(timeout=30)).return_value

    manager, *pool = worker.child_pids
    assert len(pids) == 5
    assert set(pids) <= set(pool)
    assert manager not in pids


async def test_a_worker_that_is_told_again_goes_at_once_and_gives_its_work_back(
    make_app: MakeApp,
) -> None:
    """Told once, it waits for what it runs, which here would take for ever."""
    app = make_app(**PATIENT)
    first = await app.start("--hardkill-count", "1")

    async with app.client() as client:
        task = await Pipeline(client.broker, client["pause_once"]).kiq()
        await eventually(lambda: len(app.journal.notes("pause_once", "began")) == 1)
        first.send(signal.SIGTERM)
        await first.has_logged("Workers are scheduled for shutdown")
        second = await app.start()
        assert first.is_running

        seconds = await first.ends_when_told_again(signal.SIGINT)
        result = await task.wait_result(timeout=10)
        status = await task.get_status()

    assert seconds < 5
    assert result.return_value == "second time"
    assert_given_back_once(app, status)
    assert second.is_running


def assert_given_back_once(app: App, status: PipelineStatus) -> None:
    """The step was cancelled, and begun again, without counting as failed or lost."""
    notes = [note.what for note in app.journal.notes("pause_once")]
    assert notes == ["began", "cancelled", "began"]
    assert (status.steps[0].retry_count, status.steps[0].lost_count) == (0, 0)
