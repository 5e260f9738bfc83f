"""The blocks of the execution guide that define tasks, and the tasks that its blocks assume."""

import asyncio
from typing import Any

from taskiq import AsyncBroker

import taskiq_flow
from taskiq_flow import DataflowPipeline, MapReduce, Pipeline, PipelineContext, pipeline_task
from taskiq_flow.exceptions import PipelineError
from tests.seeds.guide import Guide

TEXT = "seed-001-execution-guide.txt"

FAN_OUT = """
    @broker.task
    @pipeline_task(output="features")
    def extract(tracks): ...

    @broker_task
    @pipeline_task(output="tags")
    def tag(features): ...  # Runs after extract

    @broker.task
    @pipeline_task(output="embedding")
    def embed(features): ...  # Also runs after extract, in parallel with tag

    pipeline = DataflowPipeline.from_tasks(broker, [extract, tag, embed])
    # DAG: extract → (tag & embed in parallel)
"""
FAN_OUT_REPLACED = {
    "@broker_task": "@broker.task",  # a misprint
    "def extract(tracks): ...": "def extract(tracks): return len(tracks)",
    "def tag(features): ...": "def tag(features): return ['tag'] * features",
    "def embed(features): ...": "def embed(features): return [features]",
}

TIMEOUTS = """
    pipeline = Pipeline(broker)
    # Global timeout for entire pipeline (seconds)
    pipeline.with_timeout(60)

    # Or per-task timeout via taskiq task decorator
    @broker.task(timeout=30)
    def slow_task(): ...
"""

CONTEXT = """
    from taskiq_flow import PipelineContext

    @broker.task
    async def my_task(data: str, context: PipelineContext):
        print(f"Pipeline ID: {context.pipeline_id}")
        print(f"Step number: {context.step_index}")
        print(f"Task ID: {context.task_id}")
        return data.upper()
"""

ARGUMENTS = """
    @broker.task
    async def debug_task(data, context: PipelineContext):
        print(f"Received: {data}")
        print(f"Context: pipeline={context.pipeline_id}, step={context.step_index}")
        return data
"""

TRACING = """
    from taskiq_flow.middleware import PipelineMiddleware

    class DebugMiddleware(PipelineMiddleware):
        async def on_step_complete(self, ctx, result):
            print(f"Step {ctx.task_id} completed with: {result}")
            await super().on_step_complete(ctx, result)

    broker.add_middlewares(DebugMiddleware())
"""


def make_guide(broker: AsyncBroker) -> Guide:
    """The guide with every task that its blocks define or assume, the same on each side."""
    guide = Guide(
        TEXT,
        __name__,
        broker=broker,
        asyncio=asyncio,
        taskiq_flow=taskiq_flow,
        Pipeline=Pipeline,
        PipelineContext=PipelineContext,
        PipelineError=PipelineError,
        DataflowPipeline=DataflowPipeline,
        MapReduce=MapReduce,
        pipeline_task=pipeline_task,
    )
    guide.define(FAN_OUT, FAN_OUT_REPLACED)
    for block in (TIMEOUTS, CONTEXT, ARGUMENTS):
        guide.define(block)
    guide.names.update(_assumed(broker))
    return guide


def _assumed(broker: AsyncBroker) -> dict[str, Any]:
    @broker.task(task_name="guide:task1")
    async def task1(value: int) -> int:
        return value + 1

    @broker.task(task_name="guide:task2")
    def task2(value: int) -> int:
        return value * 2

    @broker.task(task_name="guide:task3")
    async def task3(value: int) -> list[int]:
        return [value] * 4

    @broker.task(task_name="guide:process_item")
    async def process_item(item: int) -> int:
        return item * item

    @broker.task(task_name="guide:add_up")
    async def add_up(values: list[int]) -> int:
        return sum(values)

    @broker.task(task_name="guide:fails")
    async def fails(value: Any) -> Any:
        raise ValueError(f"no {value} here")

    @broker.task(task_name="guide:sleeps")
    async def sleeps(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "rested"

    @broker.task(task_name="guide:or_zero")
    async def or_zero(value: int | None) -> int:
        return value or 0

    @broker.task(task_name="guide:load")
    async def load(source_file: str) -> list[str]:
        return [source_file, "", "row"]

    @broker.task(task_name="guide:process")
    async def process(raw: list[str]) -> list[str]:
        return [line for line in raw if line]

    @broker.task(task_name="guide:save")
    async def save(clean: list[str]) -> int:
        return len(clean)

    @broker.task(task_name="guide:count_tracks")
    @pipeline_task(output="count")
    async def count_tracks(track_paths: list[str]) -> int:
        return len(track_paths)

    return {name: task for name, task in locals().items() if name != "broker"}
