"""A step may take so long, and so may a run: what is cut off, and what its user reads."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from taskiq import InMemoryBroker, TaskiqError

from taskiq_flow import PipelineContext, PipelineMiddleware, pipeline_task
from taskiq_flow.exceptions import (
    InvalidTaskOptionError,
    PipelineError,
    PipelineTimeoutError,
    StepTimeoutError,
)
from taskiq_flow.pipeline import DataflowPipeline, Pipeline


@pytest.fixture
async def broker() -> AsyncIterator[InMemoryBroker]:
    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware(lease_seconds=2))
    yield broker
    await broker.shutdown()


async def test_a_step_past_its_own_timeout_is_cancelled_and_named(broker: InMemoryBroker) -> None:
    cancelled: list[str] = []

    @broker.task(timeout=0.2)
    async def slow() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("slow")
            raise
        return "never"

    task = await Pipeline(broker, slow).kiq()
    with pytest.raises(
        PipelineError, match=r"'slow' ran longer than its timeout of 0\.2 s"
    ) as told:
        await task.wait_result(timeout=60)

    assert cancelled == ["slow"]
    assert isinstance(told.value.__cause__, StepTimeoutError)
    assert isinstance(told.value.__cause__, asyncio.TimeoutError)
    assert not isinstance(told.value, PipelineTimeoutError)
    status = await task.get_status()
    assert (str(status), status.steps[0].status) == ("FAILED", "FAILED")


@pytest.mark.parametrize("way", ["decorator", "label", "kicker", "pipeline"])
async def test_a_timeout_of_a_step_can_be_said_in_four_places(
    broker: InMemoryBroker, way: str
) -> None:
    async def slow() -> None:
        await asyncio.Event().wait()

    labels: dict[str, Any] = {"timeout": 0.2}
    decorated = pipeline_task(timeout=0.2)(slow) if way == "decorator" else slow
    step: Any = broker.task(**(labels if way == "label" else {}))(decorated)
    if way == "kicker":
        step = step.kicker().with_labels(**labels)
    pipeline = Pipeline(broker, step)
    if way == "pipeline":
        pipeline.with_labels(**labels)

    with pytest.raises(PipelineError, match=r"longer than its timeout of 0\.2 s"):
        await (await pipeline.kiq()).wait_result(timeout=60)


async def test_a_timeout_is_a_failure_like_others_and_may_be_retried(
    broker: InMemoryBroker,
) -> None:
    attempts: list[int] = []

    @broker.task(timeout=0.2)
    async def slow_once(context: PipelineContext) -> int:
        attempts.append(context.attempt)
        if context.attempt == 1:
            await asyncio.Event().wait()
        return context.attempt

    pipeline = Pipeline(broker, slow_once).with_retry(2, delay=0, retry_on=asyncio.TimeoutError)

    assert (await (await pipeline.kiq()).wait_result(timeout=60)).return_value == 2
    assert attempts == [1, 2]


async def test_each_item_of_a_map_has_the_time_for_itself(broker: InMemoryBroker) -> None:
    @broker.task(timeout=0.3)
    async def slow(value: int) -> int:
        if value == 3:
            await asyncio.Event().wait()
        await asyncio.sleep(0.1)
        return value

    pipeline = Pipeline(broker).map(slow, range(6), max_parallel=1, skip_errors=True)

    assert (await (await pipeline.kiq()).wait_result(timeout=60)).return_value == [0, 1, 2, 4, 5]


async def test_a_run_past_its_deadline_fails_and_cancels_what_runs(broker: InMemoryBroker) -> None:
    noted, cancelled = list[str](), asyncio.Event()

    @broker.task
    async def quick() -> str:
        return "done"

    @broker.task
    async def slow(value: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    @broker.task
    async def after(value: None) -> None:
        noted.append("ran")

    pipeline = Pipeline(broker, quick).call_next(slow).call_next(after).with_timeout(0.3)
    task = await pipeline.kiq()
    with pytest.raises(
        PipelineTimeoutError, match=r"took longer than its timeout of 0\.3 s"
    ) as told:
        await task.wait_result(timeout=60)

    assert isinstance(told.value, asyncio.TimeoutError)
    assert isinstance(told.value, TaskiqError)
    assert told.value.partial_results == {"quick": "done"}
    status = await task.get_status()
    assert (str(status), [str(step.status) for step in status.steps]) == (
        "FAILED",
        ["COMPLETED", "CANCELLED"],
    )
    async with asyncio.timeout(10):
        await cancelled.wait()
    assert noted == []


async def test_a_sync_step_past_the_deadline_is_told_and_its_result_dropped(
    broker: InMemoryBroker,
) -> None:
    told = threading.Event()

    @broker.task
    def slow(context: PipelineContext) -> str:
        for _ in range(3000):
            if told.wait(0.01) or context.cancelled:
                break
        told.set()
        return "too late"

    task = await Pipeline(broker, slow).with_timeout(0.3).kiq()
    with pytest.raises(PipelineTimeoutError):
        await task.wait_result(timeout=60)

    assert await asyncio.to_thread(told.wait, 2.5)
    assert await task.get_partial_results() == {}


async def test_waiting_no_longer_is_no_end_of_the_run(broker: InMemoryBroker) -> None:
    go = asyncio.Event()

    @broker.task
    async def slow() -> str:
        await go.wait()
        return "done"

    task = await Pipeline(broker, slow).kiq()
    with pytest.raises(asyncio.TimeoutError) as told:
        await task.wait_result(timeout=0.1)
    go.set()

    assert isinstance(told.value, TaskiqError)
    assert (await task.wait_result(timeout=60)).return_value == "done"


async def test_the_time_of_a_graph_may_be_bounded_too(broker: InMemoryBroker) -> None:
    @broker.task
    async def slow(x: int) -> None:
        await asyncio.Event().wait()

    with pytest.raises(PipelineTimeoutError):
        await DataflowPipeline(broker, [slow]).with_timeout(0.3).kiq_dataflow(x=1)


@pytest.mark.parametrize("wrong", [0, -1])
def test_a_time_that_makes_no_sense_is_refused(broker: InMemoryBroker, wrong: float) -> None:
    words = re.escape(f"Timeout must be positive, not {wrong}")
    with pytest.raises(InvalidTaskOptionError, match=words):
        Pipeline(broker).with_timeout(wrong)
    with pytest.raises(InvalidTaskOptionError, match=words):
        Pipeline(broker, timeout=wrong)
