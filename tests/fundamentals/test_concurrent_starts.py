"""One pipeline object serves any number of callers at the same time."""

import asyncio
from pathlib import Path

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import DataflowPipeline, Pipeline, PipelineMiddleware

CALLERS = 200


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("kind", ["chain", "graph"])
async def test_each_of_200_concurrent_callers_gets_its_own_result(
    broker: InMemoryBroker, store: str, kind: str, tmp_path: Path
) -> None:
    url = "memory://" if store == "memory" else f"sqlite:///{tmp_path / 'runs.db'}"
    broker.add_middlewares(PipelineMiddleware(store=url))

    @broker.task
    async def double(number: int) -> int:
        return number * 2

    @broker.task
    async def numbers(double: int) -> list[int]:
        return [double, double + 1]

    @broker.task
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    chain = Pipeline(broker, double).call_next(numbers).call_next(total)
    pipeline = chain if kind == "chain" else DataflowPipeline(broker, [double, numbers, total])

    async def call(number: int) -> tuple[str, int]:
        task = await pipeline.kiq(number)
        value = (await task.wait_result(timeout=60)).return_value
        return task.task_id, value if kind == "chain" else value["total"]

    answers = await asyncio.gather(*(call(number) for number in range(CALLERS)))

    assert [value for _, value in answers] == [4 * number + 1 for number in range(CALLERS)]
    assert len({run_id for run_id, _ in answers}) == CALLERS
