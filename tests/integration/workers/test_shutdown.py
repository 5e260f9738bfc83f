"""A worker that is told to stop hands its work on: at once, and without counting a failure."""

import pytest

from taskiq_flow import Pipeline
from tests.integration.workers.conftest import MakeApp
from tests.integration.workers.harness import App, Client, Worker, eventually

STEPS = 20_000


async def test_a_worker_leaves_a_long_chain_within_three_seconds_and_another_goes_on(
    make_app: MakeApp,
) -> None:
    app = make_app(lease_seconds=30, kick_seconds=30)
    first = await app.start()

    async with app.client() as client:
        pipeline = Pipeline(client.broker, client["add"])
        for _ in range(STEPS - 1):
            pipeline.call_next(client["add"])
        task = await pipeline.kiq(0)
        await eventually(lambda: running(task))
        seconds = await first.terminate()
        left = (await task.get_status()).steps_left
        await app.start()
        after = await task.get_status()
        await eventually(lambda: fewer_left(task, left))

    assert seconds < 3
    assert 0 < left < STEPS
    assert after.status == "RUNNING"
    assert all(step.lost_count == step.retry_count == 0 for step in after.steps)
