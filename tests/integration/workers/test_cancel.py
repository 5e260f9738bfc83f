"""What was cancelled stops wherever it is, and never runs later."""

import asyncio

import pytest

from taskiq_flow import Pipeline
from taskiq_flow.exceptions import PipelineCancelledError
from tests.integration.workers.conftest import MakeApp
from tests.integration.workers.harness import eventually

pytestmark = pytest.mark.redis


async def test_a_cancel_reaches_every_item_of_a_map_and_begins_no_other(make_app: MakeApp) -> None:
    app = make_app()
    await asyncio.gather(app.start(), app.start())
    journal = app.journal

    async with app.client() as client:
        task = await Pipeline(client.broker).map(client["pause"], [60.0] * 40, max_parallel=8).kiq()
        await eventually(lambda: len(journal.notes("pause", "began")) == 8)

        await task.cancel("enough")
        await eventually(lambda: len(journal.notes("pause", "cancelled")) == 8, seconds=2)

        with pytest.raises(PipelineCancelledError, match="enough"):
            await task.wait_result(timeout=10)
        # Another run is served, and is over: whatever was to begin of the first one has begun.
        await (await Pipeline(client.broker, client["pause"]).kiq(2.5)).wait_result(timeout=30)

    assert len([note for note in journal.notes("pause", "began") if note.key == "60.0"]) == 8
    assert not [note for note in journal.notes("pause", "ended") if note.key == "60.0"]


async def test_a_cancelled_run_that_no_worker_had_begun_never_runs(make_app: MakeApp) -> None:
    app = make_app()

    async with app.client() as client:
        task = await Pipeline(client.broker, client["add_noted"]).kiq(1)
        await task.cancel()
        await app.start()
        later = await Pipeline(client.broker, client["add_noted"]).kiq(2)
        await later.wait_result(timeout=30)

    assert [note.key for note in app.journal.notes("add_noted")] == ["2"]
