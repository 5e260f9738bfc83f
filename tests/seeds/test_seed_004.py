"""Every block of the storage reference runs as written.

Where a block cannot run as it stands, the test says what stands in for which of its words.
"""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis
from taskiq import InMemoryBroker
from taskiq_redis import ListQueueBroker

from taskiq_flow import Pipeline, PipelineMiddleware
from taskiq_flow.middlewares import CacheMiddleware, StorageMiddleware
from taskiq_flow.storage import (
    BaseStorageAdapter,
    InMemoryStorageAdapter,
    RedisStorageAdapter,
)
from tests.seeds.guide import Guide

LOCAL = '"redis://localhost:6379"'


@pytest.fixture
async def guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Guide]:
    # The file that a block makes in the working directory.
    monkeypatch.chdir(tmp_path)
    guide = Guide("seed-004-storage-api.txt", __name__)
    yield guide
    for made in guide.names.values():
        if isinstance(made, BaseStorageAdapter):
            await made.close()
        if isinstance(made, InMemoryBroker):
            await made.shutdown()


async def test_an_entry_is_made(guide: Guide) -> None:
    await guide.run(
        """
        from taskiq_flow.storage import StorageEntry
        from datetime import datetime, timezone

        entry = StorageEntry(
            key="pipeline:my_run:task:abc123",
            value={"status": "completed", "result": 42},
            expires_at=datetime.now(timezone.utc) + timedelta(hours=1),
            metadata={"pipeline_id": "my_run"},
        )
        """,
        timedelta=timedelta,  # its import is missing
    )

    entry = guide["entry"]
    assert not entry.is_expired()
    assert 3500 < entry.remaining_ttl() <= 3600
    assert entry.metadata == {"pipeline_id": "my_run"}
    assert datetime.now(UTC) - entry.created_at < timedelta(minutes=1)


async def test_an_adapter_of_ones_own_is_outlined(guide: Guide) -> None:
    await guide.run(
        """
        from taskiq_flow.storage import BaseStorageAdapter

        class MyAdapter(BaseStorageAdapter):
            async def get(self, key: str) -> Any | None: ...
            async def set(self, key: str, value: Any, ttl_seconds: int | None = None) -> None: ...
            async def delete(self, key: str) -> bool: ...
            async def exists(self, key: str) -> bool: ...
            async def keys(self, pattern: str = "*") -> list[str]: ...
            async def cleanup(self, ttl_seconds: int = 3600) -> int: ...
        """,
        Any=Any,  # its import is missing
    )

    adapter = guide["MyAdapter"]()
    await adapter.set("a", 1)
    assert await adapter.get_entry("a") is None
    with pytest.raises(TypeError, match="abstract"):
        guide["BaseStorageAdapter"]()


async def test_the_storage_in_memory(guide: Guide) -> None:
    await guide.run("""
        from taskiq_flow.storage import InMemoryStorageAdapter

        storage = InMemoryStorageAdapter()
        # Usage transparent — same interface as other adapters
    """)

    await guide["storage"].set("a", 1)
    assert await guide["storage"].get("a") == 1


@pytest.mark.redis
async def test_the_storage_in_redis(guide: Guide, redis_url: str) -> None:
    await guide.run(
        """
        from taskiq_flow.storage import RedisStorageAdapter

        storage = RedisStorageAdapter(
            redis_url="redis://localhost:6379",
            ttl_seconds=3600,  # Default TTL
        )
        """,
        {LOCAL: repr(redis_url)},  # the tests' server
    )
    await guide.run("""
        # Store
        await storage.set("pipeline:run42:status", {"phase": "running"}, ttl_seconds=86400)

        # Retrieve
        status = await storage.get("pipeline:run42:status")

        # Pattern scan
        keys = await storage.keys("pipeline:run42:*")
    """)

    assert guide["status"] == {"phase": "running"}
    assert guide["keys"] == ["pipeline:run42:status"]
    storage = guide["storage"]
    await storage.set("by default", 1)
    client = redis.Redis.from_url(redis_url)
    left = {key: await client.ttl(f"taskiq_flow:storage:{key}") for key in await storage.keys()}
    assert 86300 < left["pipeline:run42:status"] <= 86400
    assert 3500 < left["by default"] <= 3600
    await client.delete(*(f"taskiq_flow:storage:{key}" for key in left))
    await client.aclose()


@pytest.mark.postgres
async def test_the_storage_in_a_database(guide: Guide, postgres_url: str, tmp_path: Path) -> None:
    address = postgres_url.partition("://")[2]
    await guide.run("""
        from taskiq_flow.storage import SQLiteStorageAdapter

        storage = SQLiteStorageAdapter(
            db_url="sqlite+aiosqlite:///taskiq-flow.db",
            async_mode=True,
        )
    """)
    await guide.run(
        """
        # Store
        await storage.set("pipeline:run42:status", {"phase": "completed"})

        # Works with any SQLAlchemy URL: SQLite, PostgreSQL, MySQL, etc.
        pg = SQLiteStorageAdapter(db_url="postgresql+asyncpg://user:pw@host/db", async_mode=True)
        """,
        {"user:pw@host/db": address},  # the tests' server
    )

    assert await guide["storage"].get("pipeline:run42:status") == {"phase": "completed"}
    assert "taskiq-flow.db" in os.listdir(tmp_path)
    await guide["pg"].set("a", 1)
    assert await guide["pg"].get("a") == 1


