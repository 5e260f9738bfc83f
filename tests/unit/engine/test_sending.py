"""Messages that a broker does not take: nothing hangs, nothing is lost, nothing waits too long."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from taskiq import AsyncBroker, BrokerMessage

from taskiq_flow import Pipeline, PipelineMiddleware
from taskiq_flow.engine import sender
from taskiq_flow.engine.runtime import Runtime, runtimes
from taskiq_flow.stores.base import StoreOptions
from taskiq_flow.stores.memory import MemoryRunStore
from taskiq_flow.testing.clock import ManualClock


class AwayBroker(AsyncBroker):
    """A broker that takes messages only while it is there."""

    def __init__(self) -> None:
        super().__init__()
        self.here, self.hangs = False, False
        self.taken: list[bytes] = []
        self.tries = 0

    async def kick(self, message: BrokerMessage) -> None:
        self.tries += 1
        if self.hangs:
            await asyncio.Event().wait()
        if not self.here:
            raise ConnectionError("away")
        self.taken.append(message.message)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        yield b""


def engine(broker: AsyncBroker, clock: ManualClock) -> Runtime:
    store = MemoryRunStore(StoreOptions(kick_seconds=10.0), clock=clock)
    broker.add_middlewares(PipelineMiddleware(store))
    return runtimes[broker]


async def start(broker: AsyncBroker, *, runs: int = 1) -> None:
    async def nothing() -> None: ...

    task = broker.register_task(nothing, task_name="nothing")
    pipeline = Pipeline(broker, task)
    await asyncio.gather(*(pipeline.kiq() for _ in range(runs)))


async def test_what_a_broker_did_not_take_is_sent_at_the_first_look_after_it_is_back() -> None:
    """A claim counts as a kick: the store would name the step again only after a longer wait."""
    broker, clock = AwayBroker(), ManualClock()
    runtime = engine(broker, clock)
    await start(broker)
    clock.advance(11)
    await runtime.recovery.look()
    assert broker.taken == []

    broker.here = True
    await runtime.recovery.look()

    assert len(broker.taken) == 1
    await runtime.recovery.look()
    assert len(broker.taken) == 1, "sent once"


async def test_a_broker_that_hangs_is_waited_for_once_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sender, "SEND_SECONDS", 0.05)
    broker, clock = AwayBroker(), ManualClock()
    broker.hangs = True
    runtime = engine(broker, clock)
    async with asyncio.timeout(5):
        await start(broker, runs=300)
    clock.advance(11)
    before = broker.tries
    async with asyncio.timeout(5):
        await runtime.recovery.look()

    assert broker.tries - before == 1, "the rest is kept for the next look without trying"
