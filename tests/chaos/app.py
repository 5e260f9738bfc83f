"""The application that the kill tests run: every body says in a file when it begins and ends."""

import asyncio
import os
import random
import time
from pathlib import Path

from taskiq import AsyncBroker
from taskiq_redis import ListQueueBroker, RedisStreamBroker

from taskiq_flow import DataflowPipeline, Pipeline, PipelineContext, PipelineMiddleware
from taskiq_flow.dataflow import pipeline_task

LOG = Path(os.environ["CHAOS_LOG"])
KINDS = {"list": ListQueueBroker, "stream": RedisStreamBroker}

# A stream's group starts at its end by default: messages sent before the first worker are lost on
# purpose, and are sent again by the store.
broker: AsyncBroker = KINDS[os.environ["CHAOS_BROKER"]](
    os.environ["CHAOS_REDIS"], queue_name=os.environ["CHAOS_NAMESPACE"]
)
broker.add_middlewares(
    PipelineMiddleware(
        store=os.environ["CHAOS_STORE"],
        namespace=os.environ["CHAOS_NAMESPACE"],
        lease_seconds=float(os.environ.get("CHAOS_LEASE", "2")),
        kick_seconds=2,
    )
)


def note(mark: str, context: PipelineContext) -> None:
    """Append one line, whole or not at all: begin or end, of which unit, by which process."""
    unit = f"{context.run_id}/{context.step_index}/{context.item_index}"
    line = f"{mark} {unit} {os.getpid()} {time.time():.6f}\n"
    with LOG.open("ab", buffering=0) as file:
        file.write(line.encode())


async def body(context: PipelineContext, longest: float = 0.05) -> None:
    note("B", context)
    await asyncio.sleep(random.uniform(0.002, longest))
    note("E", context)


@broker.task(task_name="add")
async def add(value: int, context: PipelineContext) -> int:
    await body(context)
    return value + 1


@broker.task(task_name="flaky")
async def flaky(value: int, context: PipelineContext) -> int:
    await body(context)
    if context.attempt == 1:
        raise ConnectionError("the first try always fails")
    return value + 1


@broker.task(task_name="spread")
async def spread(value: int, context: PipelineContext) -> list[int]:
    await body(context)
    return [value + number for number in range(12)]


@broker.task(task_name="total")
async def total(values: list[int], context: PipelineContext) -> int:
    await body(context)
    return sum(values)


@broker.task(task_name="blocking")
def blocking(value: int, context: PipelineContext) -> int:
    note("B", context)
    time.sleep(random.uniform(0.002, 0.05))
    note("E", context)
    return value + 1


@broker.task(task_name="long")
async def long(value: int, context: PipelineContext) -> int:
    note("B", context)
    await asyncio.sleep(float(os.environ.get("CHAOS_LONG", "6")))
    note("E", context)
    return value + 1


@broker.task(task_name="root")
@pipeline_task(output="root")
async def root(value: int, context: PipelineContext) -> int:
    await body(context)
    return value


@broker.task(task_name="left")
@pipeline_task(output="left")
async def left(root: int, context: PipelineContext) -> int:
    await body(context)
    return root + 1


@broker.task(task_name="right")
@pipeline_task(output="right")
async def right(root: int, context: PipelineContext) -> int:
    await body(context)
    return root + 2


@broker.task(task_name="join")
@pipeline_task(output="join")
async def join(left: int, right: int, context: PipelineContext) -> int:
    await body(context)
    return left + right


chain = Pipeline(broker, add)
for _ in range(7):
    chain.call_next(add)
retried = (
    Pipeline(broker, flaky)
    .call_next(blocking)
    .call_next(flaky)
    .with_retry(max_attempts=5, delay=0.05)
)
mapped = Pipeline(broker, spread).map(add, max_parallel=3).call_next(total)
diamond = DataflowPipeline.from_tasks(broker, [root, left, right, join])
single_long = Pipeline(broker, long)


async def start(number: int) -> tuple[str, str]:
    """Start the pipeline of this number; returns its id and the JSON of the result to expect."""
    if number < 0:  # the outage tests want steps that take long
        return (await single_long.kiq(number)).task_id, repr(number + 1)
    match number % 4:
        case 0:
            return (await chain.kiq(number)).task_id, repr(number + 8)
        case 1:
            return (await retried.kiq(number)).task_id, repr(number + 3)
        case 2:
            task = await mapped.kiq(number)
            return task.task_id, repr(sum(number + i + 1 for i in range(12)))
        case _:
            task = await diamond.kiq(value=number)
            outputs = {
                "root": number,
                "left": number + 1,
                "right": number + 2,
                "join": 2 * number + 3,
            }
            return task.task_id, repr(outputs)
