"""A map runs a task for each element of a list, a filter keeps some of them."""

import asyncio

import pytest
from taskiq import InMemoryBroker

from taskiq_flow.exceptions import BadItemsError, FanOutError, PipelineError
from taskiq_flow.middleware import PipelineMiddleware
from taskiq_flow.pipeline import Pipeline


async def test_results_are_in_the_order_of_the_items(broker: InMemoryBroker) -> None:
    @broker.task
    def numbers(count: int) -> list[int]:
        return list(range(count))

    @broker.task
    async def square(value: int) -> int:
        await asyncio.sleep(0 if value % 2 else 0.001)
        return value * value

    task = await Pipeline(broker, numbers).map(square).kiq(6)

    assert (await task.wait_result()).return_value == [0, 1, 4, 9, 16, 25]


async def test_a_map_can_be_the_first_step(broker: InMemoryBroker) -> None:
    @broker.task
    def scale(value: int, factor: int = 1) -> int:
        return value * factor

    task = await Pipeline(broker).map(scale).kiq((n for n in range(3)), factor=10)

    assert (await task.wait_result()).return_value == [0, 10, 20]


async def test_items_can_be_given_with_the_map(broker: InMemoryBroker) -> None:
    @broker.task
    def double(value: int) -> int:
        return value * 2

    task = await Pipeline(broker).map(double, [1, 2, 3], max_parallel=2).kiq()

    assert (await task.wait_result()).return_value == [2, 4, 6]


async def test_no_more_items_than_max_parallel_run_at_once(broker: InMemoryBroker) -> None:
    running: set[int] = set()
    most = 0

    @broker.task
    async def watch(value: int) -> None:
        nonlocal most
        running.add(value)
        most = max(most, len(running))
        await asyncio.sleep(0.002)
        running.discard(value)

    task = await Pipeline(broker).map(watch, range(8), max_parallel=2).kiq()
    await task.wait_result()

    assert 1 <= most <= 2


async def test_an_empty_list_gives_an_empty_list(broker: InMemoryBroker) -> None:
    @broker.task
    def double(value: int) -> int:
        return value * 2

    @broker.task
    def count(values: list[int]) -> int:
        return len(values)

    task = await Pipeline(broker).map(double, []).call_next(count).kiq()

    assert (await task.wait_result()).return_value == 0


async def test_a_filter_keeps_what_its_task_calls_true(broker: InMemoryBroker) -> None:
    @broker.task
    def is_even(value: int) -> bool:
        return value % 2 == 0

    task = await Pipeline(broker).filter(is_even).kiq([1, 2, 3, 4])

    assert (await task.wait_result()).return_value == [2, 4]


async def test_a_failed_item_fails_the_run(broker: InMemoryBroker) -> None:
    @broker.task
    def invert(value: int) -> float:
        return 1 / value

    task = await Pipeline(broker).map(invert).kiq([1, 0])

    with pytest.raises(PipelineError) as caught:
        await task.wait_result()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert task.failed_step == "invert"


async def test_failed_items_can_be_left_out(broker: InMemoryBroker) -> None:
    @broker.task
    def invert(value: int) -> float:
        return 1 / value

    task = await Pipeline(broker).map(invert, skip_errors=True).kiq([1, 0, 2])

    assert (await task.wait_result()).return_value == [1.0, 0.5]


@pytest.mark.parametrize("value", ["text", {"a": 1}, 5])
async def test_what_has_no_items_is_refused(broker: InMemoryBroker, value: object) -> None:
    @broker.task
    def double(value: int) -> int:
        return value * 2

    with pytest.raises(BadItemsError, match="'double'"):
        await Pipeline(broker).map(double).kiq(value)


async def test_more_items_than_the_setting_allows_are_refused(broker: InMemoryBroker) -> None:
    @broker.task
    def double(value: int) -> int:
        return value * 2

    broker.add_middlewares(PipelineMiddleware(max_fan_out=3))

    with pytest.raises(FanOutError, match="4 items; the limit is 3"):
        await Pipeline(broker).map(double).kiq(range(4))
