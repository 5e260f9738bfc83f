"""What the errors of background tasks say of a store that stands still, and goes on later."""

import asyncio

import pytest

from fastapi_taskflow import TaskManager
from fastapi_taskflow.bridge import Bridge
from fastapi_taskflow.exceptions import TaskNotStoredError
from fastapi_taskflow.requests import RequestTasks, current
from taskiq_flow.exceptions import StoreUnavailableError
from taskiq_flow.stores.base import RunStore
from taskiq_flow.stores.redis import RedisRunStore
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


@pytest.mark.redis
async def test_a_question_of_a_thread_that_is_given_up_is_not_said_to_have_done_nothing(
    redis_url: str,
) -> None:
    bridge = Bridge(RedisRunStore(redis_url))

    async def hang(_: RunStore) -> None:
        await asyncio.sleep(60)

    with pytest.raises(StoreUnavailableError, match=r"no answer for 0\.1 s.*or still do it"):
        await asyncio.to_thread(bridge.ask, hang, timeout_seconds=0.1)
    await bridge.close()
