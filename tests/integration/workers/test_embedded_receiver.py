"""A web process may run its own steps: Taskiq's receiver in the process that also starts runs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from taskiq import AsyncBroker
from taskiq.api import run_receiver_task

from taskiq_flow import Pipeline
from tests.integration.workers.conftest import MakeApp


@contextlib.asynccontextmanager
async def receiving(broker: AsyncBroker) -> AsyncIterator[None]:
    task = asyncio.create_task(run_receiver_task(broker))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_receiver_that_is_started_after_the_broker_keeps_leases_and_recovers(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker was started as a client's: what a worker needs has to begin with listening."""
    app = make_app(lease_seconds=0.5)
    monkeypatch.setattr("tests.integration.apps.steps.journal", app.journal)

    async with app.client() as client, receiving(client.broker):
        pipeline = Pipeline(client.broker, client["flaky"]).with_retry(2, delay=0.1)
        retried = await pipeline.kiq("embedded", failures=1)
        held = await Pipeline(client.broker, client["hold"]).kiq(2)

        assert (await retried.wait_result(timeout=30)).return_value == 2
        assert (await held.wait_result(timeout=30)).return_value == "held"

    assert [note.what for note in app.journal.notes("hold")] == ["began", "ended"]
