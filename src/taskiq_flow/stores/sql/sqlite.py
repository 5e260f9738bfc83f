"""The ways into an SQLite file: for an event loop, and for who has none that could wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from taskiq_flow.stores.sql.gate import Gate, GateOptions
from taskiq_flow.stores.sql.session import Mode, ResultT, Session
from taskiq_flow.stores.sql.sqlite_file import Job
from taskiq_flow.stores.sql.sqlite_thread import MOST_AT_ONCE, SqliteThread


class SqliteGate(Gate):
    """Hands operations of one event loop to the thread of a file; its twins share that.

    It gathers what a turn of the loop brings.
    """

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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gathered: list[Job] = []

    def run(
        self, work: Callable[[Session], ResultT], mode: Mode, about: str | None = None
    ) -> asyncio.Future[ResultT]:
        self._is_in_use = True
        return self._put(work, writes=mode is not Mode.READ, about=about)

    async def close(self) -> None:
        if self._is_in_use:
            self._is_in_use = False
            await self._put(None, writes=False, about=None)

    def leave(self) -> None:
        if self._is_in_use:
            self._is_in_use = False
            self._thread.put([Job(None, False, None, self)])

    def twin(self) -> SqliteGate:
        return SqliteGate(
            self._path, self.options, synchronous=self._synchronous, thread=self._thread
        )

    def at_once(self) -> SqliteGateAtOnce:
        return SqliteGateAtOnce(self.options, self._thread)

    def _put(
        self, work: Callable[[Session], Any] | None, *, writes: bool, about: str | None
    ) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        gathered = self._gathered
        if not gathered or self._loop is not loop:
            self._loop = loop
            self._gathered = gathered = list[Job]()
            loop.call_soon(self._hand_over, gathered, loop, 1)
        gathered.append(Job(work, writes, about, self, future))
        return future

    def _hand_over(self, gathered: list[Job], loop: asyncio.AbstractEventLoop, known: int) -> None:
        """Let the thread begin when a turn of the event loop brings nothing more to do.

        Beside a loop that runs Python code it would get the interpreter for moments only, and
        both would take longer.
        """
        if known < len(gathered) < MOST_AT_ONCE:
            loop.call_soon(self._hand_over, gathered, loop, len(gathered))
            return
        if self._gathered is gathered:
            self._gathered = []
        self._thread.put(gathered)


class SqliteGateAtOnce(Gate):
    """Does operations in the thread of whoever asks, which may be any, and several at a time."""

    def __init__(self, options: GateOptions, thread: SqliteThread) -> None:
        self.options, self._thread = options, thread

    async def run(
        self, work: Callable[[Session], ResultT], mode: Mode, about: str | None = None
    ) -> ResultT:
        job = Job(work, mode is not Mode.READ, about, self)
        self._thread.do(job)
        if job.error is not None:
            raise job.error
        return job.result

    async def close(self) -> None:
        self._thread.leave(self)

    def twin(self) -> SqliteGateAtOnce:
        return SqliteGateAtOnce(self.options, self._thread)

    def at_once(self) -> SqliteGateAtOnce:
        return self.twin()
