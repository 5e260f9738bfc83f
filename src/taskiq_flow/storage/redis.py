"""Values in Redis, shared by all processes; the server removes what has expired."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

from taskiq_flow.codec import DEFAULT_LIMIT
from taskiq_flow.exceptions import MissingExtraError, StorageUnavailableError, StorageUseError
from taskiq_flow.storage.base import BaseStorageAdapter
from taskiq_flow.storage.entry import StorageEntry
from taskiq_flow.storage.rules import check_ttl, key_bytes, key_text, parse_pattern
from taskiq_flow.storage.written import read_value, write_value

try:
    import redis.asyncio as redis
    from redis.exceptions import RedisError
except ImportError as error:
    raise MissingExtraError("RedisStorageAdapter", "redis", "redis") from error

READ_TOGETHER = 500
"""Values that one command reads at the most."""

_MAGIC = re.compile(rb"[*?\[\]\\]")

# A string is when it was created, a line feed (never in our JSON), and the JSON.
_REPLACE = """
local now = redis.call('GET', KEYS[1])
if not now then return 0 end
local at = string.find(now, '\\n', 1, true)
if not at or string.sub(now, at + 1) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], string.sub(now, 1, at) .. ARGV[2], 'KEEPTTL')
return 1
"""


class RedisStorageAdapter(BaseStorageAdapter):
    """Keeps values in a Redis server or cluster, version 6 or later.

    Takes a URL or a client of redis-py that returns bytes. Without a TTL of its own a value
    lives for ``ttl_seconds``; with ``ttl_seconds=None`` as long as the server keeps it.
    """

    def __init__(
        self,
        redis_url: Any = "redis://localhost:6379",
        ttl_seconds: float | None = 3600,
        *,
        key_prefix: str = "taskiq_flow:storage:",
        max_value_bytes: int = DEFAULT_LIMIT,
    ) -> None:
        self.ttl_seconds = check_ttl("ttl_seconds", ttl_seconds)
        self.key_prefix = key_prefix
        self._prefix = key_prefix.encode("utf-8", "surrogatepass")
        self._limit = max_value_bytes
        self._is_own = isinstance(redis_url, str)
        try:
            self._client: Any = (
                cast(Any, redis.Redis).from_url(redis_url) if self._is_own else redis_url
            )
        except ValueError as error:
            # The URL may hold a password: only what is wrong with it is shown.
            raise StorageUseError("redis_url", "…", f"is not usable: {error}") from error
        facts: dict[str, Any] = getattr(
            getattr(self._client, "connection_pool", None), "connection_kwargs", {}
        )
        if facts.get("decode_responses"):
            rule = "has decode_responses=True; keys and values are bytes here"
            raise StorageUseError("redis_url", self._client, rule)
        self._address = f"redis://{facts.get('host', '…')}:{facts.get('port', '…')}"

    async def get(self, key: str) -> Any | None:
        name = self._name(key)
        with self.reaching():
            kept: bytes | None = await self._client.get(name)
        return None if kept is None else read_value(kept.partition(b"\n")[2])

    async def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        names = [self._name(key) for key in keys]
        found: dict[str, Any] = {}
        with self.reaching():
            for first in range(0, len(names), READ_TOGETHER):
                kept: list[bytes | None] = await self._client.mget(
                    names[first : first + READ_TOGETHER]
                )
                for key, text in zip(keys[first:], kept, strict=False):
                    if text is not None:
                        found[key] = read_value(text.partition(b"\n")[2])
        return found

    async def set(self, key: str, value: Any, ttl_seconds: float | None = None) -> None:
        await self._write(key, value, ttl_seconds, only_new=False)

    async def add(self, key: str, value: Any, ttl_seconds: float | None = None) -> bool:
        return await self._write(key, value, ttl_seconds, only_new=True)

    async def _write(
        self, key: str, value: Any, ttl_seconds: float | None, *, only_new: bool
    ) -> bool:
        name = self._name(key)
        ttl = check_ttl("ttl_seconds", ttl_seconds) or self.ttl_seconds
        body = write_value(key, value, self._limit)
        kept = f"{time.time()!r}\n".encode() + body
        lives = None if ttl is None else math.ceil(ttl * 1000)
        with self.reaching():
            return bool(await self._client.set(name, kept, px=lives, nx=only_new))

    async def delete(self, key: str) -> bool:
        name = self._name(key)
        with self.reaching():
            return bool(await self._client.delete(name))

    async def exists(self, key: str) -> bool:
        name = self._name(key)
        with self.reaching():
            return bool(await self._client.exists(name))

    async def keys(self, pattern: str = "*") -> list[str]:
        wanted = parse_pattern(pattern)
        begins = self._prefix + wanted.prefix.encode("utf-8", "surrogatepass")
        glob = _MAGIC.sub(rb"\\\g<0>", begins) + b"*"
        found: set[str] = set()  # a scan may tell of a key more than once
        with self.reaching():
            async for name in self._client.scan_iter(match=glob, count=1000):
                key = key_text(name[len(self._prefix) :])
                if wanted.matches(key):
                    found.add(key)
        return sorted(found)

    async def cleanup(self, ttl_seconds: int = 3600) -> int:  # noqa: ARG002 - see the base
        return 0

    async def get_entry(self, key: str) -> StorageEntry | None:
        name = self._name(key)
        pipe = self._client.pipeline(transaction=False)
        pipe.get(name)
        pipe.pttl(name)
        with self.reaching():
            kept, left = await pipe.execute()
        if kept is None:
            return None
        created_at, _, body = kept.partition(b"\n")
        return StorageEntry(
            key,
            read_value(body),
            datetime.fromtimestamp(float(created_at), UTC),
            # -1: it never expires; -2: it did so between the two questions.
            None if left == -1 else datetime.fromtimestamp(time.time() + max(0, left) / 1000, UTC),
        )

    async def replace(self, key: str, expected: Any, value: Any) -> bool:
        name = self._name(key)
        old, new = write_value(key, expected, None), write_value(key, value, self._limit)
        with self.reaching():
            return bool(await self._client.eval(_REPLACE, 1, name, old, new))

    async def close(self) -> None:
        if self._is_own:
            await self._client.aclose()

    def _name(self, key: str) -> bytes:
        return self._prefix + key_bytes(key)

    @contextmanager
    def reaching(self) -> Generator[None]:
        """Turn errors of the client into ours."""
        try:
            yield
        except (RedisError, OSError) as error:
            raise StorageUnavailableError(self._address, str(error)) from error
