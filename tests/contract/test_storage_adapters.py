"""Every storage adapter, and every wrapper of one, keeps the contract that users can run too."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from taskiq_flow.storage import (
    BaseStorageAdapter,
    EncryptedStorageAdapter,
    InMemoryStorageAdapter,
    PrefixedStorageAdapter,
    RedisStorageAdapter,
    SQLiteStorageAdapter,
)
from taskiq_flow.storage.beside import adapter_beside
from taskiq_flow.testing import StorageAdapterContract
from tests.support.tree import ROOT


class Atomic(StorageAdapterContract):
    """What the shipped adapters promise beyond the contract of everybody's."""

    async def test_of_many_replacements_one_takes_place(self, adapter: BaseStorageAdapter) -> None:
        await adapter.set("a", 0)

        won = await asyncio.gather(*(adapter.replace("a", 0, n) for n in range(1, 9)))

        assert won.count(True) == 1
        assert await adapter.get("a") == won.index(True) + 1

    async def test_an_entry_has_its_times_and_a_replacement_keeps_them(
        self, adapter: BaseStorageAdapter
    ) -> None:
        await adapter.set("a", None, ttl_seconds=100)
        await adapter.set("b", 1)
        before = await adapter.get_entry("a")
        await adapter.replace("a", None, 2)

        after = await adapter.get_entry("a")

        assert before is not None
        assert after is not None
        assert (before.key, before.value, after.value) == ("a", None, 2)
        assert after.created_at == before.created_at
        left = after.remaining_ttl()
        assert left is not None
        assert 90 < left <= 100
        ever = await adapter.get_entry("b")
        assert ever is not None
        assert ever.remaining_ttl() is None
        assert await adapter.get_entry("c") is None

    async def test_of_many_that_add_a_value_one_does(self, adapter: BaseStorageAdapter) -> None:
        won = await asyncio.gather(*(adapter.add("a", n) for n in range(8)))

        assert won.count(True) == 1
        assert await adapter.get("a") == won.index(True)


class TestMemory(Atomic):
    @pytest.fixture
    async def adapter(self) -> AsyncIterator[BaseStorageAdapter]:
        async with InMemoryStorageAdapter() as adapter:
            yield adapter


class TestSqlite(Atomic):
    @pytest.fixture
    async def adapter(self, tmp_path: Path) -> AsyncIterator[BaseStorageAdapter]:
        async with SQLiteStorageAdapter(f"sqlite:///{tmp_path / 'storage.db'}") as adapter:
            yield adapter


@pytest.mark.postgres
class TestPostgres(Atomic):
    @pytest.fixture
    async def adapter(self, postgres_url: str, namespace: str) -> AsyncIterator[BaseStorageAdapter]:
        table = namespace.replace("-", "_")
        async with SQLiteStorageAdapter(postgres_url, table=table) as adapter:
            yield adapter


@pytest.mark.redis
class TestRedis(Atomic):
    @pytest.fixture
    async def adapter(self, redis_url: str, namespace: str) -> AsyncIterator[BaseStorageAdapter]:
        # A prefix that is a pattern itself must be text like any other.
        async with RedisStorageAdapter(
            redis_url, ttl_seconds=None, key_prefix=f"[{namespace}]*?\\:"
        ) as adapter:
            yield adapter
            for key in await adapter.keys():
                await adapter.delete(key)


@pytest.mark.redis
class TestBesideRunsInRedis(Atomic):
    """Not as a user would make it: its keys are in an index."""

    @pytest.fixture
    async def adapter(self, redis_url: str, namespace: str) -> AsyncIterator[BaseStorageAdapter]:
        async with adapter_beside(redis_url, purpose="a", namespace=namespace) as adapter:
            yield adapter
            for key in await adapter.keys():
                await adapter.delete(key)


class TestOfOnesOwn(StorageAdapterContract):
    """The one that the documents show."""

    @pytest.fixture
    async def adapter(self) -> AsyncIterator[BaseStorageAdapter]:
        page = (ROOT / "docs/how-to/storage.md").read_text(encoding="utf-8")
        (shown,) = re.findall(
            r"```python\n((?:(?!```).)*class MappingAdapter.*?)```", page, flags=re.DOTALL
        )
        names: dict[str, Any] = {}
        exec(shown, names)
        async with names["MappingAdapter"]({}) as adapter:
            yield adapter


class TestEncryptedAndPrefixed(Atomic):
    max_key_bytes = 1023  # and one for the prefix

    @pytest.fixture
    async def adapter(self) -> AsyncIterator[BaseStorageAdapter]:
        shared = InMemoryStorageAdapter()
        await shared.set("a", "of somebody else")
        await shared.set("axmine:a", "of somebody else")
        encrypted = EncryptedStorageAdapter(shared, Fernet.generate_key())
        async with PrefixedStorageAdapter(encrypted, "*") as adapter:
            yield adapter
