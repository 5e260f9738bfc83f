"""Caches of values that can be made again, and the middleware that skips equal calls."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio as redis
from taskiq import InMemoryBroker

from taskiq_flow import CacheMiddleware, StorageAdapterFactory, TaskiqFlowConfig
from taskiq_flow.cache import BaseCacheAdapter, InMemoryCacheAdapter, RedisCacheAdapter
from taskiq_flow.exceptions import StorageUseError


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def cache(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[BaseCacheAdapter]:
    made: BaseCacheAdapter
    if request.param == "memory":
        made = InMemoryCacheAdapter()
    else:
        url = request.getfixturevalue("redis_url")
        made = RedisCacheAdapter(url, key_prefix=f"{namespace}:")
    yield made
    await made.clear()
    await made.close()


async def test_a_value_is_made_once_and_kept(cache: BaseCacheAdapter) -> None:
    calls: list[int] = []

    async def make() -> None:
        calls.append(1)

    assert await cache.get_or_create("a", make) is None
    assert await cache.get_or_create("a", make) is None
    assert await cache.get_or_create("b", lambda: 2) == 2

    assert calls == [1]
    assert await cache.get("b") == 2
    assert await cache.get("c") is None
    assert await cache.get_stats() == {"hits": 2, "misses": 3, "size": 2, "keys": ["a", "b"]}


async def test_values_are_set_forgotten_and_cleared(cache: BaseCacheAdapter) -> None:
    for key in "abc":
        await cache.set(key, key, ttl_seconds=60)

    assert await cache.invalidate("a") is True
    assert await cache.invalidate("a") is False
    assert await cache.clear() == 2
    assert await cache.get("b") is None


async def test_one_makes_a_value_while_the_others_wait(cache: BaseCacheAdapter) -> None:
    calls: list[int] = []

    async def make() -> int:
        calls.append(1)
        await asyncio.sleep(0)
        return 7

    values = await asyncio.gather(*(cache.get_or_create("a", make) for _ in range(20)))

    assert values == [7] * 20
    assert calls == [1]


async def test_when_the_one_fails_or_is_cancelled_the_next_makes_the_value(
    cache: BaseCacheAdapter,
) -> None:
    started = asyncio.Event()

    async def hang() -> None:
        started.set()
        await asyncio.Event().wait()

    async def fail() -> None:
        raise ValueError("not now")

    first = asyncio.create_task(cache.get_or_create("a", hang))
    await started.wait()
    others = [asyncio.create_task(cache.get_or_create("a", make)) for make in (fail, lambda: 3)]
    await asyncio.sleep(0)
    first.cancel()

    with pytest.raises(ValueError, match="not now"):
        await others[0]
    assert await others[1] == 3


@pytest.mark.redis
async def test_of_several_processes_one_makes_a_value_however_long_it_takes(
    redis_url: str, namespace: str
) -> None:
    """Two adapters know nothing of each other; the lock is renewed past its time."""
    one, other = (
        RedisCacheAdapter(redis_url, lock_timeout=0.2, key_prefix=f"{namespace}:") for _ in "ab"
    )
    started, calls = asyncio.Event(), list[str]()

    async def slow() -> str:
        calls.append("slow")
        started.set()
        await asyncio.sleep(0.5)
        return "slow"

    first = asyncio.create_task(one.get_or_create("a", slow))
    await started.wait()

    assert await other.get_or_create("a", lambda: calls.append("quick")) == "slow"
    assert await first == "slow"
    assert calls == ["slow"]
    client = redis.Redis.from_url(redis_url)
    assert [key async for key in client.scan_iter(f"{namespace}:lock:*")] == []
    await client.aclose()
    await one.clear()
    await one.close()
    await other.close()


@pytest.mark.redis
async def test_when_a_process_dies_another_takes_over(redis_url: str, namespace: str) -> None:
    cache = RedisCacheAdapter(redis_url, lock_timeout=0.2, key_prefix=f"{namespace}:")
    client = redis.Redis.from_url(redis_url)
    await client.set(f"{namespace}:lock:a", "of a process that was killed", px=200)

    assert await cache.get_or_create("a", lambda: 1) == 1

    await cache.clear()
    await client.aclose()
    await cache.close()


def test_the_factory_makes_caches() -> None:
    create = StorageAdapterFactory.create_cache_adapter

    assert type(create()) is InMemoryCacheAdapter
    assert type(create(redis_url="redis://localhost")) is RedisCacheAdapter
    assert type(create(TaskiqFlowConfig(cache_redis_url="redis://h"))) is RedisCacheAdapter
    assert type(create(TaskiqFlowConfig(cache_type="redis"))) is RedisCacheAdapter  # type: ignore[arg-type]
    with pytest.raises(StorageUseError, match="cache_type='sqlite' is none of"):
        create(TaskiqFlowConfig(cache_type="sqlite"))  # type: ignore[arg-type]
    with pytest.raises(StorageUseError, match="lock_timeout=0 must be more than 0"):
        create(redis_url="redis://localhost", lock_timeout=0)


# --- The middleware


class Calls:
    """A broker with a task that counts how often it runs."""

    def __init__(self, cache: BaseCacheAdapter | None = None, **options: Any) -> None:
        self.broker = InMemoryBroker(await_inplace=True)
        self.broker.add_middlewares(CacheMiddleware(cache, **options))
        self.seen: list[Any] = []

        @self.broker.task(task_name="note")
        async def note(value: Any, fails: bool = False) -> Any:
            self.seen.append(value)
            if fails:
                raise ValueError("no")
            return [value]

        @self.broker.task(task_name="plain")
        def plain(value: Any) -> Any:
            self.seen.append(value)
            return value

    async def call(self, name: str, *args: Any, **labels: Any) -> Any:
        task: Any = self.broker.find_task(name)
        sent = await task.kicker().with_labels(**labels).kiq(*args)
        return await sent.wait_result(timeout=10)


async def test_an_equal_call_is_not_made_again() -> None:
    calls = Calls()

    for value in (1, 1, 2, 1):
        assert (await calls.call("note", value, cache_ttl=60)).return_value == [value]
    assert calls.seen == [1, 2]

    await calls.call("note", 1, cache_ttl=60, cache_version=2)
    await calls.call("note", 1, cache=True, cache_version=2)
    assert calls.seen == [1, 2, 1]


async def test_a_call_that_does_not_ask_for_it_is_made() -> None:
    calls, off = Calls(), Calls(enabled=False)

    await calls.call("note", 1, cache_ttl=60)
    await calls.call("note", 1)
    await off.call("note", 1, cache_ttl=60)
    await off.call("note", 1, cache_ttl=60)

    assert calls.seen == off.seen == [1, 1]


async def test_an_error_is_not_kept() -> None:
    calls = Calls()

    for _ in range(2):
        result = await calls.call("note", 1, True, cache_ttl=60)
        assert isinstance(result.error, ValueError)

    assert calls.seen == [1, 1]


async def test_an_error_is_kept_where_the_label_says_so() -> None:
    calls = Calls()

    for _ in range(2):
        failed = await calls.call("note", 1, True, cache_ttl=60, cache_errors=True)
        good = await calls.call("note", 2, cache_ttl=60, cache_errors="true")
        assert (type(failed.error), str(failed.error)) == (ValueError, "no")
        assert good.return_value == [2]
    assert calls.seen == [1, 2]

    # Kept apart from what a call without the label gets.
    assert (await calls.call("note", 1, True, cache_ttl=60)).is_err
    assert calls.seen == [1, 2, 1]


async def test_a_sync_task_and_a_bad_label_run_without_the_cache(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = Calls()

    assert (await calls.call("plain", 1, cache_ttl=60)).return_value == 1
    assert (await calls.call("note", 1, cache_ttl=-1)).return_value == [1]

    assert "plain is not async, so not cached" in caplog.text
    assert "cache_ttl=-1 must be more than 0" in caplog.text


async def test_a_cache_that_cannot_be_reached_costs_nothing_but_the_hit() -> None:
    calls = Calls(RedisCacheAdapter("redis://localhost:1"))

    for _ in range(2):
        assert (await calls.call("note", 1, cache_ttl=60)).return_value == [1]

    assert calls.seen == [1, 1]
    await calls.broker.shutdown()


async def test_what_cannot_be_kept_is_computed_once() -> None:
    calls, odd = Calls(), object()

    @calls.broker.task(task_name="odd", cache_ttl=60)
    async def make_odd() -> object:
        calls.seen.append("odd")
        return odd

    assert (await calls.call("odd", cache_ttl=60)).return_value is odd
    assert calls.seen == ["odd"]


async def test_a_cached_task_may_call_another_one_itself() -> None:
    calls = Calls()
    note: Any = calls.broker.find_task("note")

    @calls.broker.task(task_name="outer", cache_ttl=60)
    async def outer(value: int) -> Any:
        async with asyncio.timeout(5):
            return ["outer", await note(value)]

    await calls.call("note", 1, cache_ttl=60)

    assert (await calls.call("outer", 2, cache_ttl=60)).return_value == ["outer", [2]]
    assert calls.seen == [1, 2]
