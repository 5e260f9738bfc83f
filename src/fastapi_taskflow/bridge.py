"""Asks a run store from code that cannot wait for an event loop: sync routes, tests, `add_task`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from taskiq_flow.exceptions import StoreUnavailableError
from taskiq_flow.stores.base import RunStore

T = TypeVar("T")

WAIT_SECONDS = 10.0
"""A store that takes longer than this counts as away."""


class Bridge:
    """A run store for this thread and for others, opened when it is first asked.

    One that can answers at once, in the caller's thread. Others are asked by a thread with an event
    loop and connections of its own, which starts with the first question.
    """

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self._at_once = store.at_once()
        self._mine: RunStore | None = None
        self._of_parent: RunStore | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Future[None] | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._of_loop: tuple[asyncio.AbstractEventLoop, RunStore] | None = None
        self._beside: dict[asyncio.AbstractEventLoop, RunStore] = {}

    def ask(
        self,
        work: Callable[[RunStore], Coroutine[Any, Any, T]],
        *,
        timeout_seconds: float = WAIT_SECONDS,
    ) -> T:
        """Wait for the answer.

        Raises:
            StoreUnavailableError: The store does not answer in time.
        """
        if self._at_once is not None:
            return _answer(work(self._at_once))
        loop = self._running_loop()
        future = asyncio.run_coroutine_threadsafe(self._do(work), loop)
        try:
            return future.result(timeout_seconds)
        except concurrent.futures.TimeoutError as error:
            if not future.cancel():
                raise  # the work's own
            why = f"no answer for {timeout_seconds:g} s"
            raise StoreUnavailableError(self.store.url, why, is_asked=True) from error

    def use(self, store: RunStore | None) -> None:
        """Answer async questions of the running loop with a store that is open there."""
        self._of_loop = None if store is None else (asyncio.get_running_loop(), store)

    async def opened(self) -> RunStore:
        """The store for the running event loop."""
        if self.store.never_waits:
            return self.store
        loop = asyncio.get_running_loop()
        if self._of_loop is not None and self._of_loop[0] is loop:
            return self._of_loop[1]
        found = self._beside.get(loop)
        if found is None:
            self._leave_closed_loops()
            twin = self.store.twin()
            await twin.open()
            found = self._beside.setdefault(loop, twin)
            if found is not twin:
                await twin.close()  # two have asked at once
        return found

    def _leave_closed_loops(self) -> None:
        for loop in list(self._beside):
            left = self._beside.pop(loop, None) if loop.is_closed() else None
            if left is not None:  # two threads may look at once
                left.leave()

    async def close(self) -> None:
        """End the thread; the next question starts another one."""
        self._leave_closed_loops()
        here = self._beside.pop(asyncio.get_running_loop(), None)
        if here is not None:
            await here.close()
        if self._at_once is not None and self._at_once is not self.store:
            await asyncio.to_thread(_answer, self._at_once.close())  # it may wait for the file
        with self._lock:
            loop, self._loop = self._loop, None
            thread, self._thread = self._thread, None
        if loop is not None and thread is not None:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._end(), loop))
            loop.call_soon_threadsafe(loop.stop)
            await asyncio.to_thread(thread.join)

    # -- in the thread

    async def _do(self, work: Callable[[RunStore], Coroutine[Any, Any, T]]) -> T:
        if self._mine is None:
            # Before the first await: others who ask meanwhile find it, and open it as well.
            self._mine = self.store.twin()
            self._opening = asyncio.ensure_future(self._mine.open())
        mine = self._mine
        if self._opening is not None:
            try:
                await asyncio.shield(self._opening)
            except Exception:
                self._mine = self._opening = None  # the next question tries again
                raise
        return await work(mine)

    async def _end(self) -> None:
        mine, self._mine, self._opening = self._mine, None, None
        if mine is not None:
            await mine.close()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._thread is not None and not self._thread.is_alive():
                # This process was forked, and threads are not. What was open there stays its own.
                self._of_parent, self._mine, self._opening = self._mine, None, None
                self._loop = None
            if self._loop is None:
                self._loop = loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_serve, args=(loop,), name="fastapi-taskflow-store", daemon=True
                )
                self._thread.start()
            return self._loop


def is_running(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this code runs in an event loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())  # connections close one turn later
    finally:
        loop.close()


def _answer(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of a store that never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    finally:
        work.close()
    raise RuntimeError("a store that never waits has waited for something")
