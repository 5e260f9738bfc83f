"""The connection to an SQLite file: operations, as many as there are in one transaction."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from weakref import finalize

from taskiq_flow.exceptions import StoreUnavailableError
from taskiq_flow.stores.sql.gate import GateOptions
from taskiq_flow.stores.sql.kept import KeptRuns
from taskiq_flow.stores.sql.session import Session
from taskiq_flow.stores.sql.sqlite_checkpoints import Checkpoints
from taskiq_flow.stores.sql.sqlite_faults import fix_of, is_of_the_file
from taskiq_flow.stores.sql.sqlite_session import ApartError, SqliteSession

logger = logging.getLogger("taskiq_flow.stores")

ATTEMPTS: Final = 2
"""How often a batch is tried while the file is locked, or when its connection broke."""

LOOK_AFTER: Final = 100
"""Operations after which the log is looked at: each look takes time from who has an answer now."""


@dataclass(slots=True, eq=False)
class Job:
    """One operation that a ``user`` waits for; without ``work`` the user leaves.

    Without a ``future`` it is done in the thread of whoever asked, who looks at ``is_done``.
    """

    work: Callable[[Session], Any] | None
    writes: bool
    about: str | None
    user: object
    future: asyncio.Future[Any] | None = None
    result: Any = None
    error: BaseException | None = None
    is_done: bool = False


class SqliteFile:
    """A file, and the connection to it that one thread at a time may use.

    A batch goes into one transaction, so a hundred operations cost one commit, and one statement
    for all rows of a table. Should one of them fail in a way that cannot be told apart, all are
    done again, each with a savepoint of its own (which makes SQLite copy every page that is
    changed): a failure undoes nothing of the others.
    """

    def __init__(self, path: str, options: GateOptions, *, synchronous: str) -> None:
        self.options = options
        self._path, self._synchronous = path, synchronous
        self._patience = options.timeout_seconds / ATTEMPTS
        self._connection: sqlite3.Connection | None = None
        self._closing: finalize[..., SqliteFile] | None = None
        self._of_parent: sqlite3.Connection | None = None
        self._checkpoints = Checkpoints(options.shown_url, synchronous=synchronous)
        self._unseen = 0
        self._kept = KeptRuns()
        self._version: int | None = None
        self._committing: list[Job] | None = None

    def do(self, batch: list[Job]) -> None:
        """Run a batch, once more if the file was in use or its connection broke."""
        for tries_left in reversed(range(ATTEMPTS)):
            try:
                self._transact(self._connect(), batch)
            except sqlite3.Error as error:
                self.close()
                if not tries_left:
                    _fail(batch, self._broken(error))
            except Exception as error:
                # Whoever asks later must find this thread alive.
                logger.exception("%d operation(s) on %s failed", len(batch), self.options.shown_url)
                self.close()
                _fail(batch, error)
                return
            else:
                self._unseen += len(batch)
                return

    def look_after_log(self) -> None:
        """Have the log brought into the file, if it is time; when nobody waits for an answer."""
        if self._unseen >= LOOK_AFTER and self._connection is not None:
            self._unseen = 0
            self._checkpoints.look()

    def has_stored(self, batch: list[Job]) -> bool:
        """Whether a batch is in the file, though a signal came before anybody could be told."""
        return (
            self._committing is batch
            and self._connection is not None
            and not self._connection.in_transaction
        )

    def close(self) -> None:
        """Close the connection; the next batch opens another one."""
        if self._closing is not None:
            self._checkpoints.wait(self._patience)
            self._closing()
            self._connection = self._closing = self._version = None

    def leave_to_parent(self) -> None:
        """Forget what is open: this process was forked, and it is its parent's."""
        if self._closing is not None:
            self._closing.detach()
            self._of_parent, self._connection = self._connection, None
            self._closing = self._version = None

    def _transact(self, connection: sqlite3.Connection, batch: list[Job]) -> None:
        self._committing = None  # a commit that failed has stored nothing
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
            self._committing = batch
            connection.execute("COMMIT")
            self._kept.trim()
        except BaseException:
            self._kept.clear()
            if connection.in_transaction:
                self._committing = None
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
            connection = sqlite3.connect(
                self._path,
                timeout=self._patience,
                isolation_level=None,
                check_same_thread=False,  # there is one at a time
                cached_statements=512,
            )
            try:
                _use_write_ahead_log(connection, until=time.monotonic() + self._patience)
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
                self._checkpoints.prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
            # Also when nobody does: a script that adds a task has nothing that it would close.
            self._closing = finalize(self, connection.close)
            self._closing.atexit = False  # a daemon thread may be using it then
        return self._connection

    def _broken(self, error: sqlite3.Error) -> StoreUnavailableError:
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
