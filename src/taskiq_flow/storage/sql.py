"""Values in any database that SQLAlchemy reaches asynchronously."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

from taskiq_flow.codec import DEFAULT_LIMIT
from taskiq_flow.databases.drivers import POSTGRES, driver_of
from taskiq_flow.exceptions import MissingExtraError, StorageUnavailableError, StorageUseError
from taskiq_flow.storage.base import BaseStorageAdapter
from taskiq_flow.storage.entry import StorageEntry
from taskiq_flow.storage.rules import check_ttl, key_bytes, key_text, parse_pattern
from taskiq_flow.storage.written import read_value, write_value

try:
    from sqlalchemy import (
        Column,
        ColumnElement,
        CursorResult,
        Double,
        Executable,
        LargeBinary,
        Row,
        Table,
        Text,
        delete,
        event,
        insert,
        or_,
        select,
        update,
    )
    from sqlalchemy.engine import URL, make_url
    from sqlalchemy.exc import ArgumentError, IntegrityError, InvalidRequestError, SQLAlchemyError
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
    from sqlalchemy.pool import AsyncAdaptedQueuePool

    from taskiq_flow.databases.sql import Database
except ImportError as error:
    raise MissingExtraError("SQLiteStorageAdapter", "sql", "sqlalchemy") from error

READ_TOGETHER = 500
"""Values that one statement reads at the most."""

DEFAULT_URL = "sqlite+aiosqlite:///taskiq-flow.db"


def url_beside(store_url: str) -> str:
    """The URL of a run store as SQLAlchemy takes it: without what only run stores know."""
    url = make_url(store_url)
    if url.get_backend_name() == "sqlite":
        return url.set(query={}).render_as_string(hide_password=False)
    query = {{"sslmode": "ssl"}.get(name, name): value for name, value in url.query.items()}
    # Asyncpg reads the words of ``sslmode`` under a name of its own.
    return url.set(query=query, drivername=POSTGRES).render_as_string(hide_password=False)


class SQLiteStorageAdapter(BaseStorageAdapter):
    """Keeps values in a table of SQLite, PostgreSQL or another database; it creates the table.

    Takes an `AsyncEngine` or a URL; SQLite and PostgreSQL need no driver in it. The clocks of all
    processes decide what has expired, so they should agree. `cleanup` gives room back.
    ``async_mode`` is accepted and has no effect: every access is asynchronous.
    """

    def __init__(
        self,
        db_url: AsyncEngine | str = DEFAULT_URL,
        async_mode: bool = True,  # noqa: ARG002
        *,
        ttl_seconds: float | None = None,
        table: str = "taskiq_flow_storage",
        max_value_bytes: int = DEFAULT_LIMIT,
    ) -> None:
        self.ttl_seconds = check_ttl("ttl_seconds", ttl_seconds)
        self._limit = max_value_bytes
        is_own = isinstance(db_url, str)
        self._engine = _engine(db_url) if isinstance(db_url, str) else db_url
        self._database = Database(self._engine, is_own=is_own)
        # Each statement by itself, which is enough here. A transaction would go over several turns
        # of the event loop, and hold the file while whoever blocks that loop waits for the file.
        self._by_statement = (
            self._engine.execution_options(isolation_level="AUTOCOMMIT")
            if is_own and self._engine.dialect.name == "sqlite"
            else self._engine
        )
        self._values = Table(
            table,
            self._database.metadata,
            # Bytes: they hold any text, and compare as they are, whatever the collation.
            Column("key", LargeBinary(1024), primary_key=True),
            Column("body", Text, nullable=False),
            Column("created_at", Double, nullable=False),
            Column("expires_at", Double, index=True),
        )

    async def get(self, key: str) -> Any | None:
        row = await self._find(key)
        return None if row is None else read_value(row.body.encode())

    async def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        names, found = [key_bytes(key) for key in keys], dict[str, Any]()
        column = self._values.c.key
        async with self._changing() as connection:
            for first in range(0, len(names), READ_TOGETHER):
                some = column.in_(names[first : first + READ_TOGETHER])
                for row in await connection.execute(
                    select(self._values).where(some, self._alive())
                ):
                    found[key_text(bytes(row.key))] = read_value(row.body.encode())
        return found

    async def set(self, key: str, value: Any, ttl_seconds: float | None = None) -> None:
        name = key_bytes(key)
        facts = self._facts(key, value, ttl_seconds)
        changing = update(self._values).where(self._values.c.key == name).values(**facts)
        while True:
            try:
                async with self._changing() as connection:
                    if not await _changed(connection, changing):
                        await connection.execute(insert(self._values).values(key=name, **facts))
                return
            except IntegrityError:
                continue  # another one inserted it in between: this write comes after it

    async def add(self, key: str, value: Any, ttl_seconds: float | None = None) -> bool:
        name = key_bytes(key)
        facts = self._facts(key, value, ttl_seconds)
        columns = self._values.c
        over = columns.expires_at <= facts["created_at"]
        try:
            async with self._changing() as connection:
                await connection.execute(delete(self._values).where(columns.key == name, over))
                await connection.execute(insert(self._values).values(key=name, **facts))
        except IntegrityError:
            return False
        return True

    async def delete(self, key: str) -> bool:
        there = self._there(key_bytes(key))
        async with self._changing() as connection:
            return bool(await _changed(connection, delete(self._values).where(*there)))

    async def exists(self, key: str) -> bool:
        return await self._find(key) is not None

    async def keys(self, pattern: str = "*") -> list[str]:
        wanted, column = parse_pattern(pattern), self._values.c.key
        asked = select(column).where(self._alive())
        begins = wanted.prefix.encode("utf-8", "surrogatepass")
        if begins:
            # No byte of UTF-8 is 255, so the last one can always be one more.
            asked = asked.where(column >= begins, column < begins[:-1] + bytes([begins[-1] + 1]))
        async with self._changing() as connection:
            found = [key_text(bytes(name)) for (name,) in await connection.execute(asked)]
        return sorted(key for key in found if wanted.matches(key))

    async def cleanup(self, ttl_seconds: int = 3600) -> int:  # noqa: ARG002 - see the base
        over = self._values.c.expires_at <= time.time()
        async with self._changing() as connection:
            return await _changed(connection, delete(self._values).where(over))

    async def get_entry(self, key: str) -> StorageEntry | None:
        row = await self._find(key)
        if row is None:
            return None
        over = row.expires_at
        return StorageEntry(
            key,
            read_value(row.body.encode()),
            datetime.fromtimestamp(row.created_at, UTC),
            None if over is None else datetime.fromtimestamp(over, UTC),
        )

    async def replace(self, key: str, expected: Any, value: Any) -> bool:
        there = self._there(key_bytes(key))
        old, new = write_value(key, expected, None), write_value(key, value, self._limit)
        same = self._values.c.body == old.decode()
        changing = update(self._values).where(*there, same).values(body=new.decode())
        async with self._changing() as connection:
            return bool(await _changed(connection, changing))

    async def close(self) -> None:
        await self._database.close()

    def _facts(self, key: str, value: Any, ttl_seconds: float | None) -> dict[str, Any]:
        ttl = check_ttl("ttl_seconds", ttl_seconds) or self.ttl_seconds
        now = time.time()
        return {
            "body": write_value(key, value, self._limit).decode(),
            "created_at": now,
            "expires_at": None if ttl is None else now + ttl,
        }

    async def _find(self, key: str) -> Row[Any] | None:
        asked = select(self._values).where(*self._there(key_bytes(key)))
        async with self._changing() as connection:
            return (await connection.execute(asked)).first()

    def _there(self, name: bytes) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
        return self._values.c.key == name, self._alive()

    def _alive(self) -> ColumnElement[bool]:
        expires_at = self._values.c.expires_at
        return or_(expires_at.is_(None), expires_at > time.time())

    @asynccontextmanager
    async def _changing(self) -> AsyncGenerator[AsyncConnection]:
        """A connection to write with, the table being there."""
        try:
            await self._database.make()
            async with self._by_statement.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError) as error:
            address = self._engine.url.set(query={}).render_as_string(hide_password=True)
            # The first line: the rest is the statement with the user's values in it.
            why = str(error).partition("\n")[0]
            raise StorageUnavailableError(address, why) from error


async def _changed(connection: AsyncConnection, statement: Executable) -> int:
    return cast("CursorResult[Any]", await connection.execute(statement)).rowcount


def _engine(text: str) -> AsyncEngine:
    try:
        url: URL = make_url(text)
        url = url.set(drivername=driver_of(url.drivername))
        if url.get_backend_name() != "sqlite":
            return create_async_engine(url, pool_pre_ping=True)
        # One connection, taken in turns: it is also what keeps a database in memory one.
        engine = create_async_engine(
            url, poolclass=AsyncAdaptedQueuePool, pool_size=1, max_overflow=0
        )
    except (ArgumentError, InvalidRequestError, ValueError) as error:
        # The URL may hold a password: only what is wrong with it is shown.
        rule = (
            f"is no URL of an asynchronous database ({type(error).__name__}); such as {DEFAULT_URL}"
        )
        raise StorageUseError("db_url", "…", rule) from error
    except ModuleNotFoundError as error:
        raise MissingExtraError("SQLiteStorageAdapter", "sql", error.name or "a driver") from error
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Readers beside a writer; a commit survives a killed process, not always a power cut."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
