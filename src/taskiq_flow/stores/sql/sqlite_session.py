"""An operation on SQLite, beside others that share its transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from types import NoneType
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

DIALECT: Final = pysqlite()
compile_statement: Final = Compiler(DIALECT)

_RUN_END: Final = len(RUN_LOADED)
_STEP_END: Final = _RUN_END + statements.STEP_WIDTH

_FEED: Final = (
    "SELECT event.id, run.run_id, event.seq, event.at, event.body "  # noqa: S608 - our own names
    f"FROM {schema.event.name} AS event JOIN {schema.run.name} AS run ON run.rid = event.rid "
    "WHERE event.id > ? AND event.namespace = ? ORDER BY event.id LIMIT ?"
)


@dataclass(slots=True)
class Together:
    """What the operations of one transaction have in common.

    Those that are about one run each leave their writes here, which go to the database table by
    table: a statement for a hundred rows costs little more than one for a single row. ``about``
    are their runs. Whoever looks beyond its own run, or comes second to one, has it done first.
    """

    connection: sqlite3.Connection
    kept: KeptRuns
    writes: Writes = field(default_factory=Writes)
    about: set[str] = field(default_factory=set[str])
    last_rid: int | None = None

    def flush(self) -> None:
        """Write what has been left.

        Raises:
            ConflictError: A row to be inserted is there already; whose is not known.
        """
        writes, self.writes = self.writes, Writes()
        self.about.clear()
        write_rows(self.connection, writes)


class SqliteSession(Session):
    """An operation inside a transaction that was begun for it, or several, one after another.

    One ``about`` a run leaves its writes to ``together``; every other one writes at once.
    ``has_written`` says that something of it is in the database already.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        options: GateOptions,
        together: Together | None = None,
    ) -> None:
        super().__init__(DIALECT, options.namespace, options.clock)
        self._connection = connection
        self._together = together
        self._about: str | None = None
        self._left: Writes | None = None
        self.has_written = False

    def begin(self, about: str | None) -> None:
        """Begin the next operation; what a failed one has left is dropped."""
        self._about, self._left, self._now = about, None, None
        self.has_written = False

    def rows(self, statement: ClauseElement, **values: Any) -> Sequence[Row]:
        return self._run(statement, values).fetchall()

    def execute(self, statement: ClauseElement, **values: Any) -> int:
        self.has_written = True
        return self._run(statement, values).rowcount

    def _run(self, statement: ClauseElement, values: dict[str, Any]) -> sqlite3.Cursor:
        compiled = compile_statement(statement)
        values["namespace"] = self.namespace
        for name, value in values.items():
            if type(value) is list:
                values[name] = to_json(value)
        return self._connection.execute(compiled.sql, compiled.arguments(values))

    def write(self, writes: Writes) -> None:
        if self._together is not None and self._about is not None:
            if self._left is None:
                self._left = writes
            else:
                self._left.include(writes)
        else:
            self.has_written = True
            write_rows(self._connection, writes)

    def leave(self) -> None:
        """Leave the writes of an operation that has succeeded to be done with the others'."""
        if self._together is not None and self._about is not None:
            self._together.about.add(self._about)
            if self._left is not None:
                self._together.writes.include(self._left)
                self._left = None

    def catch_up(self) -> None:
        if self._together is not None:
            self._together.flush()

    def kept(self, run_id: str) -> LoadedRun | None:
        together = self._together
        return together.kept.get(run_id) if together is not None and self._about == run_id else None

    def keep(self, run: LoadedRun) -> None:
        if self._about != run.run_id:
            self.forget(run.run_id)
        elif self._together is not None:
            self._together.kept.put(run)

    def forget(self, run_id: str) -> None:
        if self._together is not None:
            self._together.kept.forget(run_id)

    def place(self, run_id: str, at: tuple[int, int]) -> Place | None:
        row = self.row(statements.RUN_AND_PLACE, run_id=run_id, step=at[0], slot=at[1])
        if row is None:
            return None
        return Place(row[:_RUN_END], row[_RUN_END:_STEP_END], row[_STEP_END:])

    def script(self, definitions: Sequence[str]) -> None:
        self.has_written = True
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
        together = self._together
        if together is not None and together.last_rid is not None:
            rid = together.last_rid + 1  # those before may not be written yet
        else:
            asked = f"SELECT coalesce(max(rid), 0) + 1 FROM {schema.run.name}"  # noqa: S608 - ours
            rid = self._connection.execute(asked).fetchone()[0]
        if together is not None:
            together.last_rid = rid
        return rid

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
    """Write rows, those of one shape with one statement.

    Raises:
        ConflictError: A row to be inserted is there already.
    """
    try:
        for target, rows in writes.rows.items():
            for kinds, alike in groupby(rows, _kinds):
                text, told = _shape_of(target, kinds)
                connection.executemany(text, map(told, alike))
    except sqlite3.IntegrityError as error:
        raise ConflictError from error


def _kinds(row: tuple[Any, ...]) -> tuple[type, ...]:
    return tuple(map(type, row))


@lru_cache(maxsize=1024)
def _shape_of(
    target: Target, kinds: tuple[type, ...]
) -> tuple[str, Callable[[tuple[Any, ...]], tuple[Any, ...]]]:
    """The statement that writes one row of a shape, and what it is told of the row.

    Nulls are part of the text: to be told of one takes the driver five times as long as a number.
    """
    given = [at for at, kind in enumerate(kinds) if kind is not NoneType]
    numbers = {at: f"?{number}" for number, at in enumerate(given, 1)}
    text = _text_of(target, [numbers.get(at, "NULL") for at in range(len(kinds))])
    return text, itemgetter(*given) if len(given) > 1 else lambda row: (row[given[0]],)


def _text_of(target: Target, marks: Sequence[str]) -> str:
    table, keys, rest = target.table.name, target.keys, target.rest
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
