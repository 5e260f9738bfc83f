"""A tracking storage in Redis, shared by all processes; every key of it expires."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, cast

from taskiq_flow.exceptions import MissingExtraError
from taskiq_flow.model.records import RunStatus
from taskiq_flow.stores import paging
from taskiq_flow.tracking.models import PipelineStatus, StatusPage
from taskiq_flow.tracking.query import (
    HistoryQuery,
    checked_days,
    cursor_after,
    place,
    place_of,
    record_key,
)
from taskiq_flow.tracking.storage import TrackingStorage
from taskiq_flow.tracking.stored import dump_status, load_status
from taskiq_flow.tracking.view import RunView

try:
    import redis.asyncio as redis
except ImportError as error:
    raise MissingExtraError("RedisPipelineStorage", "redis", "redis") from error

CHUNK = 200
"""Records that are read in one round trip."""

WEEK_SECONDS = 7 * 24 * 3600


class RedisPipelineStorage(TrackingStorage):
    """Mirrors records of runs to a Redis server or cluster.

    Takes a client of redis-py, with or without ``decode_responses``, or a URL. A record is gone
    ``ttl_seconds`` after its last change. ``serializer`` makes text or bytes of a dict of JSON
    values, ``deserializer`` makes the dict again.
    """

    def __init__(
        self,
        redis_client: Any,
        key_prefix: str = "taskiq_flow:tracking:",
        ttl_seconds: int = WEEK_SECONDS,
        serializer: Callable[[Any], str | bytes] = json.dumps,
        deserializer: Callable[[Any], Any] = json.loads,
    ) -> None:
        ttl_seconds = paging.checked_limit(ttl_seconds, name="ttl_seconds")
        self._is_own = isinstance(redis_client, str)
        self._client: Any = (
            cast(Any, redis.Redis).from_url(redis_client) if self._is_own else redis_client
        )
        self.key_prefix, self.ttl_seconds = key_prefix, ttl_seconds
        self._serialize, self._deserialize = serializer, deserializer

    async def save_status(self, status: PipelineStatus) -> None:
        key, ttl = record_key(status), self.ttl_seconds
        body = self._serialize(dump_status(status))
        at, _ = place(status)
        index, named = self._index(), self._key("name", status.pipeline_id)
        pipe = self._client.pipeline(transaction=False)
        if status.is_finished():
            # A key of its own: what was read before the end and comes late does not replace it.
            pipe.set(self._key("end", key), body, ex=ttl)
            pipe.delete(self._key("live", key))
        else:
            pipe.set(self._key("live", key), body, ex=ttl)
        for zset in (index, self._index(status.status), named):
            pipe.zadd(zset, {key: at})
            pipe.expire(zset, ttl)
        for other in RunStatus:
            if other.value != status.status:
                pipe.zrem(self._index(other.value), key)
        await pipe.execute()

    async def get_status(self, pipeline_id: str) -> PipelineStatus | None:
        found = (await self._load([pipeline_id]))[0]
        if found is not None:
            return found
        for key in await self._client.zrevrange(self._key("name", pipeline_id), 0, 9):
            named = (await self._load([_text(key)]))[0]
            if named is not None:
                return named
        return None

    async def list_pipelines(
        self, status_filter: str | None = None, limit: int = 100
    ) -> list[PipelineStatus]:
        return await self.get_history(HistoryQuery.of(status=status_filter), limit=limit)

    async def get_history(
        self, query: HistoryQuery, *, limit: int = 100, cursor: str | None = None
    ) -> StatusPage:
        limit = paging.checked_limit(limit)
        found: list[PipelineStatus] = []
        async with aclosing(self._newest_first(query, cursor)) as statuses:
            async for status in statuses:
                if query.matches(status):
                    if len(found) == limit:
                        return StatusPage(found, cursor_after(found[-1]))
                    found.append(status)
        return StatusPage(found)

    async def delete_pipeline(self, pipeline_id: str) -> bool:
        status = await self.get_status(pipeline_id)
        if status is not None:
            await self._remove(status)
        return status is not None

    async def cleanup_older_than(self, days: float) -> int:
        before = time.time() - checked_days(days) * 24 * 3600
        old: list[PipelineStatus] = []
        for word in (status for status in RunStatus if status.is_final):
            # What ended before then has begun before then.
            async for status in self._newest_first(HistoryQuery(status=word), f"{before!r} "):
                ended = status.completed_at
                if ended is not None and ended.timestamp() < before:
                    old.append(status)
        for status in old:
            await self._remove(status)
        return len(old)

    async def close(self) -> None:
        if self._is_own:
            await self._client.aclose()

    async def _newest_first(
        self, query: HistoryQuery, cursor: str | None
    ) -> AsyncGenerator[PipelineStatus, None]:
        """Records of an index from a place on; what has expired leaves the index here."""
        index = self._index("" if query.status is None else query.status.value)
        lowest = "-inf" if query.since is None else query.since.timestamp()
        highest = "+inf" if query.until is None else query.until.timestamp()
        last = None if cursor is None else place_of(cursor)
        seen = 0  # entries of the time of `last` that were read
        gone: list[str] = []
        while True:
            entries = await self._client.zrevrangebyscore(
                index,
                highest if last is None else last[0],
                lowest,
                start=seen,
                num=CHUNK,
                withscores=True,
            )
            places = [(float(at), _text(key)) for key, at in entries]
            fresh = [one for one in places if last is None or one < last]
            for one, status in zip(fresh, await self._load([key for _, key in fresh]), strict=True):
                if status is None:
                    gone.append(one[1])
                elif query.status in (None, status.status):
                    yield status
            if len(entries) < CHUNK:
                if gone:
                    await self._client.zrem(index, *gone)
                return
            newest = places[-1]
            same = sum(1 for at, _ in places if at == newest[0])
            seen = seen + same if last is not None and last[0] == newest[0] else same
            last = newest

    async def _load(self, keys: list[str]) -> list[PipelineStatus | None]:
        if not keys:
            return []
        pipe = self._client.pipeline(transaction=False)
        for key in keys:
            pipe.get(self._key("end", key))
            pipe.get(self._key("live", key))
        bodies: list[Any] = await pipe.execute()
        either = [end or live for end, live in zip(bodies[::2], bodies[1::2], strict=True)]
        return [body and load_status(self._deserialize(body)) for body in either]

    async def _remove(self, status: PipelineStatus) -> None:
        key = record_key(status)
        pipe = self._client.pipeline(transaction=False)
        pipe.delete(self._key("end", key))
        pipe.delete(self._key("live", key))
        pipe.zrem(self._key("name", status.pipeline_id), key)
        for word in ("", *(known.value for known in RunStatus)):
            pipe.zrem(self._index(word), key)
        await pipe.execute()

    def _key(self, kind: str, name: str) -> str | bytes:
        # Bytes, because a name may hold what is no valid UTF-8.
        return f"{self.key_prefix}{kind}:{name}".encode("utf-8", "surrogatepass")

    def _index(self, word: str = "") -> str | bytes:
        return self._key("index", word)


class RedisRunView(RunView, RedisPipelineStorage):
    """The runs of a store in Redis."""


def _text(key: bytes | str) -> str:
    return key.decode("utf-8", "surrogatepass") if isinstance(key, bytes) else key
