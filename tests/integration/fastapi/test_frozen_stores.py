"""What the errors of background tasks say of a store that stands still, and goes on later."""

import asyncio

import pytest

from fastapi_taskflow import TaskManager
from fastapi_taskflow.exceptions import TaskNotStoredError
from fastapi_taskflow.requests import RequestTasks, current
from tools.servers import RedisServer

ran: list[str] = []


async def note(what: str) -> None:
    ran.append(what)


@pytest.mark.redis
async def test_a_task_that_a_frozen_store_takes_later_is_not_said_to_be_lost(
    own_redis: RedisServer,
) -> None:
    ran.clear()
    async with TaskManager(snapshot_db=own_redis.url) as manager:
        request = RequestTasks(manager, manager.core, {})
        current.set(request)
        manager.add_task(note, "late")
        own_redis.freeze()
        with pytest.raises(TaskNotStoredError) as refused:
            await manager.store_now()
        own_redis.thaw()
        async with asyncio.timeout(30):
            while not ran:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)

    assert "or still do it" in str(refused.value)
    assert "will not run" not in str(refused.value)
