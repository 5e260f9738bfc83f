"""Operations on SQLite that share a transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, Final

from sqlalchemy.dialects.sqlite.pysqlite import dialect as pysqlite
from sqlalchemy.sql import ClauseElement

from taskiq_flow.stores.base import Held
from taskiq_flow.stores.sql import schema, statements
from taskiq_flow.stores.sql.gate import GateOptions
from taskiq_flow.stores.sql.kept import KeptRuns
from taskiq_flow.stores.sql.loaded import LoadedRun
from taskiq_flow.stores.sql.rows import RUN_LOADED, to_json
from taskiq_flow.stores.sql.session import (
    Compiler,
    ConflictError,
    Place,
    Row,
    Session,
    Target,
    Verb,
    Writes,
)
from taskiq_flow.stores.sql.sqlite_faults import is_of_the_file

DIALECT: Final = pysqlite()
compile_statement: Final = Compiler(DIALECT)

_RUN_END: Final = len(RUN_LOADED)
_STEP_END: Final = _RUN_END + statements.STEP_WIDTH

_FEED: Final = (
    "SELECT event.id, run.run_id, event.seq, event.at, event.body "  # noqa: S608 - our own names
    f"FROM {schema.event.name} AS event JOIN {schema.run.name} AS run ON run.rid = event.rid "
    "WHERE event.id > ? AND event.namespace = ? ORDER BY event.id LIMIT ?"
)


class ApartError(Exception):
    """Operations are to be done again, each by itself: one has failed, and it is not known which,
    or what it has written cannot be told from what the others wrote."""


class SqliteSession(Session):
    """The operations of one transaction, one after another.

    Those that are ``about`` one run each leave their writes to the end, when they go to the
    database table by table: a statement for a hundred rows costs little more than one for a single
    row. Whoever looks beyond its own run, or comes second to one, has it done first.
    """

    def __init__(
        self, connection: sqlite3.Connection, options: GateOptions, kept: KeptRuns
    ) -> None:
        super().__init__(DIALECT, options.namespace, options.clock)
        self._connection, self._kept = connection, kept
        self._about: str | None = None
        self._left: set[str] = set()  # the runs that something is to be written of
        # Of the operation: how many rows were left before it, and whether it has written more.
        self._before, self._has_written = 0, False
        self._last_rid: int | None = None

    def begin(self, about: str | None = None) -> None:
        """Begin the next operation."""
        if about is None or about in self._left:
            self.flush()
        self._about, self._now = about, None
        self._before, self._has_written = self._count(), False

    def end(self) -> None:
        """End an operation that has succeeded."""
        if self._about is None:
            self.write()
        else:
            self._left.add(self._about)

    def abandon(self) -> None:
        """End an operation that has failed.

        Raises:
            ApartError: Something of it is written, or left to be.
        """
        if self._about is None or self._has_written or self._count() != self._before:
            raise ApartError
        self.forget(self._about)

    def flush(self) -> None:
        """Write what has been left.

        Raises:
            ApartError: Something of it cannot be written.
        """
        try:
            write_rows(self._connection, self.writes)
        except Exception as error:  # a row that is there already, a value that is no text
            if self._about is None or is_of_the_file(error):
                raise
            raise ApartError from error
        self.writes.clear()
        self._left.clear()

    def rows(self, statement: ClauseElement, **values: Any) -> Sequence[Row]:
        return self._run(statement, values).fetchall()

    def execute(self, statement: ClauseElement, **values: Any) -> int:
        self._has_written = True
        return self._run(statement, values).rowcount

    def _run(self, statement: ClauseElement, values: dict[str, Any]) -> sqlite3.Cursor:
        compiled = compile_statement(statement)
        values["namespace"] = self.namespace
        for name, value in values.items():
            if type(value) is list:
                values[name] = to_json(value)
        return self._connection.execute(compiled.sql, compiled.arguments(values))

    def write(self) -> None:
        if self._about is None:
            self._has_written = True
            write_rows(self._connection, self.writes)
            self.writes.clear()

    def catch_up(self) -> None:
        self._has_written |= self._count() != self._before
        self.flush()
        self._before = 0

    def kept(self, run_id: str) -> LoadedRun | None:
        return self._kept.get(run_id) if self._about == run_id else None

    def keep(self, run: LoadedRun) -> None:
        if self._about == run.run_id:
            self._kept[run.run_id] = run
        else:
            self.forget(run.run_id)

    def forget(self, run_id: str) -> None:
        self._kept.pop(run_id, None)

    def _count(self) -> int:
        return sum(map(len, self.writes.values()))

    def place(self, run_id: str, at: tuple[int, int]) -> Place | None:
        row = self.row(statements.RUN_AND_PLACE, run_id=run_id, step=at[0], slot=at[1])
        if row is None:
            return None
        return Place(row[:_RUN_END], row[_RUN_END:_STEP_END], row[_STEP_END:])

    def script(self, definitions: Sequence[str]) -> None:
        self._has_written = True
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
        if self._last_rid is not None:
            self._last_rid += 1  # those before may not be written yet
        else:
            asked = f"SELECT coalesce(max(rid), 0) + 1 FROM {schema.run.name}"  # noqa: S608 - ours
            self._last_rid = int(self._connection.execute(asked).fetchone()[0])
        return self._last_rid

    def lock_name(self, name: str) -> None:  # noqa: ARG002 - there is one writer
        """Nobody else writes now, but others may have before us in this transaction."""
        self.catch_up()

    def feed_position(self) -> str:
        asked = f"SELECT coalesce(max(id), 0) FROM {schema.event.name}"  # noqa: S608 - our own name
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


def write_rows(connection: sqlite3.Connection, writes: Writes) -> None:
    """Write rows, those of one table and kind together.

    Raises:
        ConflictError: A row to be inserted is there already.
    """
    try:
        for target, rows in writes.items():
            if rows:
                columns = [*zip(*rows, strict=True)]
                given = tuple([at for at in _order_of(target) if not _is_empty(columns[at])])
                told = zip(*[columns[at] for at in given], strict=True)
                connection.executemany(_text_of(target, given), told)
    except sqlite3.IntegrityError as error:
        raise ConflictError from error


def _is_empty(column: tuple[Any, ...]) -> bool:
    """Whether a column is null in all rows; then that is part of the statement's text.

    To be told of a null takes the driver five times as long as a number.
    """
    return column[0] is None and column.count(None) == len(column)


@cache
def _order_of(target: Target) -> tuple[int, ...]:
    """The columns of a target as they come in the text: an update names its keys last."""
    columns, keys = range(len(target.columns)), len(target.keys)
    # Early 3.12 warns of numbered marks.
    return (*columns[keys:], *columns[:keys]) if target.verb is Verb.UPDATE else (*columns,)


@lru_cache(maxsize=1024)
def _text_of(target: Target, given: tuple[int, ...]) -> str:
    """The statement that writes a row, of which these columns are given, in their order."""
    table, keys, rest = target.table.name, target.keys, target.rest
    marks = ["?" if at in given else "NULL" for at in range(len(target.columns))]
    told = [f"{name} = {mark}" for name, mark in zip(target.columns, marks, strict=True)]
    found, changes = " AND ".join(told[: len(keys)]), ", ".join(told[len(keys) :])
    if target.verb is Verb.UPDATE:
        return f"UPDATE {table} SET {changes} WHERE {found}"  # noqa: S608 - our own names
    if target.verb is Verb.DELETE:
        return f"DELETE FROM {table} WHERE {found}"  # noqa: S608 - our own names
    columns = ", ".join(target.columns)
    insert = f"INSERT INTO {table} ({columns}) VALUES ({', '.join(marks)})"  # noqa: S608 - ours
    if target.verb is Verb.INSERT:
        return insert
    renewed = ", ".join(f"{name} = excluded.{name}" for name in rest)
    return f"{insert} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {renewed}"
