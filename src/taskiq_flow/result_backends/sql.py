"""A result backend in SQLite or PostgreSQL."""

from __future__ import annotations

import hashlib
import time
from typing import Any, TypeVar

from taskiq_flow.exceptions import MissingExtraError, ResultOptionError
from taskiq_flow.result_backends.stored import Kind, StoredResultBackend

try:
    from sqlalchemy import (
        Column,
        Double,
        LargeBinary,
        Table,
        and_,
        delete,
        or_,
        select,
    )
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.ext.asyncio import AsyncEngine

    from taskiq_flow.databases.sql import Database
except ImportError as error:
    raise MissingExtraError("SQLResultBackend", "sql", "sqlalchemy") from error

T = TypeVar("T")

INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

LONGEST_KEY = 500
"""Bytes of an id that are kept as they are; PostgreSQL indexes at most 2,700."""

SWEEP_SECONDS = 600.0
"""So often a process that writes removes what has expired."""


class SQLResultBackend(StoredResultBackend[T]):
    """Keeps results in one table, which it makes; other options as of `StoredResultBackend`.

    Takes a URL, which needs no driver in it, or an `AsyncEngine` that is left open.

    Raises:
        ResultOptionError: The database is neither SQLite nor PostgreSQL.
    """

    def __init__(
        self, engine: AsyncEngine | str, *, table: str = "taskiq_flow_results", **options: Any
    ):
        super().__init__(**options)
        self._database = Database(engine)
        self._engine = self._database.engine
        dialect = self._engine.dialect.name
        if dialect not in INSERTS:
            rule = "is no database that results can be kept in: use SQLite or PostgreSQL"
            raise ResultOptionError("engine", dialect, rule)
        self._insert = INSERTS[dialect]
        self._table = Table(
            table,
            self._database.metadata,
            Column("task_id", LargeBinary, primary_key=True),
            Column("kind", LargeBinary, primary_key=True),
            Column("body", LargeBinary, nullable=False),
            Column("expires_at", Double, index=True),
        )
        self._swept_at = 0.0

    async def startup(self) -> None:
        await self._database.make()

    async def shutdown(self) -> None:
        await self._database.close()

    async def delete_result(self, task_id: str) -> None:
        await self._database.make()
        async with self._engine.begin() as connection:
            known = self._table.c.task_id == _key(task_id)
            await connection.execute(delete(self._table).where(known))

    async def _write(self, kind: Kind, task_id: str, data: bytes) -> None:
        await self._database.make()
        now = time.time()
        facts = {
            "body": data,
            "expires_at": None if self.ttl_seconds is None else now + self.ttl_seconds,
        }
        keys = [self._table.c.task_id, self._table.c.kind]
        new = self._insert(self._table).values(task_id=_key(task_id), kind=kind.encode(), **facts)
        async with self._engine.begin() as connection:
            await connection.execute(new.on_conflict_do_update(index_elements=keys, set_=facts))
            if now - self._swept_at > SWEEP_SECONDS:
                self._swept_at = now
                await connection.execute(delete(self._table).where(self._table.c.expires_at <= now))

    async def _read(self, kind: Kind, task_id: str) -> bytes | None:
        return await self._one(kind, task_id, self._table.c.body)

    async def _has_result(self, task_id: str) -> bool:
        return await self._one(Kind.RESULT, task_id, self._table.c.kind) is not None

    async def _one(self, kind: Kind, task_id: str, column: Column[Any]) -> bytes | None:
        await self._database.make()
        known = self._table.c
        asked = select(column).where(
            and_(
                known.task_id == _key(task_id),
                known.kind == kind.encode(),
                or_(known.expires_at.is_(None), known.expires_at > time.time()),
            )
        )
        async with self._engine.connect() as connection:
            row = (await connection.execute(asked)).first()
        return None if row is None else bytes(row[0])


def _key(task_id: str) -> bytes:
    """An id as bytes that fit an index; text of a database takes no NUL and no lone surrogate."""
    data = task_id.encode("utf-8", "surrogatepass")
    if len(data) > LONGEST_KEY:
        return b"#" + hashlib.sha256(data).digest()
    return b"=" + data
