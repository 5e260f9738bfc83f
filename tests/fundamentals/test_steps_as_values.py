"""Steps can be made beforehand and added to any pipeline; so can steps of one's own."""

import asyncio
from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import Pipeline, PipelineError
from taskiq_flow.exceptions import InvalidTaskOptionError
from taskiq_flow.steps import (
    AddsItself,
    BranchStep,
    ConditionStep,
    FilterStep,
    GroupStep,
    IfStep,
    MapperStep,
    ReduceStep,
    SequentialStep,
    TimeoutStep,
)


@pytest.fixture
def tasks(broker: InMemoryBroker) -> dict[str, Any]:
    @broker.task
    def numbers(most: int) -> list[int]:
        return list(range(most))

    @broker.task
    def add(number: int, other: int = 1) -> int:
        return number + other

    @broker.task
    def is_even(number: int) -> bool:
        return number % 2 == 0

    @broker.task
    def total(values: list[int]) -> int:
        return sum(values)

    @broker.task
    def size(number: int) -> str:
        return "large" if number > 10 else "small"

    return {name: task for name, task in locals().items() if name != "broker"}


async def result_of(broker: InMemoryBroker, *steps: AddsItself, start: Any) -> Any:
    pipeline = Pipeline(broker)
    for step in steps:
        pipeline.add_step(step)
    return (await (await pipeline.kiq(start)).wait_result(timeout=10)).return_value


async def test_steps_run_in_the_order_in_which_they_are_added(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    steps = [
        SequentialStep(tasks["numbers"]),
        MapperStep(tasks["add"], max_parallel=2, kwargs={"other": 10}),
        FilterStep(tasks["is_even"]),
        ReduceStep(tasks["total"], initial=1000),
        SequentialStep(tasks["numbers"], kwargs={"most": 1}, passes_by=True),
    ]

    assert await result_of(broker, *steps, start=5) == 1000 + 10 + 12 + 14


async def test_a_step_can_choose_and_spread(broker: InMemoryBroker, tasks: dict[str, Any]) -> None:
    add, size = tasks["add"], tasks["size"]
    even = ConditionStep(tasks["is_even"], add)
    by_size = BranchStep(
        size, {"large": add}, default=GroupStep([add, size]).add_to(Pipeline(broker))
    )

    assert await result_of(broker, even, start=4) == 5
    assert await result_of(broker, even, start=5) == 5
    assert await result_of(broker, by_size, start=11) == 12
    assert await result_of(broker, by_size, start=1) == [2, "small"]
    assert IfStep is ConditionStep


async def test_a_step_has_a_time_of_its_own(broker: InMemoryBroker) -> None:
    @broker.task
    async def forever(number: int) -> int:
        await asyncio.Event().wait()
        return number

    with pytest.raises(PipelineError, match=r"'forever' ran longer than its timeout of 0\.1 s"):
        await result_of(broker, TimeoutStep(forever, 0.1), start=1)
    with pytest.raises(InvalidTaskOptionError, match="Timeout must be"):
        TimeoutStep(forever, 0)


def test_what_does_not_say_how_it_is_added_is_refused(broker: InMemoryBroker) -> None:
    with pytest.raises(InvalidTaskOptionError, match="Step must have a method add_to"):
        Pipeline(broker).add_step(MapperStep)
    with pytest.raises(InvalidTaskOptionError, match="Step must have a method add_to"):
        Pipeline(broker).add_step("double")


async def test_a_step_of_ones_own_is_made_of_others(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    class Twice:
        def __init__(self, step: AddsItself) -> None:
            self.step = step

        def add_to(self, pipeline: Pipeline[Any]) -> Pipeline[Any]:
            return pipeline.add_step(self.step).add_step(self.step)

    assert await result_of(broker, Twice(SequentialStep(tasks["add"])), start=1) == 3
