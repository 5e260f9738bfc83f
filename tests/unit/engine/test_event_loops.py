"""One process that runs pipelines in one event loop after another, as `asyncio.run` makes them."""

import asyncio
from pathlib import Path

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import Pipeline, PipelineMiddleware


@pytest.mark.parametrize("store", ["memory://", "sqlite:///{directory}/runs.sqlite"])
@pytest.mark.parametrize("closes", [True, False], ids=["closed", "left open"])
def test_each_event_loop_has_an_engine_that_looks_for_what_is_due(
    store: str, closes: bool, tmp_path: Path
) -> None:
    broker = InMemoryBroker()
    url = store.format(directory=tmp_path)
    middleware = PipelineMiddleware(store=url, namespace=f"loops-{closes}")
    broker.add_middlewares(middleware)

    @broker.task(task_name="loops:add")
    async def add(value: int) -> int:
        return value + 1

    chain = Pipeline(broker).call_next(add).sleep(0.01).call_next(add)

    async def run_one(value: int) -> int:
        await broker.startup()
        task = await chain.kiq(value)
        result = await task.wait_result(timeout=20)
        if closes:
            await broker.shutdown()
        return int(result.return_value)

    assert [asyncio.run(run_one(value)) for value in (1, 5)] == [3, 7]
