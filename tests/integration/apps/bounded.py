"""Steps with limits, a cache, a context: what `limited.py` has beside those of all."""

import asyncio
import os
from typing import Any

from taskiq import AsyncBroker

from taskiq_flow import PipelineContext, limit, pipeline_task
from tests.integration.apps.steps import _copy, journal

STUCK = "stuck"


async def guarded(key: str, seconds: float = 0.1) -> str:
    """Work for a moment; the first call with the key `STUCK` never comes back."""
    before = [note for note in journal.notes("guarded", "began") if note.key == key]
    journal.write("guarded", "began", key)
    if key == STUCK and not before:
        await asyncio.Event().wait()
    await asyncio.sleep(seconds)
    journal.write("guarded", "ended", key)
    return key


async def free(key: str, seconds: float = 0.1) -> str:
    """Work for a moment, without a limit."""
    journal.write("free", "began", key)
    await asyncio.sleep(seconds)
    journal.write("free", "ended", key)
    return key


async def costly(key: str) -> str:
    """Compute something that is worth keeping; the first call with the key `STUCK` never ends."""
    before = [note for note in journal.notes("costly", "began") if note.key == key]
    journal.write("costly", "began", key)
    if key == STUCK and not before:
        await asyncio.Event().wait()
    await asyncio.sleep(0.1)
    journal.write("costly", "ended", key)
    return key.upper()


async def told(value: int, context: PipelineContext) -> dict[str, Any]:
    """Say what the context knows; log, report and read through it."""
    context.progress(1, 1, "all of it")
    context.logger.info("value is %d", value)
    deadline = context.deadline
    return {
        "pid": os.getpid(),
        "results": await context.get_results(),
        "step": [context.step_name, context.step_index, context.attempt, context.cancelled],
        "ids": [context.pipeline_id, context.run_id, context.task_id],
        "deadline": None if deadline is None else deadline.timestamp(),
    }


def told_in_thread(value: int, context: PipelineContext) -> list[Any]:
    """The same for a sync step, wherever it is run."""
    context.logger.info("in a thread")
    has_broker = context.broker is not None
    return [
        os.getpid(),
        context.step_name,
        has_broker,
        context.results["add"] if has_broker else None,
    ]


OPTIONS = {
    told: pipeline_task(),
    told_in_thread: pipeline_task(),
    costly: pipeline_task(cache=3600),
    guarded: pipeline_task(limit=limit(key="api", max=3)),
    free: pipeline_task(),
}


def register_bounded(broker: AsyncBroker) -> None:
    for function, options in OPTIONS.items():
        broker.register_task(options(_copy(function)), task_name=function.__name__)
