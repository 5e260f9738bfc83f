"""SQLite: one thread per store writes, and all that waits for it shares one transaction."""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from taskiq_flow.exceptions import StoreUnavailableError
from taskiq_flow.stores.sql.gate import Gate, GateOptions
from taskiq_flow.stores.sql.kept import KeptRuns
from taskiq_flow.stores.sql.session import Mode, ResultT, Session
from taskiq_flow.stores.sql.sqlite_faults import fix_of
from taskiq_flow.stores.sql.sqlite_session import SqliteSession, Together

logger = logging.getLogger("taskiq_flow.stores")

ATTEMPTS: Final = 2
"""How often a batch is tried while the file is locked, or when its connection broke."""

LOG_PAGES: Final = 4000
"""Pages of the log of writes (16 MB) after which they are brought into the file.

By then most of them were written several times, and go there once.
"""

MOST_AT_ONCE: Final = 200
"""Operations that share a transaction at the most, so that the first one is not kept waiting."""


@dataclass(slots=True)
class _Job:
    """One operation that waits for the thread; ``work`` is None for the last one."""

    work: Callable[[Session], Any] | None
    writes: bool
    about: str | None
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None


class _ApartError(Exception):
    """An operation has failed, and what it has written cannot be told from the others' writes."""


class SqliteGate(Gate):
    """Hands operations to a thread, which takes all that wait in one transaction.

    So a hundred coroutines cost one commit, and one statement for all rows of a table. Should one
    of them fail in a way that cannot be told apart, all are done again, each with a savepoint of
    its own (which makes SQLite copy every page that is changed): a failure undoes nothing of the
    others.
    """

    def __init__(self, path: str, options: GateOptions, *, synchronous: str) -> None:
        self.options = options
        self._path, self._synchronous = path, synchronous
        self._patience = options.timeout_seconds / ATTEMPTS
        self._jobs: queue.SimpleQueue[list[_Job]] = queue.SimpleQueue()
        self._gathered: list[_Job] = []
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._kept = KeptRuns()
        self._version: int | None = None

    def run(
        self, work: Callable[[Session], ResultT], mode: Mode, about: str | None = None
    ) -> asyncio.Future[ResultT]:
        if self._thread is None:
            self._thread = self._begin()
        return self._put(work, writes=mode is not Mode.READ, about=about)

    async def close(self) -> None:
        if self._thread is not None:
            await self._put(None, writes=False, about=None)
            self._thread = None

    def leave(self) -> None:
        if self._thread is not None:
            loop = asyncio.get_running_loop()
            self._jobs.put([_Job(None, False, None, loop.create_future(), loop)])
            self._thread = None

    def twin(self) -> SqliteGate:
        return SqliteGate(self._path, self.options, synchronous=self._synchronous)

    def _begin(self) -> threading.Thread:
        # A daemon: what nobody was told is done may end with the process.
        thread = threading.Thread(target=self._serve, name="taskiq-flow-sqlite", daemon=True)
        thread.start()
        return thread

    def _put(
        self, work: Callable[[Session], Any] | None, *, writes: bool, about: str | None
    ) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        gathered = self._gathered
        if not gathered or gathered[0].loop is not loop:
            gathered = self._gathered = []
            loop.call_soon(self._hand_over, gathered, 1)
        gathered.append(_Job(work, writes, about, future, loop))
        return future

    def _hand_over(self, gathered: list[_Job], known: int) -> None:
        """Let the thread begin when a turn of the event loop brings nothing more to do.

        Beside a loop that runs Python code it would get the interpreter for moments only, and
        both would take longer.
        """
        if known < len(gathered) < MOST_AT_ONCE:
            gathered[0].loop.call_soon(self._hand_over, gathered, len(gathered))
            return
        if self._gathered is gathered:
            self._gathered = []
        self._jobs.put(gathered)

    # -- in the thread

    def _serve(self) -> None:
        while True:
            batch = self._next_batch()
            last = [job for job in batch if job.work is None]
            todo = [job for job in batch if job.work is not None]
            if todo:
                self._attempt(todo)
            if last:
                self._disconnect()
            _deliver(batch)
            if last:
                return

    def _next_batch(self) -> list[_Job]:
        batch = self._jobs.get()
        while len(batch) < MOST_AT_ONCE:
            try:
                batch += self._jobs.get_nowait()
            except queue.Empty:
                break
        return batch

    def _attempt(self, batch: list[_Job]) -> None:
        """Run a batch, once more if the file was in use or its connection broke."""
        for tries_left in reversed(range(ATTEMPTS)):
            try:
                self._transact(self._connect(), batch)
            except sqlite3.Error as error:
                self._disconnect()
                if not tries_left:
                    _fail(batch, self._unavailable(error))
            except Exception as error:
                # Whoever asks later must find this thread alive.
                logger.exception("%d operation(s) on %s failed", len(batch), self.options.shown_url)
                self._disconnect()
                _fail(batch, error)
                return
            else:
                return

    def _transact(self, connection: sqlite3.Connection, batch: list[_Job]) -> None:
        begin = "BEGIN IMMEDIATE" if any(job.writes for job in batch) else "BEGIN"
        try:
            connection.execute(begin)
            self._check_version(connection)
            try:
                self._perform_together(connection, batch)
            except _ApartError:
                connection.execute("ROLLBACK")
                self._kept.clear()
                connection.execute(begin)
                for job in batch:
                    self._perform_apart(connection, job)
            connection.execute("COMMIT")
            self._kept.trim()
        except BaseException:
            self._kept.clear()
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _check_version(self, connection: sqlite3.Connection) -> None:
        """Forget what was kept if another connection has written since."""
        version: int = connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:
            self._version = version
            self._kept.clear()

    def _perform_together(self, connection: sqlite3.Connection, batch: list[_Job]) -> None:
        together = Together(connection, self._kept)
        session = SqliteSession(connection, self.options, together)
        try:
            for job in batch:
                if job.about is None or job.about in together.about:
                    together.flush()
                session.begin(job.about)
                self._perform(job, session)
            together.flush()
        except Exception as error:  # a row that is there already, a value that is no text
            if _is_of_the_file(error):
                raise
            raise _ApartError from error

    def _perform(self, job: _Job, session: SqliteSession) -> None:
        assert job.work is not None
        job.result = job.error = None
        try:
            job.result = job.work(session)
        except Exception as error:  # it belongs to whoever asked for the work
            if _is_of_the_file(error):
                raise
            if job.writes and (job.about is None or session.has_written):
                raise _ApartError from error
            job.error = error
            if job.about is not None:
                self._kept.forget(job.about)
        else:
            session.leave()

    def _perform_apart(self, connection: sqlite3.Connection, job: _Job) -> None:
        assert job.work is not None
        job.result = job.error = None
        connection.execute("SAVEPOINT job")
        try:
            job.result = job.work(SqliteSession(connection, self.options))
        except Exception as error:  # it belongs to whoever asked for the work
            if _is_of_the_file(error):
                raise
            job.error = error
            connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(
                self._path, timeout=self._patience, isolation_level=None, cached_statements=512
            )
            _use_write_ahead_log(self._connection, until=time.monotonic() + self._patience)
            self._connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = self._version = None

    def _unavailable(self, error: sqlite3.Error) -> StoreUnavailableError:
        found = StoreUnavailableError(self.options.shown_url, str(error), fix_of(error))
        found.__cause__ = error
        return found


def _use_write_ahead_log(connection: sqlite3.Connection, *, until: float) -> None:
    """Let readers and the writer not wait for each other; the file remembers it."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            # Processes that open a new file together: SQLite does not wait for this one by itself.
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _is_of_the_file(error: Exception) -> bool:
    """Whether the file or its connection is at fault, and not the operation."""
    return isinstance(error, sqlite3.OperationalError | sqlite3.InternalError) or (
        type(error) is sqlite3.DatabaseError  # a damaged file; its subclasses are other things
    )


def _fail(batch: list[_Job], error: Exception) -> None:
    for job in batch:
        job.error = error


def _deliver(batch: list[_Job]) -> None:
    """Tell each event loop, in one go, what became of its operations."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = defaultdict(list)
    for job in batch:
        by_loop[job.loop].append(job)
    for loop, jobs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, jobs)
        except RuntimeError:
            logger.debug("An event loop has ended before %d of its operations", len(jobs))


def _settle(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
