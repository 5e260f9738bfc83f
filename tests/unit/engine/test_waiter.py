"""Whoever waits for a run hears of its end, whatever goes wrong meanwhile."""

import asyncio
from collections.abc import Sequence

import pytest

from taskiq_flow.engine.waiter import Waiter
from taskiq_flow.model.records import RunStatus
from taskiq_flow.stores.base import EndListener
from taskiq_flow.stores.memory import MemoryRunStore
from taskiq_flow.testing.store_bench import StoreBench, step


class Odd(MemoryRunStore):
    """Tells nobody of ends, and fails the second time that it is asked for them."""

    asked = 0

    async def listen(self, listener: EndListener) -> bool:
        return False

    async def ended_among(self, run_ids: Sequence[str]) -> dict[str, RunStatus]:
        self.asked += 1
        if self.asked == 2:
            raise ValueError("this is odd")
        return await super().ended_among(run_ids)


async def test_an_error_that_nobody_foresaw_leaves_nobody_waiting_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with StoreBench(lambda options, clock: Odd(options, clock=clock)) as bench:
        run = await bench.create(step("a"))
        waiter = Waiter(bench.store)
        waiting = asyncio.create_task(waiter.wait(run.run_id))
        async with asyncio.timeout(10):
            while "this is odd" not in caplog.text:  # noqa: ASYNC110 - the log tells nobody
                await asyncio.sleep(0.01)
            await bench.store.cancel(run.run_id, "enough")
            assert await waiting is RunStatus.CANCELLED
        waiter.close()
