"""Hooks miss nothing when the store is away for a while."""

import asyncio

from taskiq import InMemoryBroker

from taskiq_flow import HookManager, Pipeline, PipelineMiddleware
from taskiq_flow.hooks import HookEvent
from tools.servers import RedisServer


async def test_hooks_hear_of_everything_once_after_the_store_was_restarted(
    own_redis: RedisServer,
) -> None:
    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware(store=own_redis.url))
    heard: list[str] = []
    started, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @broker.task
    async def wait(number: int) -> int:
        await go_on.wait()
        return number

    class Hook:
        async def on_event(self, event: HookEvent) -> None:
            heard.append(str(event.type))
            if event.type == "step_start":
                started.set()
            if event.type == "pipeline_complete":
                ended.set()

    await Pipeline(broker, wait).with_hooks(HookManager().add_hook(Hook())).kiq(1)
    async with asyncio.timeout(60):
        await started.wait()
        await asyncio.to_thread(own_redis.restart)
        go_on.set()
        await ended.wait()
    await broker.shutdown()

    assert heard == ["pipeline_start", "step_start", "step_complete", "pipeline_complete"]
