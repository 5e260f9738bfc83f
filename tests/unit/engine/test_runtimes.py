"""A broker that nobody holds any more goes, with its engine; while it is held, the engine stays."""

import asyncio
import gc
import weakref
from importlib.metadata import version

from taskiq import InMemoryBroker

from taskiq_flow import MetricsCollector, Pipeline, PipelineMiddleware, PipelineTrackingManager
from taskiq_flow.engine.runtime import runtimes
from taskiq_flow.engine.sender import Sender
from taskiq_flow.hooks import HookManager


async def use_one() -> tuple[weakref.ref[InMemoryBroker], weakref.ref[Sender]]:
    broker = InMemoryBroker()
    broker.add_middlewares(
        PipelineMiddleware(
            tracking=PipelineTrackingManager(),
            hook_manager=HookManager(),
            metrics_collector=MetricsCollector.separate(),
        )
    )

    @broker.task
    async def double(value: int) -> int:
        return 2 * value

    await broker.startup()
    assert (await (await Pipeline(broker, double).kiq(2)).wait_result()).return_value == 4
    await broker.shutdown()
    return weakref.ref(broker), weakref.ref(runtimes[broker].sender)


async def test_a_broker_and_its_engine_are_collected() -> None:
    broker, sender = await use_one()

    # What its last tasks hold goes with the loop's next rounds.
    for _ in range(50):
        await asyncio.sleep(0)
        gc.collect()
        if broker() is None:
            break

    assert broker() is None
    assert sender() is None


async def test_an_engine_lives_as_long_as_its_broker() -> None:
    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware())
    first = runtimes[broker]

    gc.collect()
    broker.add_middlewares(PipelineMiddleware())

    assert runtimes[broker] is first
    assert broker in runtimes
    assert InMemoryBroker() not in runtimes


async def test_a_worker_says_what_version_it_runs() -> None:
    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware())

    @broker.task
    async def double(value: int) -> int:
        return 2 * value

    await (await Pipeline(broker, double).kiq(2)).wait_result()
    workers = await runtimes[broker].store.workers()
    await broker.shutdown()

    assert [worker.version for worker in workers] == [version("taskiq-flow")]
