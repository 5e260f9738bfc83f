"""Reads the feed of a store once for all who watch here, however slow each of them is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from taskiq_flow.exceptions import OperationError, StoreError
from taskiq_flow.model.records import EventRecord
from taskiq_flow.stores.base import RunStore

logger = logging.getLogger("taskiq_flow.operations")

PAGE = 500
WAIT_SECONDS = 5.0
KNOWN_BATCHES = 200
"""Whoever is further behind than so many reads reads from the store itself."""

PAUSE_SECONDS, PAUSE_MOST_SECONDS = 0.25, 5.0
_SHAPES = {
    "memory": re.compile(r"\d{1,18}"),
    "sqlite": re.compile(r"\d{1,18}(\+\d{1,9})?"),
    "redis": re.compile(r"\d{1,18}-\d{1,18}(/\d{1,9})?"),
    "postgresql": re.compile(
        r"\d+:\d+:[\d,]{0,4000}(/\d+:\d+:[\d,]{0,4000}/\d{1,18})?(\+\d{1,9})?"
    ),
}
_SAME = {"rediss": "redis", "unix": "redis", "postgres": "postgresql"}


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that one read found, and the position after them."""

    events: Sequence[EventRecord]
    position: str


@dataclass(slots=True)
class FeedHub:
    """One reader of a store's feed, and those who go on from wherever they are.

    It reads only while somebody watches. Nobody waits for anybody: a watcher asks when it is
    ready, and one that was away for long reads what it missed itself. So nothing has to be kept
    for it, however slow it is.
    """

    store: RunStore
    watching: int = 0
    _batches: OrderedDict[str, Batch] = field(default_factory=OrderedDict[str, Batch])
    _position: str | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _reading: asyncio.Task[None] | None = None
    _begin: asyncio.Lock = field(default_factory=asyncio.Lock)

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[str]:
        """Keep the feed read; gives the position that it has now.

        Raises:
            StoreUnavailableError: The store does not answer.
        """
        self.watching += 1
        try:
            async with self._begin:
                if self._reading is None or self._position is None:
                    _, self._position = await self.store.feed(limit=1)
                    self._reading = asyncio.create_task(self._read())
            yield self._position
        finally:
            self.watching -= 1
            if not self.watching:
                await self.close()

    async def after(self, position: str, *, wait_seconds: float) -> Batch:
        """The events behind a position; an empty batch when there are none for so long."""
        until = asyncio.get_running_loop().time() + wait_seconds
        while True:
            known = self._batches.get(position)
            if known is not None:
                if known.events:
                    return known
                position = known.position
                continue
            if position != self._position:
                batch = await self._read_alone(position)
                if batch.events or batch.position == position:
                    return batch
                position = batch.position
                continue
            news = self._news
            left = until - asyncio.get_running_loop().time()
            if left <= 0:
                return Batch((), position)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await news.wait()

    def check(self, position: str) -> str:
        """A position that a client says it has.

        Raises:
            OperationError: The feed of this store has none like that.
        """
        scheme = self.store.url.partition("://")[0].lower().partition("+")[0]
        shape = _SHAPES.get(_SAME.get(scheme, scheme))
        shown = str(position)[:8_000]
        if shown != position or (shape is not None and shape.fullmatch(position) is None):
            raise OperationError(
                f"{shown[:60]!r} is no position of this feed; leave it out to begin now."
            )
        return position

    async def close(self) -> None:
        """Stop reading; the next watcher begins anew."""
        reading, self._reading, self._position = self._reading, None, None
        self._batches.clear()
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading])

    async def _read_alone(self, position: str) -> Batch:
        """Read for one that is behind; when nothing is left, it goes on with the others.

        Their position is taken before the read: what comes after it is not missed. An event may
        come twice then, and is told by its number.
        """
        others = self._position
        events, reached = await self.store.feed(after=position, limit=PAGE)
        return Batch(events, reached if events or others is None else others)

    async def _read(self) -> None:
        pause = PAUSE_SECONDS
        while self._position is not None:
            try:
                events, reached = await self.store.feed(
                    after=self._position, limit=PAGE, wait_seconds=WAIT_SECONDS
                )
                pause = PAUSE_SECONDS
            except StoreError as error:
                logger.info("Watchers hear of runs later, the store does not answer: %s", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, PAUSE_MOST_SECONDS)
                continue
            if reached == self._position:
                continue
            self._batches[self._position] = Batch(tuple(events), reached)
            if len(self._batches) > KNOWN_BATCHES:
                self._batches.popitem(last=False)
            self._position = reached
            news, self._news = self._news, asyncio.Event()
            news.set()
