"""A cache over a storage, in which one makes a value while the others of this process wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from taskiq.utils import maybe_awaitable

from taskiq_flow.cache.base import BaseCacheAdapter, CacheStats
from taskiq_flow.storage.base import BaseStorageAdapter
from taskiq_flow.storage.entry import StorageEntry
from taskiq_flow.storage.rules import check_ttl


class StoredCacheAdapter(BaseCacheAdapter):
    """Keeps values in a storage; a subclass may say who else has to wait."""

    def __init__(self, storage: BaseStorageAdapter, default_ttl: float) -> None:
        self.storage = storage
        self.default_ttl = check_ttl("default_ttl", default_ttl)
        self._locks: dict[str, _Lock] = {}
        self._hits = self._misses = 0

    async def get_or_create(
        self, key: str, creator: Callable[[], Awaitable[Any] | Any], ttl_seconds: float = 3600
    ) -> Any:
        check_ttl("ttl_seconds", ttl_seconds)
        entry = await self._look(key)
        if entry is None:
            async with self._alone_here(key), self._alone(key) as made_meanwhile:
                entry = made_meanwhile or await self.storage.get_entry(key)
                if entry is None:
                    self._misses += 1
                    value = await maybe_awaitable(creator())
                    await self.storage.set(key, value, ttl_seconds)
                    return value
                self._hits += 1
        return entry.value

    async def get(self, key: str) -> Any | None:
        entry = await self._look(key)
        self._misses += entry is None
        return None if entry is None else entry.value

    async def set(self, key: str, value: Any, ttl_seconds: float | None = None) -> None:
        await self.storage.set(key, value, self.default_ttl if ttl_seconds is None else ttl_seconds)

    async def invalidate(self, key: str) -> bool:
        return await self.storage.delete(key)

    async def clear(self) -> int:
        return sum([await self.storage.delete(key) for key in await self.storage.keys()])

    async def get_stats(self) -> CacheStats:
        keys = await self.storage.keys()
        return {"hits": self._hits, "misses": self._misses, "size": len(keys), "keys": keys}

    async def close(self) -> None:
        await self.storage.close()

    def _alone(self, key: str) -> AbstractAsyncContextManager[StorageEntry | None]:
        """Keep other processes from making the value; gives it if one made it in the meantime."""
        return _nobody_else(key)

    async def _look(self, key: str) -> StorageEntry | None:
        entry = await self.storage.get_entry(key)
        self._hits += entry is not None
        return entry

    @asynccontextmanager
    async def _alone_here(self, key: str) -> AsyncGenerator[None]:
        lock = self._locks.setdefault(key, _Lock())
        lock.users += 1
        try:
            async with lock.lock:
                yield
        finally:
            lock.users -= 1
            if not lock.users:
                del self._locks[key]


@dataclass(slots=True)
class _Lock:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0  # who holds it or waits for it


@asynccontextmanager
async def _nobody_else(_key: str) -> AsyncGenerator[StorageEntry | None]:
    yield None
