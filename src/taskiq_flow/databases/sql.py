"""Tables behind an engine of SQLAlchemy: made when they are first needed, by whoever is first."""

from __future__ import annotations

import asyncio

from sqlalchemy import MetaData
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from taskiq_flow.databases.drivers import with_driver


class Database:
    """An engine, and the tables of ``metadata`` in it.

    An engine that is given is left open; one that is made of a URL, which needs no driver in it
    for SQLite and PostgreSQL, is disposed of by `close`, and so is a given one that ``is_own``.
    """

    def __init__(self, engine: AsyncEngine | str, *, is_own: bool = False) -> None:
        if isinstance(engine, str):
            engine, is_own = create_async_engine(with_driver(engine)), True
        self.engine, self._is_own = engine, is_own
        self.metadata = MetaData()
        self._is_made = False
        self._making = asyncio.Lock()

    async def make(self) -> None:
        """Create the tables, unless that was done; another process may do so at this moment."""
        if self._is_made:
            return
        async with self._making:
            try:
                await self._create()
            except SQLAlchemyError:
                # Two that found no table: the one that came second finds it now.
                await self._create()
            self._is_made = True

    async def close(self) -> None:
        if self._is_own:
            await self.engine.dispose()

    async def _create(self) -> None:
        async with self.engine.begin() as connection:
            await connection.run_sync(self.metadata.create_all)
