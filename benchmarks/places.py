"""Where the runs of one cell live: made before it, removed after it, shared with nobody."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from redis.asyncio import Redis

from benchmarks.matrix import Cell, Store


@dataclass(frozen=True, slots=True)
class Servers:
    """The addresses of the servers; None where there is none."""

    redis: str | None
    postgres: str | None

    def has(self, store: Store) -> bool:
        """Whether cells on this store can be made; those on PostgreSQL use a Redis broker."""
        needed = {Store.REDIS: (self.redis,), Store.POSTGRES: (self.redis, self.postgres)}
        return all(needed.get(store, ()))

    async def described(self) -> dict[str, str]:
        """What is said of the servers beside the numbers: version, and what a crash would cost."""
        found: dict[str, str] = {}
        if self.redis:
            async with Redis.from_url(self.redis, decode_responses=True) as client:
                settings = await client.config_get("append*")
                version = (await client.info("server"))["redis_version"]
            file = f"appendfsync {settings['appendfsync']}"
            is_kept = settings["appendonly"] == "yes"
            found["Redis"] = f"{version}, {file if is_kept else 'no append-only file'}"
        if self.postgres:
            connection = await asyncpg.connect(self.postgres)
            version = (await connection.fetchval("SHOW server_version")).split()[0]
            names = ("fsync", "synchronous_commit")
            settings = [f"{name} {await connection.fetchval(f'SHOW {name}')}" for name in names]
            await connection.close()
            found["PostgreSQL"] = ", ".join([version, *settings])
        return found


@asynccontextmanager
async def placed(cell: Cell, servers: Servers) -> AsyncIterator[Cell]:
    """The cell with a namespace and addresses of its own, all of it removed at the end."""
    cell = replace(cell, namespace=f"benchmark-{secrets.token_hex(6)}")
    if cell.store is Store.SQLITE:
        with tempfile.TemporaryDirectory() as directory:
            yield replace(cell, store_url=f"sqlite:///{Path(directory) / 'runs.db'}")
    elif cell.store is Store.MEMORY:
        yield cell
    else:
        assert servers.redis is not None
        cell = replace(cell, redis_url=servers.redis)
        try:
            if cell.store is Store.POSTGRES:
                assert servers.postgres is not None
                async with _database(servers.postgres, cell.namespace) as url:
                    yield replace(cell, store_url=url)
            else:
                yield cell
        finally:
            await _forget(servers.redis, cell.namespace)


@asynccontextmanager
async def _database(server: str, name: str) -> AsyncIterator[str]:
    connection = await asyncpg.connect(server)
    await connection.execute(f'CREATE DATABASE "{name}"')
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await connection.close()


async def _forget(server: str, namespace: str) -> None:
    async with Redis.from_url(server) as client:
        keys = [key async for key in client.scan_iter(f"*{namespace}*", count=1000)]
        for first in range(0, len(keys), 1000):
            await client.unlink(*keys[first : first + 1000])
