"""The shapes as pipelines."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.app import broker, increase, same, total, vitals
from benchmarks.matrix import Shape, Sizes
from taskiq_flow import Pipeline

EDGE = 100
"""So many steps at either end of a long chain are compared with each other."""


def _chain_of(steps: int) -> Pipeline[Any]:
    pipeline = Pipeline(broker, increase)
    for _ in range(steps - 1):
        pipeline.call_next(increase)
    return pipeline


async def _run(pipeline: Pipeline[Any], *values: Any) -> Any:
    task = await pipeline.kiq(*values)
    return (await task.wait_result()).return_value


async def warm_up() -> None:
    """Return when a worker answers and connections are made."""
    one = _chain_of(1)
    await _run(one, 0)
    await asyncio.gather(*[_run(one, 0) for _ in range(50)])


async def chain(sizes: Sizes) -> bool:
    return await _run(_chain_of(sizes.steps), 0) == sizes.steps


async def many(sizes: Sizes) -> bool:
    pipeline = _chain_of(sizes.run_steps)
    ends = await asyncio.gather(*[_run(pipeline, 0) for _ in range(sizes.runs)])
    return ends == [sizes.run_steps] * sizes.runs


async def diamond(sizes: Sizes) -> bool:
    pipeline = Pipeline(broker, increase).group([increase] * sizes.fan).call_next(total)
    ends = [await _run(pipeline, 0) for _ in range(sizes.diamonds)]
    return ends == [2 * sizes.fan] * sizes.diamonds


async def map_items(sizes: Sizes) -> bool:
    numbers = list(range(sizes.items))
    pipeline = Pipeline(broker).map(same, numbers, max_parallel=sizes.window).call_next(total)
    return await _run(pipeline) == sum(numbers)


async def wide_map(sizes: Sizes) -> bool:
    numbers = list(range(sizes.items))
    return await _run(Pipeline(broker).map(same, numbers, max_parallel=sizes.window)) == numbers


async def long_chain(sizes: Sizes) -> dict[str, float | bool]:
    """Run a long chain, and say what a step cost at its beginning and at its end.

    Read from the times that the store has recorded.
    """
    task = await _chain_of(sizes.steps).kiq(0)
    end = (await task.wait_result()).return_value
    done = [event.at async for event in task.events() if event.type == "step_completed"]
    edge = min(EDGE, (sizes.steps - 1) // 2)

    def milliseconds_a_step(first: int) -> float:
        return (done[first + edge] - done[first]) * 1000 / edge

    return {
        "ok": end == sizes.steps == len(done),
        # The first steps of a run also pay for what is loaded once.
        "first_ms": milliseconds_a_step(edge if sizes.steps > 3 * edge else 0),
        "last_ms": milliseconds_a_step(sizes.steps - edge - 1),
    }


async def worker_vitals() -> tuple[float, int]:
    peak, sent = await _run(Pipeline(broker, vitals))
    return peak, sent


SHAPES = {
    Shape.CHAIN: chain,
    Shape.MANY: many,
    Shape.DIAMOND: diamond,
    Shape.MAP: map_items,
    Shape.WIDE_MAP: wide_map,
    Shape.LONG_CHAIN: long_chain,
}
