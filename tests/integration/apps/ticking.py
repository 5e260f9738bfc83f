"""A scheduler as a process of its own: it knows the broker and the store, and no pipeline."""

import asyncio

from taskiq_flow import PipelineMiddleware, PipelineScheduler
from tests.integration.apps.brokers import make_broker
from tests.integration.apps.settings import AppSettings


async def main() -> None:
    broker = make_broker(AppSettings.from_env())
    broker.add_middlewares(PipelineMiddleware())
    await broker.startup()
    async with PipelineScheduler(broker):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
