"""PostgreSQL: an operation is a few round trips on a connection of its own."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.sql import ClauseElement

from taskiq_flow.exceptions import MissingExtraError, StoreUnavailableError
from taskiq_flow.stores.base import Held
from taskiq_flow.stores.sql import schema, statements
from taskiq_flow.stores.sql.gate import Gate, GateOptions
from taskiq_flow.stores.sql.session import (
    Compiler,
    ConflictError,
    Mode,
    ResultT,
    Row,
    Session,
    Target,
    Verb,
)

try:
    import asyncpg  # pyright: ignore[reportMissingTypeStubs]
    from sqlalchemy.util import await_only, greenlet_spawn
except ImportError as error:
    raise MissingExtraError("The PostgreSQL run store", "sql", "asyncpg") from error

T = TypeVar("T")

MOST_CONNECTIONS: Final = 10
CONNECT_SECONDS: Final = 5.0
"""How long a server may take to accept a connection."""

PLANS_SECONDS: Final = 60.0
"""So long a connection keeps its plans, which were made for tables of the size that they had then.

The server has them made anew when it has looked at a table, but nobody knows when that will be.
"""

TRIES: Final = 4
"""How often an operation is tried that a deadlock, or a lost connection, has undone."""

DIALECT: Final = asyncpg_dialect()
compile_statement: Final = Compiler(DIALECT)

SESSION: Final = (
    # A client that vanished in the middle must not keep its locks, nor one that was cancelled while
    # it waited for another: that the line is cut a server sees by itself only since version 14.
    "SET idle_in_transaction_session_timeout = '15s'; "
    "SELECT set_config(name, '500ms', false) FROM pg_settings "
    "WHERE name = 'client_connection_check_interval'; "
    # Every statement finds few rows by their keys. So one plan does for all values, and reading a
    # whole table is never it, however small the table was when the plan was made.
    "SET plan_cache_mode = force_generic_plan; "
    # Nor is sorting all that an index finds, where the index has it in order: it may be very much.
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; "
    "SET enable_bitmapscan = off; SET jit = off; "
    # For few rows, to start processes that share them takes longer than to read them.
    "SET max_parallel_workers_per_gather = 0"
)

_BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"

_AGAIN: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_LOST: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    ConnectionError,
)
"""What is raised when the connection goes, because the server was restarted or told it to."""

# The first number is looked for among the new transactions alone: `+ 0` and the two steps leave one
# index for each. To walk the numbers from the beginning would be to read all events there are.
FEED: Final = f"""
SELECT event.id, run.run_id, event.seq, event.at, event.body
FROM {schema.event.name} AS event JOIN {schema.run.name} AS run ON run.rid = event.rid
WHERE event.id > CASE WHEN $4::bigint > 0 THEN $4 ELSE (
    SELECT min(fresh.id + 0) - 1 FROM {schema.event.name} AS fresh
    WHERE fresh.xid >= pg_snapshot_xmin($1::text::pg_snapshot)
  ) END
  AND NOT pg_visible_in_snapshot(event.xid, $1::text::pg_snapshot)
  AND pg_visible_in_snapshot(event.xid, $2::text::pg_snapshot)
  AND event.namespace = $3
ORDER BY event.id LIMIT $5
"""  # noqa: S608 - our own names

_FACTS: Final = """
SELECT current_setting('server_version'), current_setting('synchronous_commit'),
       current_setting('fsync'), pg_is_in_recovery()
"""


class Connection(Protocol):
    """What is used of asyncpg's connection, which does not tell its types."""

    async def fetch(self, query: str, *arguments: Any) -> list[Any]: ...

    async def execute(self, query: str, *arguments: Any) -> str: ...

    async def close(self, *, timeout: float) -> None: ...  # noqa: ASYNC109 - asyncpg's name

    def terminate(self) -> None: ...

    def is_closed(self) -> bool: ...

    def is_in_transaction(self) -> bool: ...


_connect: Final[Callable[..., Awaitable[Connection]]] = vars(asyncpg)["connect"]


