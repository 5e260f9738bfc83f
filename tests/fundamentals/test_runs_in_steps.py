"""A step may start other runs and wait for what they give."""

from taskiq import InMemoryBroker

from taskiq_flow import Pipeline, Task


async def test_a_step_waits_for_a_run_that_it_has_started(broker: InMemoryBroker) -> None:
    """Also where starting a run means to run it at once, and several runs deep."""

    @broker.task
    async def countdown(number: int) -> list[int]:
        if number == 0:
            return []
        task = await Pipeline(broker, countdown).kiq(number - 1)
        result = await task.wait_result(timeout=30)
        return [number, *result.return_value]

    @broker.task
    async def length(numbers: list[int]) -> int:
        return len(numbers)

    task = await Pipeline(broker, countdown).call_next(length).kiq(5)

    assert (await task.wait_result(timeout=30)).return_value == 5


async def test_the_steps_after_it_do_not_wait_for_a_run_that_nobody_waits_for(
    broker: InMemoryBroker,
) -> None:
    @broker.task
    async def double(value: int) -> int:
        return value * 2

    @broker.task
    async def start(value: int) -> str:
        return (await Pipeline(broker, double).call_next(double).kiq(value)).task_id

    @broker.task
    async def read(run_id: str) -> int:
        result = await Task(run_id, broker).wait_result(timeout=30)
        return result.return_value

    task = await Pipeline(broker, start).call_next(read).kiq(3)

    assert (await task.wait_result(timeout=30)).return_value == 12
