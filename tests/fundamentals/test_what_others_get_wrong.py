"""What systems of this kind are known to get wrong, where no other test is about it."""

import logging
from typing import Any

import pytest
from taskiq import AsyncResultBackend, InMemoryBroker, TaskiqResult

from taskiq_flow import Pipeline, PipelineMiddleware
from taskiq_flow.engine.sender import STEP_TASK


@pytest.mark.parametrize("position", range(5))
async def test_a_retry_at_any_position_changes_no_result(
    broker: InMemoryBroker, position: int
) -> None:
    """Before, in and behind a map, where every second item fails once, in a group, at the end."""
    failed: set[str] = set()

    def fails_once(place: int, key: str) -> None:
        if place == position and key not in failed:
            failed.add(key)
            raise ConnectionError(key)

    @broker.task
    async def count(most: int) -> list[int]:
        fails_once(0, "count")
        return list(range(most))

    @broker.task
    async def square(number: int) -> int:
        if number % 2:
            fails_once(1, f"square {number}")
        return number * number

    @broker.task
    async def is_large(number: int) -> bool:
        fails_once(2, f"is_large {number}")
        return number > 10

    @broker.task
    async def total(numbers: list[int]) -> int:
        fails_once(3, "total")
        return sum(numbers)

    @broker.task
    async def negative(number: int) -> int:
        fails_once(4, "negative")
        return -number

    pipeline = Pipeline(broker, count).map(square).filter(is_large).group([total, total])
    pipeline = pipeline.map(negative).with_retry(2, 0.001)
    task = await pipeline.kiq(6)

    assert (await task.wait_result(timeout=5)).return_value == [-41, -41]
    assert failed


class Forgetful(AsyncResultBackend[Any]):
    """Keeps no result longer than until somebody could ask for it."""

    async def set_result(self, task_id: str, result: TaskiqResult[Any]) -> None: ...

    async def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[Any]:
        raise KeyError(task_id)

    async def is_result_ready(self, task_id: str) -> bool:
        return False


@pytest.mark.parametrize("await_inplace", [False, True])
async def test_a_run_needs_nothing_that_a_result_backend_keeps(await_inplace: bool) -> None:
    """Taskiq's own in-memory backend keeps 100 results, others expire them."""
    broker = InMemoryBroker(await_inplace=await_inplace).with_result_backend(Forgetful())
    broker.add_middlewares(PipelineMiddleware())

    @broker.task
    async def numbers(most: int) -> list[int]:
        return list(range(most))

    @broker.task
    async def double(number: int) -> int:
        return number * 2

    @broker.task
    async def total(values: list[int]) -> int:
        return sum(values)

    task = await Pipeline(broker, numbers).map(double).call_next(total).kiq(300)

    assert (await task.wait_result(timeout=5)).return_value == 300 * 299
    assert (await task.get_partial_results())["double"] == [2 * one for one in range(300)]
    await broker.shutdown()


@pytest.mark.parametrize("slots", [None, 7, "x", [[]], [["run"]], [[1, 2, 3, 4]], [None]])
async def test_a_message_that_cannot_be_read_is_left_and_the_next_one_is_worked_off(
    broker: InMemoryBroker, slots: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    @broker.task
    async def add(value: int) -> int:
        return value + 1

    pipeline = Pipeline(broker, add)
    assert (await (await pipeline.kiq(1)).wait_result(timeout=5)).return_value == 2
    step = broker.find_task(STEP_TASK)
    assert step is not None

    await step.kiq(slots)  # type: ignore[call-overload]

    assert (await (await pipeline.kiq(2)).wait_result(timeout=5)).return_value == 3
    await broker.wait_all()
    assert caplog.messages == [f"A message of {STEP_TASK} names no slots: {slots!r}"]
