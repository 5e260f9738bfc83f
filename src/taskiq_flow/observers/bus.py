"""One subscription of a process to the events of all runs, shared by all its observers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator

from taskiq_flow.exceptions import StoreError
from taskiq_flow.model.records import EventRecord
from taskiq_flow.observers.base import Feed, Observer

logger = logging.getLogger("taskiq_flow.observers")

PAGE = 1000
WAIT_SECONDS = 5.0
"""How long one read waits for news before it is asked again."""

PAUSE_SECONDS, PAUSE_MOST_SECONDS = 0.1, 5.0
"""How long a store that does not answer is left alone: at first, and at most."""

CATCH_UP_SECONDS = 1.0

KNOWN_RUNS = 20_000
"""Of so many runs, those heard of last, the position is known, by which a gap is seen."""

RECHECK_SECONDS = 5.0
"""One that follows a run looks this often all the same."""


class EventBus:
    """Reads the feed as long as somebody listens, and tells all observers of each event in order.

    What is missing of a run is read from its own record: a feed is kept only for so long, and
    this process may have been cut off from the store for longer.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._observers: list[Observer] = []
        self._followed: dict[str, set[asyncio.Event]] = {}
        self._position: str | None = None
        self._known: OrderedDict[str, int] = OrderedDict()
        self._reading: asyncio.Task[None] | None = None
        self._beginning = asyncio.Lock()
        self._untold: deque[EventRecord] = deque()
        self._was_away = False

    def add(self, observer: Observer) -> None:
        """Tell an observer of what happens after the next `begin`."""
        if observer not in self._observers:
            self._observers.append(observer)

    def discard(self, observer: Observer) -> None:
        if observer in self._observers:
            self._observers.remove(observer)

    async def begin(self) -> None:
        """Be subscribed: of all that happens from here on the observers are told.

        Raises:
            StoreUnavailableError: The store does not answer.
        """
        if self._is_reading:
            return
        async with self._beginning:
            if not self._is_reading:
                _, self._position = await self._feed.feed(limit=1)
                self._reading = asyncio.create_task(self._read())

    async def follow(self, run_id: str, *, after: int = 0) -> AsyncGenerator[EventRecord, None]:
        """The events of one run in order, those to come too, until it has ended."""
        news = asyncio.Event()
        self._followed.setdefault(run_id, set()).add(news)
        try:
            await self.begin()
            position = after
            while True:
                news.clear()
                ended = run_id in await self._feed.ended_among([run_id])
                fresh = await self._feed.events(run_id, after=position, limit=PAGE)
                for event in fresh:
                    position = event.seq
                    yield event
                    if event.type.ends_run:
                        return
                if ended and not fresh:
                    return  # begun after its last event, or its record has gone meanwhile
                if not fresh:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(RECHECK_SECONDS):
                            await news.wait()
                    await self.begin()
        finally:
            followers = self._followed.get(run_id, set())
            followers.discard(news)
            if not followers:
                self._followed.pop(run_id, None)

    async def catch_up(self) -> None:
        """Tell the observers of all that has happened by now, as far as that goes quickly."""
        if not self._is_reading:
            return
        async with self._beginning:
            await self._stop()
            try:
                async with asyncio.timeout(CATCH_UP_SECONDS):
                    await self._tell_untold()
                    while await self._read_page(wait_seconds=0.0):
                        pass
            except (StoreError, TimeoutError) as error:
                logger.warning("Not all events were told: %r", error)
            self._reading = asyncio.create_task(self._read())

    async def close(self) -> None:
        """Stop reading; a later `begin` starts anew, and knows nothing of what was between."""
        await self._stop()
        self._untold.clear()

    async def _stop(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None and reading.get_loop() is asyncio.get_running_loop():
            reading.cancel()
            await asyncio.wait([reading])

    @property
    def _is_reading(self) -> bool:
        return self._reading is not None and not self._reading.done()

    async def _read(self) -> None:
        pause = PAUSE_SECONDS
        while self._observers or self._followed:
            try:
                if self._was_away:
                    await self._look_for_missed_ends()
                    self._was_away = False
                await self._tell_untold()
                await self._read_page(wait_seconds=WAIT_SECONDS)
                pause = PAUSE_SECONDS
            except StoreError as error:
                if not self._was_away:
                    logger.warning("Events come later, the store does not answer: %s", error)
                self._was_away = True
                await asyncio.sleep(pause)
                pause = min(pause * 2, PAUSE_MOST_SECONDS)
            except Exception:
                # The one subscription of the process must outlive whatever a store throws at it.
                logger.exception("Reading events failed; trying again.")
                await asyncio.sleep(PAUSE_MOST_SECONDS)
            # A long page must not keep the loop from the runs that are worked on in it.
            await asyncio.sleep(0)

    async def _read_page(self, *, wait_seconds: float) -> int:
        events, position = await self._feed.feed(
            after=self._position, limit=PAGE, wait_seconds=wait_seconds
        )
        # Both at once: whoever is cancelled from here on has lost nothing.
        self._position = position
        self._untold.extend(events)
        await self._tell_untold()
        return len(events)

    async def _tell_untold(self) -> None:
        while self._untold:
            event = self._untold[0]
            known = self._known.get(event.run_id)
            if known is not None and event.seq > known + 1:
                missed = event.seq - known - 1
                for earlier in await self._feed.events(event.run_id, after=known, limit=missed):
                    self._tell(earlier)
            self._untold.popleft()
            self._tell(event)

    def _tell(self, event: EventRecord) -> None:
        if event.seq <= self._known.get(event.run_id, 0):
            return  # told before, when a gap was filled
        self._known[event.run_id] = event.seq
        self._known.move_to_end(event.run_id)
        if len(self._known) > KNOWN_RUNS:
            self._known.popitem(last=False)
        for news in self._followed.get(event.run_id, ()):
            news.set()
        for observer in tuple(self._observers):
            try:
                observer(event)
            except Exception:  # foreign code: it must not cost the others their event
                logger.exception("An observer failed on %s of run %s", event.type, event.run_id)

    async def _look_for_missed_ends(self) -> None:
        """Hear of runs that ended while the store was out of reach, should the feed not say so."""
        ended = await self._feed.ended_among(list(self._known))
        for run_id in ended:
            known = self._known.get(run_id, 0)
            for event in await self._feed.events(run_id, after=known):
                self._tell(event)
