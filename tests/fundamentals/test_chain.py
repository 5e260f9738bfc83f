"""A chain: each step takes what the one before it returned."""

import asyncio

import pytest
from taskiq import InMemoryBroker, async_shared_broker
from taskiq.brokers.shared_broker import AsyncSharedBroker

from taskiq_flow.exceptions import (
    BadArgumentsError,
    EmptyPipelineError,
    ForeignTaskError,
    NotATaskError,
)
from taskiq_flow.pipeline import Pipeline


async def test_results_go_from_step_to_step(broker: InMemoryBroker) -> None:
    @broker.task
    async def add_one(value: int) -> int:
        return value + 1

    @broker.task
    def repeat(value: int, times: int) -> list[int]:
        return [value] * times

    pipeline = Pipeline(broker, add_one).call_next(repeat, times=4)
    task = await pipeline.kiq(2)
    result = await task.wait_result()

    assert result.return_value == [3, 3, 3, 3]
    assert not result.is_err


async def test_the_previous_result_can_go_to_another_parameter(broker: InMemoryBroker) -> None:
    @broker.task
    def start() -> int:
        return 2

    @broker.task
    def power(base: int, exponent: int) -> int:
        return base**exponent

    task = await Pipeline(broker, start).call_next(power, 10, param_name="exponent").kiq()

    assert (await task.wait_result()).return_value == 100


async def test_a_step_beside_the_flow_does_not_change_the_value(broker: InMemoryBroker) -> None:
    notes: list[str] = []

    @broker.task
    def double(value: int) -> int:
        return value * 2

    @broker.task
    def note(text: str) -> str:
        notes.append(text)
        return "noted"

    pipeline = Pipeline(broker, double).call_after(note, "halfway").call_next(double)
    task = await pipeline.kiq(1)

    assert (await task.wait_result()).return_value == 4
    assert notes == ["halfway"]


async def test_a_step_beside_the_flow_can_replace_the_value(broker: InMemoryBroker) -> None:
    @broker.task
    def first() -> str:
        return "first"

    @broker.task
    def second() -> str:
        return "second"

    task = await Pipeline(broker, first).call_after(second, replace=True).kiq()

    assert (await task.wait_result()).return_value == "second"


async def test_one_pipeline_started_many_times_at_once_mixes_nothing_up(
    broker: InMemoryBroker,
) -> None:
    @broker.task
    async def add(value: int, other: int) -> int:
        return value + other

    pipeline = Pipeline(broker, add).call_next(add, 100)

    async def run(number: int) -> int:
        task = await pipeline.kiq(number, other=1)
        return (await task.wait_result()).return_value

    assert await asyncio.gather(*map(run, range(50))) == [n + 101 for n in range(50)]


async def test_a_run_keeps_the_definition_that_it_was_started_with(
    broker: InMemoryBroker,
) -> None:
    @broker.task
    def double(value: int) -> int:
        return value * 2

    pipeline = Pipeline(broker, double)
    before = await pipeline.kiq(1)
    pipeline.call_next(double)
    after = await pipeline.kiq(1)

    assert (await before.wait_result()).return_value == 2
    assert (await after.wait_result()).return_value == 4


async def test_tasks_of_the_shared_broker_and_kickers_are_steps_too(
    broker: InMemoryBroker,
) -> None:
    @async_shared_broker.task
    def shared_double(value: int) -> int:
        return value * 2

    @broker.task
    def add_one(value: int) -> int:
        return value + 1

    kicker = add_one.kicker().with_labels(priority=3)
    task = await Pipeline(broker).call_next(shared_double).call_next(kicker).kiq(5)

    assert (await task.wait_result()).return_value == 11


async def test_a_shared_task_belongs_to_every_broker(broker: InMemoryBroker) -> None:
    shared = AsyncSharedBroker()
    shared.default_broker(InMemoryBroker())

    @shared.task
    def triple(value: int) -> int:
        return value * 3

    task = await Pipeline(broker).call_next(triple).call_next(triple.kicker()).kiq(1)

    assert (await task.wait_result()).return_value == 9


def test_a_function_that_is_no_task_is_refused_at_once(broker: InMemoryBroker) -> None:
    def plain(value: int) -> int:
        return value

    with pytest.raises(NotATaskError, match=r"'plain'.*@broker\.task"):
        Pipeline(broker).map(plain)  # type: ignore[call-overload]


def test_a_task_of_another_broker_is_refused_at_once(broker: InMemoryBroker) -> None:
    @InMemoryBroker().task
    def elsewhere(value: int) -> int:
        return value

    with pytest.raises(ForeignTaskError, match="elsewhere"):
        Pipeline(broker, elsewhere)


async def test_an_empty_pipeline_is_not_started(broker: InMemoryBroker) -> None:
    with pytest.raises(EmptyPipelineError):
        await Pipeline(broker).kiq()


async def test_wrong_arguments_are_refused_before_anything_runs(broker: InMemoryBroker) -> None:
    ran: list[int] = []

    @broker.task
    def add(left: int, right: int) -> int:
        ran.append(left)
        return left + right

    pipeline = Pipeline(broker, add)

    with pytest.raises(BadArgumentsError, match="'right' received no value"):
        await pipeline.kiq(1)
    with pytest.raises(BadArgumentsError, match="2 free parameters but is given 3"):
        await pipeline.kiq(1, 2, 3)
    assert ran == []
    assert pipeline.pipeline_id is None
