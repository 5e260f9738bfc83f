"""A tracking storage in any database that SQLAlchemy reaches asynchronously."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

from taskiq_flow.exceptions import MissingExtraError
from taskiq_flow.stores.paging import checked_limit
from taskiq_flow.tracking.models import PipelineStatus, StatusPage
from taskiq_flow.tracking.query import (
    HistoryQuery,
    checked_days,
    cursor_after,
    place,
    place_of,
    record_key,
)
from taskiq_flow.tracking.storage import TrackingStorage
from taskiq_flow.tracking.stored import dump_status, load_status
from taskiq_flow.tracking.view import RunView

try:
    from sqlalchemy import (
        Column,
        Double,
        Index,
        Select,
        Table,
        Text,
        and_,
        delete,
        insert,
        or_,
        select,
        update,
    )
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from taskiq_flow.databases.sql import Database
except ImportError as error:
    raise MissingExtraError("SQLPipelineStorage", "sql", "sqlalchemy") from error


class SQLPipelineStorage(TrackingStorage):
    """Mirrors records of runs to two tables, which it creates.

    Takes an `AsyncEngine` or a URL; SQLite and PostgreSQL need no driver in it. Records stay until
    `cleanup_older_than`.
    """

    def __init__(self, engine: AsyncEngine | str, *, table: str = "taskiq_flow_tracking") -> None:
        self._database = Database(engine)
        self._engine, metadata = self._database.engine, self._database.metadata
        self._records = Table(
            table,
            metadata,
            Column("run_key", Text, primary_key=True),
            Column("pipeline_id", Text, nullable=False),
            Column("status", Text, nullable=False),
            Column("kind", Text, nullable=False),
            Column("name", Text, nullable=False),
            Column("created_at", Double, nullable=False),
            Column("ended_at", Double),
            Column("body", Text, nullable=False),
            Index(f"{table}_by_age", "created_at", "run_key"),
            Index(f"{table}_by_status", "status", "created_at"),
            Index(f"{table}_by_id", "pipeline_id"),
        )
        self._tags = Table(
            f"{table}_tag",
            metadata,
            Column("tag", Text, primary_key=True),
            Column("run_key", Text, primary_key=True),
        )

    async def save_status(self, status: PipelineStatus) -> None:
        await self._database.make()
        key = _plain(record_key(status))
        records = self._records
        ended = status.completed_at
        row = {
            "pipeline_id": _plain(status.pipeline_id),
            "status": status.status,
            "kind": _plain(status.pipeline_type),
            "name": _plain(status.name),
            "created_at": place(status)[0],
            "ended_at": None if ended is None else ended.timestamp(),
            "body": json.dumps(dump_status(status)),
        }
        known = records.c.run_key == key
        # What was read before the end and comes late does not replace it.
        replaceable = known if status.is_finished() else and_(known, records.c.ended_at.is_(None))
        async with self._engine.begin() as connection:
            changed = await connection.execute(update(records).where(replaceable).values(**row))
            if changed.rowcount:
                return
            if (await connection.execute(select(records.c.run_key).where(known))).first() is None:
                await connection.execute(insert(records).values(run_key=key, **row))
                for tag in set(status.tags):
                    await connection.execute(
                        insert(self._tags).values(tag=_plain(tag), run_key=key)
                    )

    async def get_status(self, pipeline_id: str) -> PipelineStatus | None:
        await self._database.make()
        records, name = self._records, _plain(pipeline_id)
        newest = (records.c.created_at.desc(), records.c.run_key.desc())
        by_key = select(records.c.body).where(records.c.run_key == name)
        by_name = (
            select(records.c.body).where(records.c.pipeline_id == name).order_by(*newest).limit(1)
        )
        async with self._engine.connect() as connection:
            row = (await connection.execute(by_key)).first()
            row = row or (await connection.execute(by_name)).first()
        return None if row is None else load_status(json.loads(row[0]))

    async def list_pipelines(
        self, status_filter: str | None = None, limit: int = 100
    ) -> list[PipelineStatus]:
        return await self.get_history(HistoryQuery.of(status=status_filter), limit=limit)

    async def get_history(
        self, query: HistoryQuery, *, limit: int = 100, cursor: str | None = None
    ) -> StatusPage:
        limit = checked_limit(limit)
        await self._database.make()
        asked = self._where(query, cursor).limit(limit + 1)
        async with self._engine.connect() as connection:
            rows = (await connection.execute(asked)).all()
        found = [load_status(json.loads(body)) for (body,) in rows[:limit]]
        return StatusPage(found, cursor_after(found[-1]) if len(rows) > limit else None)

    async def delete_pipeline(self, pipeline_id: str) -> bool:
        status = await self.get_status(pipeline_id)
        if status is None:
            return False
        async with self._engine.begin() as connection:
            await self._remove(connection, [_plain(record_key(status))])
        return True

    async def cleanup_older_than(self, days: float) -> int:
        await self._database.make()
        before = time.time() - checked_days(days) * 24 * 3600
        records = self._records
        removed = 0
        while True:
            old = select(records.c.run_key).where(records.c.ended_at < before).limit(1000)
            async with self._engine.begin() as connection:
                keys = [key for (key,) in (await connection.execute(old)).all()]
                await self._remove(connection, keys)
            removed += len(keys)
            if len(keys) < 1000:
                return removed

    async def close(self) -> None:
        await self._database.close()

    def _where(self, query: HistoryQuery, cursor: str | None) -> Select[Any]:
        records = self._records.c
        asked = select(records.body).order_by(records.created_at.desc(), records.run_key.desc())
        wanted = {
            records.status: None if query.status is None else query.status.value,
            records.kind: query.pipeline_type,
            records.name: query.name,
        }
        for column, value in wanted.items():
            if value is not None:
                asked = asked.where(column == _plain(value))
        if query.since is not None:
            asked = asked.where(records.created_at >= query.since.timestamp())
        if query.until is not None:
            asked = asked.where(records.created_at < query.until.timestamp())
        if query.tag is not None:
            tagged = select(self._tags.c.run_key).where(self._tags.c.tag == _plain(query.tag))
            asked = asked.where(records.run_key.in_(tagged))
        if cursor is not None:
            at, key = place_of(cursor)
            older = and_(records.created_at == at, records.run_key < _plain(key))
            asked = asked.where(or_(records.created_at < at, older))
        return asked

    async def _remove(self, connection: AsyncConnection, keys: Iterable[str]) -> None:
        for key in keys:
            await connection.execute(delete(self._tags).where(self._tags.c.run_key == key))
            await connection.execute(delete(self._records).where(self._records.c.run_key == key))


class SQLRunView(RunView, SQLPipelineStorage):
    """The runs of a store in SQLite or PostgreSQL."""


def _plain(text: str) -> str:
    """Text that every database takes: without NUL and lone surrogates, each text another."""
    return json.dumps(text)[1:-1]
