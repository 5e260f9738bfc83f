"""The way into an SQLite file: gathers what a turn of the event loop brings, for its thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from taskiq_flow.stores.sql.gate import Gate, GateOptions
from taskiq_flow.stores.sql.session import Mode, ResultT, Session
from taskiq_flow.stores.sql.sqlite_thread import MOST_AT_ONCE, Job, SqliteThread


class SqliteGate(Gate):
    """Hands operations of one event loop to the thread of a file; its twins share that."""

    def __init__(
        self,
        path: str,
        options: GateOptions,
        *,
        synchronous: str,
        thread: SqliteThread | None = None,
    ) -> None:
        self.options = options
        self._path, self._synchronous = path, synchronous
        self._thread = thread or SqliteThread(path, options, synchronous=synchronous)
        self._is_in_use = False
        self._gathered: list[Job] = []

    def run(
        self, work: Callable[[Session], ResultT], mode: Mode, about: str | None = None
    ) -> asyncio.Future[ResultT]:
        if not self._is_in_use:
            self._thread.enter()
            self._is_in_use = True
        return self._put(work, writes=mode is not Mode.READ, about=about)

    async def close(self) -> None:
        if self._is_in_use:
            self._is_in_use = False
            await self._put(None, writes=False, about=None)

    def leave(self) -> None:
        if self._is_in_use:
            self._is_in_use = False
            loop = asyncio.get_running_loop()
            self._thread.put([Job(None, False, None, loop.create_future(), loop)])

    def twin(self) -> SqliteGate:
        return SqliteGate(
            self._path, self.options, synchronous=self._synchronous, thread=self._thread
        )

    def _put(
        self, work: Callable[[Session], Any] | None, *, writes: bool, about: str | None
    ) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        gathered = self._gathered
        if not gathered or gathered[0].loop is not loop:
            gathered = self._gathered = []
            loop.call_soon(self._hand_over, gathered, 1)
        gathered.append(Job(work, writes, about, future, loop))
        return future

    def _hand_over(self, gathered: list[Job], known: int) -> None:
        """Let the thread begin when a turn of the event loop brings nothing more to do.

        Beside a loop that runs Python code it would get the interpreter for moments only, and
        both would take longer.
        """
        if known < len(gathered) < MOST_AT_ONCE:
            gathered[0].loop.call_soon(self._hand_over, gathered, len(gathered))
            return
        if self._gathered is gathered:
            self._gathered = []
        self._thread.put(gathered)
