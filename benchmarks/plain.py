"""The shapes on plain Taskiq: hand-written, with the waiting tuned by hand for each of them."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.app import CELL, increase, same, total, vitals
from benchmarks.matrix import Shape, Sizes

# Taskiq waits for a result by asking for it again and again. Its default pause of 0.2 s would
# leave little else to measure; these were the fastest of those tried.
PAUSE_SECONDS = {Shape.CHAIN: 0.001, Shape.MANY: 0.3, Shape.DIAMOND: 0.01, Shape.MAP: 0.02}
PAUSE_SECONDS_IN_MEMORY = 0.001


def _pause() -> float:
    return PAUSE_SECONDS_IN_MEMORY if CELL.store.is_embedded else PAUSE_SECONDS[CELL.shape]


async def _call(task: Any, *arguments: Any, pause: float | None = None) -> Any:
    sent = await task.kiq(*arguments)
    result = await sent.wait_result(check_interval=_pause() if pause is None else pause)
    return result.return_value


async def _chain(steps: int) -> int:
    number = 0
    for _ in range(steps):
        number = await _call(increase, number)
    return number


async def warm_up() -> None:
    """Return when a worker answers and connections are made."""
    await _call(increase, 0, pause=0.01)
    await asyncio.gather(*[_call(increase, 0, pause=0.01) for _ in range(50)])


async def chain(sizes: Sizes) -> bool:
    return await _chain(sizes.steps) == sizes.steps


async def many(sizes: Sizes) -> bool:
    ends = await asyncio.gather(*[_chain(sizes.run_steps) for _ in range(sizes.runs)])
    return ends == [sizes.run_steps] * sizes.runs


async def diamond(sizes: Sizes) -> bool:
    ends = [await _one_diamond(sizes.fan) for _ in range(sizes.diamonds)]
    return ends == [2 * sizes.fan] * sizes.diamonds


async def _one_diamond(fan: int) -> int:
    top = await _call(increase, 0)
    middle = await asyncio.gather(*[_call(increase, top) for _ in range(fan)])
    return await _call(total, middle)


async def map_items(sizes: Sizes) -> bool:
    window = asyncio.Semaphore(sizes.window)

    async def one(number: int) -> int:
        async with window:
            return await _call(same, number)

    found = await asyncio.gather(*[one(number) for number in range(sizes.items)])
    return await _call(total, found) == sum(range(sizes.items))


async def worker_vitals() -> tuple[float, int]:
    peak, sent = await _call(vitals, pause=0.01)
    return peak, sent


SHAPES = {
    Shape.CHAIN: chain,
    Shape.MANY: many,
    Shape.DIAMOND: diamond,
    Shape.MAP: map_items,
}