class PostgresSession(Session):
    """An operation on its connection; it runs in a greenlet, so that plain calls may wait."""

    def __init__(self, connection: Connection, options: GateOptions) -> None:
        super().__init__(DIALECT, options.namespace, options.clock)
        self._connection = connection

    def rows(self, statement: ClauseElement, **values: Any) -> Sequence[Row]:
        compiled = compile_statement(statement)
        values["namespace"] = self.namespace
        return self._fetch(compiled.sql, *compiled.arguments(values))

    def execute(self, statement: ClauseElement, **values: Any) -> int:
        compiled = compile_statement(statement)
        values["namespace"] = self.namespace
        tag = _wait(self._connection.execute(compiled.sql, *compiled.arguments(values)))
        return int(tag.rpartition(" ")[2])

    def write(self) -> None:
        targets = tuple([target for target, rows in self.writes.items() if rows])
        if not targets:
            return
        columns = [column for rows in self.writes.values() for column in zip(*rows, strict=True)]
        try:
            self._fetch(_text_of(targets), *columns)
        except asyncpg.UniqueViolationError as error:
            raise ConflictError from error
        self.writes.clear()

    def stored(self, text: str) -> str:
        return _to_postgres(text)

    def script(self, definitions: Sequence[str]) -> None:
        _wait(self._connection.execute(";\n".join(definitions)))

    def has_table(self, name: str) -> bool:
        # Not `to_regclass`: what it did not find, it does not look for again in this transaction.
        asked = "SELECT 1 FROM pg_class WHERE relname = $1::text AND pg_table_is_visible(oid)"
        return len(self._fetch(asked, name)) > 0

    def held(self, leases: Sequence[Held]) -> Sequence[Row]:
        return self.rows(
            statements.HELD_TOGETHER,
            run_ids=[lease.address.run_id for lease in leases],
            steps=[lease.address.step for lease in leases],
            slots=[lease.address.slot for lease in leases],
            tokens=[lease.token for lease in leases],
        )

    def next_rid(self) -> int:
        asked = "SELECT nextval($1::text::regclass), extract(epoch FROM clock_timestamp())::float8"
        rid, now = self._fetch(asked, schema.run_ids.name)[0]
        self.note_now(now)
        return rid

    def lock_name(self, name: str) -> None:
        asked = "SELECT pg_advisory_xact_lock(hashtextextended($1::text, 0))"
        self._fetch(asked, f"{schema.PREFIX}{self.namespace}:{name}")

    def feed_position(self) -> str:
        return self._fetch("SELECT pg_current_snapshot()::text")[0][0]

    def feed_rows(self, after: str, limit: int) -> tuple[Sequence[Row], str]:
        """Read what one snapshot sees and an earlier one did not, in order of its numbers.

        The number of an event is given while its run is locked, so those of a run are in order;
        but a transaction may commit behind one with higher numbers, so they are no position.
        """
        seen, seeing, last = after.split("/") if "/" in after else (after, self.feed_position(), 0)
        arguments = (seen, seeing, self.namespace, int(last), limit)
        found = self._fetch(FEED, *arguments)
        rows = [(f"{seen}/{seeing}/{number}", *event) for number, *event in found]
        return rows, rows[-1][0] if len(rows) == limit else seeing

    def facts(self) -> dict[str, Any]:
        version, synchronous_commit, fsync, is_standby = self._fetch(_FACTS)[0]
        durable = fsync == "on" and synchronous_commit != "off"
        return {
            "store": "postgresql",
            "version": version,
            "synchronous_commit": synchronous_commit,
            "fsync": fsync,
            "standby": is_standby,
            "durable": durable,
            "survives_power_loss": durable,
        }

    def _server_clock(self) -> float:
        return self._fetch("SELECT extract(epoch FROM clock_timestamp())::float8")[0][0]

    def _fetch(self, sql: str, *arguments: Any) -> Sequence[Row]:
        return _wait(self._connection.fetch(sql, *map(_to_postgres, arguments)))


def _wait(awaitable: Awaitable[T]) -> T:
    return await_only(awaitable)


def _to_postgres(value: Any) -> Any:
    """Replace the one character that its text cannot hold; a reason or a name may have it."""
    if type(value) is str:
        return value.replace("\0", "\ufffd") if "\0" in value else value
    return [_to_postgres(part) for part in value] if type(value) in (list, tuple) else value


_TYPES: Final = {
    "BIGINT": "bigint",
    "INTEGER": "integer",
    "DOUBLE PRECISION": "float8",
    "TEXT": "text",
    'TEXT COLLATE "C"': "text",
    "BYTEA": "bytea",
}


@cache
def _text_of(targets: tuple[Target, ...]) -> str:
    """One statement that writes rows of all these shapes, each column an array."""
    parts: list[str] = []
    number = 0
    for target in targets:
        arrays: list[str] = []
        for name in target.columns:
            number += 1
            kind = _TYPES[str(target.table.c[name].type.compile(DIALECT))]
            arrays.append(f"${number}::{kind}[]")
        parts.append(
            _part_of(target, f"unnest({', '.join(arrays)}) AS d({_names(target.columns)})")
        )
    named = ", ".join(f"w{index} AS ({part})" for index, part in enumerate(parts))
    return f"WITH {named} SELECT 1"


