"""A broker in memory that was shut down runs nothing more; what it had in hand stays stored."""

import asyncio
from pathlib import Path

from taskiq import InMemoryBroker

from taskiq_flow import Pipeline, PipelineMiddleware


async def test_a_step_that_was_running_at_the_shutdown_is_not_begun_again(tmp_path: Path) -> None:
    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware(store=f"sqlite:///{tmp_path / 'runs.db'}"))
    began: list[int] = []
    begun = asyncio.Event()

    @broker.task
    async def wait(value: int) -> int:
        began.append(value)
        begun.set()
        await asyncio.Event().wait()
        return value

    before = asyncio.all_tasks()
    await Pipeline(broker).call_next(wait).kiq(1)
    await begun.wait()

    await broker.shutdown()
    for _ in range(20):
        await asyncio.sleep(0)

    assert began == [1]
    assert asyncio.all_tasks() == before
