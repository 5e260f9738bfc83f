"""SQLite: one thread per store writes, and all that waits for it shares one transaction."""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from sqlalchemy.dialects.sqlite.pysqlite import dialect as pysqlite
from sqlalchemy.sql import ClauseElement

from taskiq_flow.exceptions import StoreUnavailableError
from taskiq_flow.stores.base import Held
from taskiq_flow.stores.sql import schema, statements
from taskiq_flow.stores.sql.gate import Gate, GateOptions
from taskiq_flow.stores.sql.rows import to_json
from taskiq_flow.stores.sql.session import (
    Compiler,
    ConflictError,
    Mode,
    ResultT,
    Row,
    Session,
    Target,
    Verb,
    Writes,
)

logger = logging.getLogger("taskiq_flow.stores")

ATTEMPTS: Final = 2
"""How often a batch is tried while the file is locked, or when its connection broke."""

MOST_AT_ONCE: Final = 200
"""Operations that share a transaction at the most, so that the first one is not kept waiting."""

DIALECT: Final = pysqlite()
compile_statement: Final = Compiler(DIALECT)

_FEED: Final = (
    "SELECT event.id, run.run_id, event.seq, event.at, event.body "  # noqa: S608 - our own names
    f"FROM {schema.event.name} AS event JOIN {schema.run.name} AS run ON run.rid = event.rid "
    "WHERE event.id > ? AND event.namespace = ? ORDER BY event.id LIMIT ?"
)


class SqliteSession(Session):
    """An operation inside the transaction that its batch has begun."""

    def __init__(self, connection: sqlite3.Connection, options: GateOptions) -> None:
        super().__init__(DIALECT, options.namespace, options.clock)
        self._connection = connection

    def rows(self, statement: ClauseElement, **values: Any) -> Sequence[Row]:
        return self._run(statement, values).fetchall()

    def execute(self, statement: ClauseElement, **values: Any) -> int:
        return self._run(statement, values).rowcount

    def _run(self, statement: ClauseElement, values: dict[str, Any]) -> sqlite3.Cursor:
        compiled = compile_statement(statement)
        values["namespace"] = self.namespace
        for name, value in values.items():
            if type(value) is list:
                values[name] = to_json(value)
        return self._connection.execute(compiled.sql, compiled.arguments(values))

    def write(self, writes: Writes) -> None:
        try:
            for target, rows in writes.rows.items():
                self._connection.executemany(_text_of(target), rows)
        except sqlite3.IntegrityError as error:
            raise ConflictError from error

    def script(self, definitions: Sequence[str]) -> None:
        for definition in definitions:
            self._connection.execute(definition)

    def has_table(self, name: str) -> bool:
        asked = "SELECT 1 FROM sqlite_master WHERE name = ?"
        return self._connection.execute(asked, (name,)).fetchone() is not None

    def held(self, leases: Sequence[Held]) -> Sequence[Row]:
        found: list[Row] = []
        for lease in leases:
            run_id, step, slot = lease.address
            asked = {"run_id": run_id, "step": step, "slot": slot, "token": lease.token}
            found += self.rows(statements.HELD, **asked)
        return found

    def next_rid(self) -> int:
        asked = f"SELECT coalesce(max(rid), 0) + 1 FROM {schema.run.name}"  # noqa: S608 - our name
        return self._connection.execute(asked).fetchone()[0]

    def lock_name(self, name: str) -> None:
        """Nobody else writes now."""

    def feed_position(self) -> str:
        asked = f"SELECT coalesce(max(id), 0) FROM {schema.event.name}"  # noqa: S608 - our name
        return str(self._connection.execute(asked).fetchone()[0])

    def feed_rows(self, after: str, limit: int) -> tuple[Sequence[Row], str]:
        found = self._connection.execute(_FEED, (int(after), self.namespace, limit)).fetchall()
        rows = [(str(number), *event) for number, *event in found]
        return rows, rows[-1][0] if rows else after

    def facts(self) -> dict[str, Any]:
        level: int = self._pragma("synchronous")
        synchronous = ("OFF", "NORMAL", "FULL", "EXTRA")[level]
        return {
            "store": "sqlite",
            "version": sqlite3.sqlite_version,
            "journal_mode": self._pragma("journal_mode"),
            "synchronous": synchronous,
            "durable": True,
            "survives_power_loss": synchronous in ("FULL", "EXTRA"),
        }

    def _pragma(self, name: str) -> Any:
        return self._connection.execute(f"PRAGMA {name}").fetchone()[0]

    def _server_clock(self) -> float:
        # All users of a file are on one machine, whose clock SQLite would only round.
        return time.time()