def _part_of(target: Target, rows: str) -> str:
    table, keys, rest = target.table.name, target.keys, target.rest
    found = " AND ".join(f't."{key}" = d."{key}"' for key in keys)
    if target.verb is Verb.UPDATE:
        changes = ", ".join(f'"{name}" = d."{name}"' for name in rest)
        return f"UPDATE {table} AS t SET {changes} FROM {rows} WHERE {found}"  # noqa: S608
    if target.verb is Verb.DELETE:
        return f"DELETE FROM {table} AS t USING {rows} WHERE {found}"  # noqa: S608 - our own names
    insert = f"INSERT INTO {table} ({_names(target.columns)}) SELECT * FROM {rows}"  # noqa: S608
    if target.verb is Verb.INSERT:
        return insert
    renewed = ", ".join(f'"{name}" = excluded."{name}"' for name in rest)
    return f"{insert} ON CONFLICT ({_names(keys)}) DO UPDATE SET {renewed}"


def _names(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


class PostgresGate(Gate):
    """Keeps a few connections and gives each operation one of them."""

    def __init__(self, dsn: str, options: GateOptions) -> None:
        self.options = options
        self._dsn = dsn
        self._idle: list[Connection] = []
        self._planned_at: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()
        self._room = asyncio.Semaphore(MOST_CONNECTIONS)

    async def run(
        self,
        work: Callable[[Session], ResultT],
        mode: Mode,
        about: str | None = None,  # noqa: ARG002 - each operation has a transaction of its own
    ) -> ResultT:
        async with self._room:
            return await self._run(work, mode)

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            try:
                await connection.close(timeout=CONNECT_SECONDS)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                connection.terminate()

    def twin(self) -> PostgresGate:
        return PostgresGate(self._dsn, self.options)

    async def _run(self, work: Callable[[Session], ResultT], mode: Mode) -> ResultT:
        tries_left, is_asked = TRIES, False
        while True:
            tries_left -= 1
            connection = await self._connect(is_asked=is_asked)
            try:
                if time.monotonic() - self._planned_at[connection] > PLANS_SECONDS:
                    await connection.execute("DISCARD PLANS")
                    self._planned_at[connection] = time.monotonic()
                result = await greenlet_spawn(_perform, connection, self.options, work, mode)
            except (*_AGAIN, *_LOST) as error:
                self._put_back(connection)
                is_asked = is_asked or isinstance(error, _LOST)
                if not tries_left:
                    raise self._unavailable(error, is_asked=is_asked) from error
                # Twice the same deadlock is less likely when they do not begin together.
                await asyncio.sleep(random.uniform(0, 0.02))  # noqa: S311 - no secret
            except TimeoutError as error:
                connection.terminate()
                why = f"no answer for {self.options.timeout_seconds:g} s"
                raise StoreUnavailableError(self.options.shown_url, why, is_asked=True) from error
            except asyncpg.PostgresError as error:
                self._put_back(connection)
                raise self._unavailable(error) from error
            except Exception:
                self._put_back(connection)
                raise
            except BaseException:
                # Cancelled in the middle: where the connection stands is not known.
                connection.terminate()
                raise
            else:
                self._put_back(connection)
                return result

    async def _connect(self, *, is_asked: bool) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        try:
            connection = await _connect(
                self._dsn,
                timeout=CONNECT_SECONDS,
                command_timeout=self.options.timeout_seconds,
                statement_cache_size=500,
            )
            try:
                await connection.execute(SESSION)
            except BaseException:
                connection.terminate()  # also when the caller was cancelled
                raise
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise self._unavailable(error, is_asked=is_asked) from error
        self._planned_at[connection] = time.monotonic()
        return connection

    def _put_back(self, connection: Connection) -> None:
        if connection.is_closed() or connection.is_in_transaction():
            connection.terminate()
        else:
            self._idle.append(connection)

    def _unavailable(
        self, error: BaseException, *, is_asked: bool = False
    ) -> StoreUnavailableError:
        why = str(error) or type(error).__name__
        return StoreUnavailableError(self.options.shown_url, why, is_asked=is_asked)


def _perform(
    connection: Connection,
    options: GateOptions,
    work: Callable[[Session], ResultT],
    mode: Mode,
) -> ResultT:
    session = PostgresSession(connection, options)
    if mode is not Mode.WRITE:
        result = work(session)
        session.write()
        return result
    _wait(connection.execute(_BEGIN))
    try:
        result = work(session)
        session.write()
    except Exception:
        _wait(connection.execute("ROLLBACK"))
        raise
    _wait(connection.execute("COMMIT"))
    return result
