"""A reduction makes one value of the list before it."""

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import Pipeline
from taskiq_flow.exceptions import InvalidTaskOptionError


async def test_the_whole_list_becomes_one_value(broker: InMemoryBroker) -> None:
    @broker.task
    def square(value: int) -> int:
        return value * value

    @broker.task
    def total(values: list[int], factor: int = 1) -> int:
        return sum(values) * factor

    pipeline = Pipeline(broker).map(square).reduce(total, factor=2, output="sum")
    task = await pipeline.call_next(square).kiq([1, 2, 3])

    assert (await task.wait_result(timeout=10)).return_value == 28 * 28
    assert (await task.get_partial_results())["sum"] == 28


async def test_a_list_can_be_reduced_in_chunks_after_an_initial_value(
    broker: InMemoryBroker,
) -> None:
    sizes: list[int] = []

    @broker.task
    def join(parts: list[str]) -> str:
        sizes.append(len(parts))
        return "".join(parts)

    pipeline = Pipeline(broker).reduce(join, initial=">", chunk_size=3, max_parallel=2)
    task = await pipeline.kiq(list("abcdefgh"))

    assert (await task.wait_result(timeout=10)).return_value == ">abcdefgh"
    assert max(sizes) == 3


async def test_a_group_is_reduced_and_a_step_beside_it_comes_first(
    broker: InMemoryBroker,
) -> None:
    order: list[str] = []

    @broker.task
    def one(value: int) -> int:
        return value

    @broker.task
    def note() -> None:
        order.append("note")

    @broker.task
    def largest(limit: int, values: list[int]) -> int:
        order.append("largest")
        return min(limit, max(values))

    pipeline = Pipeline(broker).group([one, one]).call_after(note)
    task = await pipeline.reduce(largest, param_name="values", limit=3).kiq(9)

    assert (await task.wait_result(timeout=10)).return_value == 3
    assert order == ["note", "largest"]


def test_a_chunk_of_one_is_refused_at_once(broker: InMemoryBroker) -> None:
    @broker.task
    def total(values: list[int]) -> int:
        return sum(values)

    with pytest.raises(InvalidTaskOptionError, match="Chunk_size must be 2 or more, not 1"):
        Pipeline(broker).reduce(total, chunk_size=1)
