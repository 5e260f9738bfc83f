"""Hands events to one observer, in order, on nobody's time but its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from fastapi_taskflow.loggers.base import LogEvent, LogLevel, TaskEvent, TaskObserver

logger = logging.getLogger("fastapi_taskflow.loggers")

WAITING_MOST = 10_000
"""So many events wait for a slow observer; newer ones are dropped until it has caught up."""

CALL_SECONDS = 30.0
"""A call that takes longer is given up."""

PATIENCE_SECONDS = 5.0
"""So long the application waits for an observer when it starts and when it stops."""

_Mark: TypeAlias = "concurrent.futures.Future[None]"


class Delivery:
    """The bounded queue before an observer, and the task of an event loop that empties it."""

    def __init__(self, observer: TaskObserver, *, most: int = WAITING_MOST) -> None:
        self.observer, self.dropped, self.failed = observer, 0, 0
        self._name = type(observer).__name__
        self._rank = LogLevel.of(observer.min_level, option="min_level").rank
        self._most = most
        self._waiting: deque[TaskEvent | _Mark] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._is_awake = True
        self._working: asyncio.Task[None] | None = None

    def put(self, event: TaskEvent) -> None:
        """Take an event, in any thread; never waits."""
        if isinstance(event, LogEvent) and LogLevel.of(event.level).rank < self._rank:
            return
        if len(self._waiting) < self._most:
            self._append(event)
            return
        self.dropped += 1
        if self.dropped.bit_count() == 1:  # the 1st, 2nd, 4th, 8th, …
            logger.warning("%s is too slow: %d event(s) dropped so far.", self._name, self.dropped)

    async def start(self) -> None:
        """Start the observer, and hand over what came before and what comes from now on."""
        self._loop, self._news, self._is_awake = asyncio.get_running_loop(), asyncio.Event(), True
        started = asyncio.Event()
        self._working = asyncio.create_task(self._work(started))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await started.wait()

    async def stop(self) -> None:
        """Hand over what waits, as far as that goes soon, and close the observer."""
        working, self._working = self._working, None
        if working is None:
            return
        await self.flush(PATIENCE_SECONDS)
        self._loop = None
        working.cancel()
        # One that does not let itself be cancelled is left behind.
        await asyncio.wait([working], timeout=1.0)
        if self._waiting:
            untold = len(self._waiting)
            logger.warning("%s is too slow: %d event(s) were not told.", self._name, untold)
            self._waiting.clear()
        await self._call(self.observer.close, seconds=PATIENCE_SECONDS)

    async def flush(self, timeout_seconds: float) -> None:
        """Wait until all that was put before has been handed over, at most so long."""
        if self._loop is None:
            return
        mark: _Mark = concurrent.futures.Future()
        self._append(mark)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await asyncio.wrap_future(mark)

    def _append(self, what: TaskEvent | _Mark) -> None:
        self._waiting.append(what)
        # Appended before the look, as the worker falls asleep before its last look: one of the
        # two sees the other.
        loop = self._loop
        if loop is not None and not self._is_awake:
            self._is_awake = True
            with contextlib.suppress(RuntimeError):  # its loop has been closed meanwhile
                loop.call_soon_threadsafe(self._news.set)

    async def _work(self, started: asyncio.Event) -> None:
        await self._call(self.observer.startup)
        started.set()
        while True:
            while self._waiting:
                await self._hand_over(self._waiting.popleft())
            self._news.clear()
            self._is_awake = False
            if not self._waiting:
                await self._news.wait()
            self._is_awake = True

    async def _hand_over(self, what: TaskEvent | _Mark) -> None:
        if isinstance(what, concurrent.futures.Future):
            if not what.done():
                what.set_result(None)
        elif isinstance(what, LogEvent):
            await self._call(self.observer.on_log, what)
        else:
            await self._call(self.observer.on_lifecycle, what)

    async def _call(
        self, method: Callable[..., Awaitable[Any]], *args: TaskEvent, seconds: float = CALL_SECONDS
    ) -> None:
        try:
            async with asyncio.timeout(seconds):
                made: object = method(*args)
                if inspect.isawaitable(made):  # a plain function does as well
                    await made
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._say_failed(method, error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code; others go on
            self._say_failed(method, error)

    def _say_failed(self, method: Callable[..., object], error: BaseException) -> None:
        self.failed += 1
        if self.failed.bit_count() == 1:
            what = f"{self._name}.{getattr(method, '__name__', '?')}"
            logger.error("%s failed (%d time(s) so far).", what, self.failed, exc_info=error)


class ThreadDelivery(Delivery):
    """A delivery in a thread and an event loop of its own, for observers that may block."""

    _thread: threading.Thread | None = None
    _end: asyncio.Event
    _own_loop: asyncio.AbstractEventLoop

    async def start(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return  # it goes on where an event loop of the application has ended before it
        ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name=f"{self._name}-events", daemon=True
        )
        self._thread.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.wrap_future(ready)

    async def stop(self) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        ended = asyncio.run_coroutine_threadsafe(super().stop(), self._own_loop)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * PATIENCE_SECONDS):
                await asyncio.wrap_future(ended)
        # One that blocks for ever is left behind in its thread, which ends with the process.
        self._own_loop.call_soon_threadsafe(self._end.set)

    def _run(self, ready: concurrent.futures.Future[None]) -> None:
        asyncio.run(self._live(ready))

    async def _live(self, ready: concurrent.futures.Future[None]) -> None:
        self._own_loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        await super().start()
        if not ready.done():
            ready.set_result(None)
        await self._end.wait()
