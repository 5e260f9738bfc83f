"""A client that starts a run, prints its id, and is gone before anything has come of it."""

import asyncio

from taskiq_flow import Pipeline
from tests.integration.apps.plain import broker


async def main() -> None:
    await broker.startup()
    add = broker.find_task("add")
    task = await Pipeline(broker, add).call_next(add, 10).call_next(add, 100).kiq(1)
    print(task.task_id)


asyncio.run(main())
