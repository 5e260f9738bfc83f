"""Pipelines as steps, branches, waiting and taking back are the same on every store."""

import asyncio
import logging
import os
from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import AbortPipeline, Continue, Pipeline, PipelineCancelledError, PipelineError
from taskiq_flow.conditions import at_least, value_at
from taskiq_flow.engine.children import child_tag
from taskiq_flow.engine.client import RunClient
from taskiq_flow.model.records import RunFilter, RunSnapshot, RunStatus


async def listed(broker: InMemoryBroker, tag: str) -> list[RunSnapshot]:
    return list((await RunClient.of(broker).store.list_runs(RunFilter(tag=tag))).runs)


async def until_all(broker: InMemoryBroker, tag: str, status: RunStatus, count: int) -> None:
    """Wait until so many runs of a tag have a status, and there are no others."""
    async with asyncio.timeout(20):
        while True:
            if [run.status for run in await listed(broker, tag)] == [status] * count:
                return
            await asyncio.sleep(0.02)


async def test_all_kinds_of_steps_work_together(stored_broker: InMemoryBroker) -> None:
    broker = stored_broker

    @broker.task
    def double(value: int) -> int:
        return value * 2

    @broker.task
    def total(values: list[int]) -> int:
        return sum(values)

    @broker.task
    def further(value: int) -> Continue:
        return Continue(Pipeline(broker).map(double), list(range(value)))

    @broker.task
    def fails(value: int) -> int:
        raise ValueError(value)

    each = Pipeline(broker, double).sleep(0.01).condition(at_least(4), double)
    pipeline = (
        Pipeline(broker)
        .map(each, max_parallel=3)
        .reduce(total, chunk_size=2)
        .branch(value_at(), {30: Pipeline(broker, further).reduce(total)}, default=fails)
        .group([each, double])
        .wait_for("go")
    )
    task = await pipeline.kiq([0, 1, 2, 3, 2])
    await task.send_event("go", "gone")

    assert (await task.wait_result(timeout=30)).return_value == "gone"
    values: dict[str, Any] = await task.get_partial_results()
    assert values["pipeline"] == [0, 2, 8, 12, 8]
    assert values["total"] == 30
    assert values["further"] == [2 * n for n in range(30)]
    assert (values["pipeline#2"], values["double"]) == (3480, 1740)


async def test_the_end_of_a_run_reaches_its_children_and_what_it_did(
    stored_broker: InMemoryBroker,
) -> None:
    broker = stored_broker
    undone: list[list[int]] = []

    @broker.task
    def double(value: int) -> int:
        return value * 2

    @broker.task
    def undo(values: list[int]) -> None:
        undone.append(values)

    @broker.task
    def fails(values: list[int]) -> None:
        raise ValueError(values)

    waits = Pipeline(broker).call_next(Pipeline(broker).wait_for("never"))
    pipeline = Pipeline(broker).map(double).on_failure(undo).group([waits, waits, fails])
    task = await pipeline.kiq([1, 2])

    with pytest.raises(PipelineError):
        await task.wait_result(timeout=30)
    await until_all(broker, child_tag(task.run_id), RunStatus.CANCELLED, 2)
    await until_all(broker, f"compensates:{task.run_id}", RunStatus.COMPLETED, 1)
    assert undone == [[2, 4]]


async def test_a_run_may_be_ended_for_any_reason_that_python_can_say(
    stored_broker: InMemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    broker = stored_broker
    # What is logged of it is no text either, which a parallel test run cannot pass on.
    caplog.set_level(logging.CRITICAL)
    path = os.fsdecode(b"caf\xe9.txt")  # a file's name that is not UTF-8
    reasons: list[Any] = [f"{path} is no picture", "a\x00b", 5, None]

    @broker.task
    async def read(number: int) -> None:
        raise AbortPipeline(reasons[number])

    @broker.task
    async def sleep(seconds: int) -> None:
        await asyncio.sleep(seconds)

    ends = [await Pipeline(broker, read).kiq(number) for number in range(len(reasons))]
    ends.append(await Pipeline(broker).map(read).kiq([0]))
    ends.append(await Pipeline(broker, sleep).kiq(60))
    await ends[-1].cancel(f"{path} has gone")
    said: list[str] = []
    for task in ends:
        with pytest.raises(PipelineCancelledError) as caught:
            await task.wait_result(timeout=20)
        said.append(str(caught.value).partition("cancelled: ")[2].replace("\ufffd", "\x00"))

    file = "caf\\udce9.txt"
    first = f"{file} is no picture"
    assert said == [first, "a\x00b", "5", "no reason given", first, f"{file} has gone"]
