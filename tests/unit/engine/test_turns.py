"""Whoever waits for a broker in memory waits for all its runs, also those that have no turn yet."""

import asyncio

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import Pipeline
from taskiq_flow.engine.turns import AT_ONCE


async def test_who_waits_for_all_waits_for_runs_without_a_turn_and_may_try_again() -> None:
    broker = InMemoryBroker()
    ended: list[int] = []
    go_on = asyncio.Event()

    @broker.task
    async def note(number: int) -> None:
        await go_on.wait()
        ended.append(number)

    count = 2 * AT_ONCE
    chain = Pipeline(broker, note).call_after(note, 1)
    for number in range(count):
        await chain.kiq(number)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await broker.wait_all()
    go_on.set()
    async with asyncio.timeout(20):
        await broker.wait_all()

    assert len(ended) == 2 * count
    await broker.shutdown()
