"""A group runs several tasks on one value at the same time."""

import pytest
from taskiq import InMemoryBroker

from taskiq_flow.exceptions import EmptyPipelineError, InvalidTaskOptionError
from taskiq_flow.pipeline import Pipeline


async def test_the_results_of_a_group_are_a_list_in_its_order(broker: InMemoryBroker) -> None:
    @broker.task
    def lowest(values: list[int]) -> int:
        return min(values)

    @broker.task
    async def highest(values: list[int]) -> int:
        return max(values)

    @broker.task
    def span(ends: list[int]) -> int:
        return ends[1] - ends[0]

    task = await Pipeline(broker).group([lowest, highest]).call_next(span).kiq([4, 9, 2])

    assert (await task.wait_result()).return_value == 7


async def test_a_map_can_follow_a_group(broker: InMemoryBroker) -> None:
    @broker.task
    def double(value: int) -> int:
        return value * 2

    @broker.task
    def negate(value: int) -> int:
        return -value

    task = await Pipeline(broker).group([double, negate]).map(double).kiq(5)

    assert (await task.wait_result()).return_value == [20, -10]


async def test_each_task_of_a_group_can_take_the_value_by_another_name(
    broker: InMemoryBroker,
) -> None:
    @broker.task
    def power(base: int = 2, exponent: int = 2) -> int:
        return base**exponent

    task = await Pipeline(broker).group([power, power], ["base", "exponent"]).kiq(3)
    assert (await task.wait_result()).return_value == [9, 8]

    pipeline = Pipeline(broker, power).group([power, power], ["base", "exponent"])
    task = await pipeline.kiq(2, exponent=2)
    assert (await task.wait_result()).return_value == [16, 16]

    pipeline = Pipeline(broker, power).group([power, power], "exponent", base=3)
    task = await pipeline.kiq(1)
    assert (await task.wait_result()).return_value == [3, 3]


def test_a_group_needs_tasks_and_as_many_names(broker: InMemoryBroker) -> None:
    @broker.task
    def double(value: int) -> int:
        return value * 2

    with pytest.raises(EmptyPipelineError, match="group"):
        Pipeline(broker).group([])
    with pytest.raises(InvalidTaskOptionError, match="one for each of the 3 tasks"):
        Pipeline(broker).group([double] * 3, ["a", "b"])
