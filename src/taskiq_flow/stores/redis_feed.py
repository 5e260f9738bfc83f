"""The feed of a namespace: a stream, each entry of which is what one call recorded of one run."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from taskiq_flow.model.records import EventRecord
from taskiq_flow.stores import redis_replies as replies
from taskiq_flow.stores.redis_wire import RedisWire

BLOCK_SECONDS = 5.0
"""How long one read waits in the server before it is asked again."""


class RedisFeed:
    """Reads the stream; whoever waits for news does so on a connection of its own.

    A position is the id of the last entry that was read, or ``id/n`` when a page ended after the
    n-th event of that entry.
    """

    def __init__(
        self,
        call: Callable[..., Awaitable[Any]],
        key: str,
        url: str,
        client_options: Mapping[str, Any],
    ) -> None:
        self._call, self._key, self._url = call, key, url
        self._client_options = {**client_options, "timeout_seconds": 2 * BLOCK_SECONDS}
        self._idle: list[RedisWire] = []

    async def read(
        self, after: str | None, limit: int, wait_seconds: float
    ) -> tuple[list[EventRecord], str]:
        position = await self._newest() if after is None else after
        last, _, skipped = position.partition("/")
        if skipped:
            found = await self._call("XRANGE", self._key, last, "+", "COUNT", limit)
        else:
            found = await self._entries(last, limit, wait_seconds)
        events: list[EventRecord] = []
        for name, fields in found:
            inside = int(skipped) if skipped and name.decode() == last else 0
            fresh = replies.entry(fields)[inside:]
            room = limit - len(events)
            events += fresh[:room]
            if len(fresh) > room:
                return events, f"{name.decode()}/{inside + room}"
            position = name.decode()
        return events, position

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().close()

    async def _newest(self) -> str:
        newest = await self._call("XREVRANGE", self._key, "+", "-", "COUNT", 1)
        return newest[0][0].decode() if newest else "0-0"

    async def _entries(self, position: str, limit: int, wait_seconds: float) -> list[Any]:
        until = time.monotonic() + wait_seconds
        reply = await self._call("XREAD", "COUNT", limit, "STREAMS", self._key, position)
        if reply is None and wait_seconds > 0:
            reply = await self._wait(position, limit, until)
        return [] if reply is None else reply[0][1]

    async def _wait(self, position: str, limit: int, until: float) -> Any:
        """Block in the server; on a shared connection all other calls would wait behind."""
        wire = self._idle.pop() if self._idle else RedisWire(self._url, **self._client_options)
        reply = None
        try:
            while reply is None and (wait := until - time.monotonic()) > 0:
                block = max(1, int(min(wait, BLOCK_SECONDS) * 1000))
                reply = await wire.call(
                    *("XREAD", "COUNT", limit, "BLOCK", block, "STREAMS", self._key, position)
                )
        except BaseException:
            await wire.close()
            raise
        self._idle.append(wire)
        return reply
