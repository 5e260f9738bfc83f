"""A cache in Redis, in which one process makes a value while all others wait."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, cast

from taskiq_flow.cache.stored import StoredCacheAdapter
from taskiq_flow.exceptions import MissingExtraError, StorageUnavailableError, StorageUseError
from taskiq_flow.storage.entry import StorageEntry
from taskiq_flow.storage.redis import RedisStorageAdapter
from taskiq_flow.storage.rules import check_ttl, key_bytes

try:
    import redis.asyncio as redis
except ImportError as error:
    raise MissingExtraError("RedisCacheAdapter", "redis", "redis") from error

ASK_SECONDS = 0.05
"""How often those who wait look whether the value is there."""


_IF_MINE = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
_PROLONG = "return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
_RELEASE = "return redis.call('DEL', KEYS[1])"


class RedisCacheAdapter(StoredCacheAdapter):
    """Keeps values in Redis; whoever makes one renews its lock, however long that takes.

    When a process dies while it makes a value, another one takes over ``lock_timeout`` seconds
    later at most.
    """

    def __init__(
        self,
        redis_url: Any = "redis://localhost:6379",
        default_ttl: float = 3600,
        lock_timeout: float = 10,
        *,
        key_prefix: str = "taskiq_flow:cache:",
    ) -> None:
        if check_ttl("lock_timeout", lock_timeout) is None:
            raise StorageUseError("lock_timeout", lock_timeout, "is no number of seconds")
        self.lock_timeout = lock_timeout
        self._is_own = isinstance(redis_url, str)
        self._client: Any = (
            cast(Any, redis.Redis).from_url(redis_url) if self._is_own else redis_url
        )
        self._values = RedisStorageAdapter(
            self._client, default_ttl, key_prefix=f"{key_prefix}value:"
        )
        super().__init__(self._values, default_ttl)
        self._locked = f"{key_prefix}lock:".encode("utf-8", "surrogatepass")

    async def close(self) -> None:
        if self._is_own:
            await self._client.aclose()

    def _alone(self, key: str) -> AbstractAsyncContextManager[StorageEntry | None]:
        return self._alone_everywhere(key)

    @asynccontextmanager
    async def _alone_everywhere(self, key: str) -> AsyncGenerator[StorageEntry | None]:
        name, token = self._locked + key_bytes(key), secrets.token_bytes(8)
        while not await self._take(name, token):
            entry = await self.storage.get_entry(key)
            if entry is not None:
                yield entry
                return
            await asyncio.sleep(min(ASK_SECONDS, self.lock_timeout / 2))
        renewing = asyncio.create_task(self._renew(name, token))
        try:
            yield None
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])
            # A lock that was lost meanwhile is another one's; one that cannot be given back ends.
            with suppress(StorageUnavailableError):
                await self._if_mine(_RELEASE, name, token)

    async def _take(self, name: bytes, token: bytes) -> bool:
        with self._values.reaching():
            milliseconds = math.ceil(self.lock_timeout * 1000)
            return bool(await self._client.set(name, token, px=milliseconds, nx=True))

    async def _renew(self, name: bytes, token: bytes) -> None:
        while True:
            await asyncio.sleep(self.lock_timeout / 3)
            with suppress(StorageUnavailableError):
                await self._if_mine(_PROLONG, name, token)

    async def _if_mine(self, action: str, name: bytes, token: bytes) -> None:
        milliseconds = math.ceil(self.lock_timeout * 1000)
        with self._values.reaching():
            await self._client.eval(_IF_MINE + action, 1, name, token, milliseconds)
