"""SQLite's thread: does what waits for a file, as much as it can in one transaction."""

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
from taskiq_flow.stores.sql.gate import GateOptions
from taskiq_flow.stores.sql.kept import KeptRuns
from taskiq_flow.stores.sql.session import Session
from taskiq_flow.stores.sql.sqlite_faults import fix_of, is_of_the_file
from taskiq_flow.stores.sql.sqlite_session import ApartError, SqliteSession

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
class Job:
    """One operation that waits for the thread; without ``work`` somebody leaves."""

    work: Callable[[Session], Any] | None
    writes: bool
    about: str | None
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None


class SqliteThread:
    """The thread and the connection that a store has with its twins, in whichever event loop.

    All that waits goes into one transaction, so a hundred coroutines cost one commit, and one
    statement for all rows of a table. Should one of them fail in a way that cannot be told apart,
    all are done again, each with a savepoint of its own (which makes SQLite copy every page that is
    changed): a failure undoes nothing of the others.

    There is one and not one for each twin, because what another connection writes makes it forget
    the runs that it keeps: the renewals of leases, once a second, would be enough.
    """

    def __init__(self, path: str, options: GateOptions, *, synchronous: str) -> None:
        self.options = options
        self._path, self._synchronous = path, synchronous
        self._patience = options.timeout_seconds / ATTEMPTS
        self._lock = threading.Lock()
        self._users = 0
        self._thread: threading.Thread | None = None
        self._jobs: queue.SimpleQueue[list[Job]] = queue.SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._of_parent: sqlite3.Connection | None = None
        self._kept = KeptRuns()
        self._version: int | None = None

    def enter(self) -> None:
        """Begin to use it; a `Job` without work ends that."""
        with self._lock:
            self._notice_fork()
            self._users += 1

    def put(self, jobs: list[Job]) -> None:
        """Have these done, in order; whoever comes first has the thread begun."""
        with self._lock:
            self._notice_fork()
            self._jobs.put(jobs)
            if self._thread is None:
                # A daemon: what nobody was told is done may end with the process.
                self._thread = threading.Thread(
                    target=self._serve, name="taskiq-flow-sqlite", daemon=True
                )
                self._thread.start()

    def _notice_fork(self) -> None:
        if self._thread is not None and not self._thread.is_alive():
            # This process was forked, and threads are not. What is open there stays its own.
            self._of_parent, self._connection, self._version = self._connection, None, None
            self._thread, self._users, self._jobs = None, 0, queue.SimpleQueue()

    # -- in the thread

    def _serve(self) -> None:
        while True:
            batch = self._next_batch()
            todo = [job for job in batch if job.work is not None]
            if todo:
                self._attempt(todo)
            is_last = self._is_left_by(len(batch) - len(todo))
            _deliver(batch)
            if is_last:
                return

    def _is_left_by(self, leaving: int) -> bool:
        """Count who leaves; the last one has the file closed, and ends the thread."""
        with self._lock:
            self._users -= leaving
            if self._users > 0 or not self._jobs.empty():
                return False
            self._disconnect()
            self._thread = None
            return True

    def _next_batch(self) -> list[Job]:
        batch = self._jobs.get()
        while len(batch) < MOST_AT_ONCE:
            try:
                batch += self._jobs.get_nowait()
            except queue.Empty:
                break
        return batch

    def _attempt(self, batch: list[Job]) -> None:
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

    def _transact(self, connection: sqlite3.Connection, batch: list[Job]) -> None:
        begin = "BEGIN IMMEDIATE" if any(job.writes for job in batch) else "BEGIN"
        try:
            connection.execute(begin)
            self._check_version(connection)
            try:
                self._perform_together(connection, batch)
            except ApartError:
                connection.execute("ROLLBACK")
                self._kept.clear()
                connection.execute(begin)
                self._perform_apart(connection, batch)
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

    def _perform_together(self, connection: sqlite3.Connection, batch: list[Job]) -> None:
        session = SqliteSession(connection, self.options, self._kept)
        for job in batch:
            session.begin(job.about)
            if not self._perform(job, session) and job.writes:
                session.abandon()
        session.flush()

    def _perform_apart(self, connection: sqlite3.Connection, batch: list[Job]) -> None:
        session = SqliteSession(connection, self.options, self._kept)
        for job in batch:
            connection.execute("SAVEPOINT job")
            session.begin()
            if not self._perform(job, session):
                session.writes.clear()
                connection.execute("ROLLBACK TO job")
            connection.execute("RELEASE job")

    def _perform(self, job: Job, session: SqliteSession) -> bool:
        """Do one operation; False if it has failed, of which only who asked for it will hear."""
        assert job.work is not None
        job.result = job.error = None
        try:
            job.result = job.work(session)
            session.end()
        except ApartError:
            raise
        except Exception as error:
            if is_of_the_file(error):
                raise
            job.error = error
        return job.error is None

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


def _fail(batch: list[Job], error: Exception) -> None:
    for job in batch:
        job.error = error


def _deliver(batch: list[Job]) -> None:
    """Tell each event loop, in one go, what became of its operations."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = defaultdict(list)
    for job in batch:
        by_loop[job.loop].append(job)
    for loop, jobs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, jobs)
        except RuntimeError:
            logger.debug("An event loop has ended before %d of its operations", len(jobs))


def _settle(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
