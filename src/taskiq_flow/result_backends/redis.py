"""A result backend in Redis; every key of it expires, unless it is told otherwise."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from taskiq_flow.exceptions import MissingExtraError
from taskiq_flow.result_backends.stored import Kind, StoredResultBackend

try:
    import redis.asyncio as redis
except ImportError as error:
    raise MissingExtraError("RedisResultBackend", "redis", "redis") from error

T = TypeVar("T")


class RedisResultBackend(StoredResultBackend[T]):
    """Keeps results in a Redis server or cluster; other options as of `StoredResultBackend`.

    Takes a URL, or a client of redis-py that stays open when this is shut down.
    """

    def __init__(self, redis_url: Any, key_prefix: str = "taskiq_flow:results:", **options: Any):
        super().__init__(**options)
        self._is_own = isinstance(redis_url, str)
        self._client: Any = (
            cast(Any, redis.Redis).from_url(redis_url) if self._is_own else redis_url
        )
        self.key_prefix = key_prefix

    async def shutdown(self) -> None:
        if self._is_own:
            await self._client.aclose()

    async def delete_result(self, task_id: str) -> None:
        for kind in Kind:  # one by one: in a cluster they lie on different nodes
            await self._client.delete(self._key(kind, task_id))

    async def _write(self, kind: Kind, task_id: str, data: bytes) -> None:
        milliseconds = None if self.ttl_seconds is None else int(self.ttl_seconds * 1000)
        await self._client.set(self._key(kind, task_id), data, px=milliseconds)

    async def _read(self, kind: Kind, task_id: str) -> bytes | None:
        found: bytes | str | None = await self._client.get(self._key(kind, task_id))
        return found.encode() if isinstance(found, str) else found

    async def _has_result(self, task_id: str) -> bool:
        return bool(await self._client.exists(self._key(Kind.RESULT, task_id)))

    def _key(self, kind: Kind, task_id: str) -> bytes:
        # Bytes, because an id may hold what is no valid UTF-8.
        return f"{self.key_prefix}{kind}:{task_id}".encode("utf-8", "surrogatepass")