@cache
def _text_of(target: Target) -> str:
    """The statement that writes one row of a shape."""
    table, keys, rest = target.table.name, target.keys, target.rest
    found = " AND ".join(f"{key} = ?{number}" for number, key in enumerate(keys, 1))
    changes = ", ".join(f"{name} = ?{number}" for number, name in enumerate(rest, len(keys) + 1))
    if target.verb is Verb.UPDATE:
        return f"UPDATE {table} SET {changes} WHERE {found}"  # noqa: S608 - our own names
    if target.verb is Verb.DELETE:
        return f"DELETE FROM {table} WHERE {found}"  # noqa: S608 - our own names
    columns, marks = ", ".join(target.columns), ", ".join("?" * len(target.columns))
    insert = f"INSERT INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608 - our own names
    if target.verb is Verb.INSERT:
        return insert
    renewed = ", ".join(f"{name} = excluded.{name}" for name in rest)
    return f"{insert} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {renewed}"


@dataclass(slots=True)
class _Job:
    """One operation that waits for the thread; ``work`` is None for the last one."""

    work: Callable[[Session], Any] | None
    writes: bool
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None


class SqliteGate(Gate):
    """Hands operations to a thread, which takes all that wait in one transaction.

    So a hundred coroutines cost one commit. Each has its savepoint: one that fails undoes
    nothing of the others.
    """

    def __init__(self, path: str, options: GateOptions, *, synchronous: str) -> None:
        self.options = options
        self._path, self._synchronous = path, synchronous
        self._patience = options.timeout_seconds / ATTEMPTS
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None

    async def run(self, work: Callable[[Session], ResultT], mode: Mode) -> ResultT:
        self._begin()
        writes = mode in (Mode.WRITE, Mode.STATEMENT)
        return await self._put(work, writes=writes)

    async def close(self) -> None:
        if self._thread is not None:
            await self._put(None, writes=False)
            self._thread = None

    def twin(self) -> SqliteGate:
        return SqliteGate(self._path, self.options, synchronous=self._synchronous)

    def _begin(self) -> None:
        if self._thread is None:
            # A daemon: what nobody was told is done may end with the process.
            self._thread = threading.Thread(
                target=self._serve, name="taskiq-flow-sqlite", daemon=True
            )
            self._thread.start()

    def _put(self, work: Callable[[Session], Any] | None, *, writes: bool) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._jobs.put(_Job(work, writes, future, loop))
        return future

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
        batch = [self._jobs.get()]
        while len(batch) < MOST_AT_ONCE:
            try:
                batch.append(self._jobs.get_nowait())
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
                    for job in batch:
                        job.error = self._unavailable(error)
            else:
                return

    def _transact(self, connection: sqlite3.Connection, batch: list[_Job]) -> None:
        alone = len(batch) == 1
        connection.execute("BEGIN IMMEDIATE" if any(job.writes for job in batch) else "BEGIN")
        try:
            for job in batch:
                self._perform(connection, job, alone=alone)
            if alone and batch[0].error is not None:
                connection.execute("ROLLBACK")
            else:
                connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _perform(self, connection: sqlite3.Connection, job: _Job, *, alone: bool) -> None:
        job.result = job.error = None
        if job.work is None:
            return
        if not alone:
            connection.execute("SAVEPOINT job")
        try:
            job.result = job.work(SqliteSession(connection, self.options))
        except Exception as error:  # it belongs to whoever asked for the work
            if _is_of_the_file(error):
                raise
            job.error = error
        if not alone:
            if job.error is not None:
                connection.execute("ROLLBACK TO job")
            connection.execute("RELEASE job")

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(
                self._path, timeout=self._patience, isolation_level=None, cached_statements=512
            )
            _use_write_ahead_log(self._connection, until=time.monotonic() + self._patience)
            self._connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _unavailable(self, error: sqlite3.Error) -> StoreUnavailableError:
        found = StoreUnavailableError(self.options.shown_url, str(error))
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
