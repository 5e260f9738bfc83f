"""What is ready to run begins, whichever comes first: the task, or the time to begin tasks."""

import asyncio

from fastapi_taskflow.queues import LocalQueues
from taskiq_flow.model.records import Address, Ready


async def test_a_task_that_is_due_before_tasks_may_begin_does_not_wait_for_the_next_one() -> None:
    """As when an application starts: what an earlier process left may be due at once."""
    queues = LocalQueues({}, {"async": None, "thread": None, "process": None})
    ready = Ready(Address("run", 0, 0), "background", "", "task")
    begun: list[Ready] = []
    has_begun = asyncio.Event()

    async def begin(task: Ready) -> None:
        begun.append(task)
        has_begun.set()

    queues.put(ready, "async", since=0.0)
    queues.start(begin)
    queues.put(ready, "async", since=0.0)

    async with asyncio.timeout(10):
        await has_begun.wait()
    assert begun == [ready]