@pytest.mark.redis
async def test_the_factory_finds_the_storage(guide: Guide, redis_url: str) -> None:
    broker = ListQueueBroker(redis_url)

    await guide.run(
        """
        from taskiq_flow.storage.factory import StorageAdapterFactory
        from taskiq_flow.config import TaskiqFlowConfig

        # Auto-detect best adapter from configuration
        config = TaskiqFlowConfig()  # reads from env vars or defaults
        adapter = StorageAdapterFactory.create_storage_adapter(config=config)
        """
    )
    assert type(guide["adapter"]) is InMemoryStorageAdapter
    await guide.run(
        """
        # Or specify broker for broker-based detection
        adapter = StorageAdapterFactory.create_storage_adapter(
            config=config,
            broker=redis_broker,
            redis_url="redis://localhost:6379",
            ttl_seconds=7200,
        )
        """,
        {LOCAL: repr(redis_url)},  # the tests' server
        redis_broker=broker,
    )

    assert type(guide["adapter"]) is RedisStorageAdapter
    assert guide["adapter"].ttl_seconds == 7200
    await broker.shutdown()


async def test_the_factory_from_nothing_and_from_a_config(guide: Guide) -> None:
    await guide.run("""
        from taskiq_flow.storage.factory import StorageAdapterFactory

        # Zero-config — auto-detects from environment
        storage = StorageAdapterFactory.create_storage_adapter()
    """)
    assert type(guide["storage"]) is InMemoryStorageAdapter
    await guide.run("""
        # From TaskiqFlowConfig
        from taskiq_flow.config import TaskiqFlowConfig
        config = TaskiqFlowConfig(
            storage_type="redis",
            storage_redis_url="redis://localhost:6379",
        )
        storage = StorageAdapterFactory.create_storage_adapter(config=config)
    """)

    assert type(guide["storage"]) is RedisStorageAdapter


async def test_the_middleware_is_made(guide: Guide) -> None:
    await guide.run(
        """
        from taskiq_flow.middlewares import StorageMiddleware
        from taskiq_flow.storage import InMemoryStorageAdapter

        storage = InMemoryStorageAdapter()
        middleware = StorageMiddleware(storage=storage, enabled=True)

        broker.add_middlewares(middleware)
        """,
        broker=InMemoryBroker(await_inplace=True),
    )

    assert isinstance(guide["middleware"], StorageMiddleware)
    await expect_results(guide, guide["storage"])


async def test_the_middleware_in_a_broker(guide: Guide) -> None:
    await guide.run(
        """
        from taskiq import InMemoryBroker
        from taskiq_flow.middlewares import StorageMiddleware
        from taskiq_flow.storage import InMemoryStorageAdapter

        broker = InMemoryBroker(await_inplace=True)
        middleware = StorageMiddleware(storage=InMemoryStorageAdapter())
        broker.add_middlewares(middleware, PipelineMiddleware())
        """,
        PipelineMiddleware=PipelineMiddleware,  # its import is missing
    )

    await expect_results(guide, guide["middleware"].storage)


async def test_both_middlewares_by_the_factory(guide: Guide) -> None:
    await guide.run(
        """
        from taskiq_flow.storage.factory import StorageAdapterFactory

        middlewares = StorageAdapterFactory.create_default_middlewares()
        broker.add_middlewares(
            middlewares["storage"],   # StorageMiddleware
            middlewares["cache"],     # CacheMiddleware
            PipelineMiddleware(),
        )
        """,
        broker=InMemoryBroker(await_inplace=True),
        PipelineMiddleware=PipelineMiddleware,  # its import is missing
    )

    assert isinstance(guide["middlewares"]["cache"], CacheMiddleware)
    await expect_results(guide, guide["middlewares"]["storage"].storage)


async def expect_results(guide: Guide, storage: BaseStorageAdapter) -> None:
    """A plain task runs and is stored, and so is each step of a pipeline."""
    broker = guide["broker"]

    @broker.task(task_name="double")
    async def double(x: int) -> int:
        return x * 2

    await broker.startup()
    task = await double.kiq(4)
    assert (await task.wait_result(timeout=10)).return_value == 8
    stored = await storage.get(f"task:{task.task_id}")
    assert stored.pop("execution_time") >= 0
    assert stored == {
        "task_id": task.task_id,
        "pipeline_id": None,
        "is_err": False,
        "return_value": 8,
        "error": None,
    }

    run = await Pipeline(broker, double).call_next(double).kiq(3)
    assert (await run.wait_result(timeout=10)).return_value == 12
    keys = await storage.keys(f"pipeline:{run.pipeline_id}:task:*")
    values = [await storage.get(key) for key in keys]
    assert sorted(value["return_value"] for value in values) == [6, 12]
    assert {value["pipeline_id"] for value in values} == {run.pipeline_id}
    assert len(await storage.keys()) == 3
