"""Fixtures that hand out servers, shared ones by address and private ones by object."""

import asyncio
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.support.leftovers import postgres_leftovers
from tools.servers import (
    PostgresServer,
    RedisServer,
    Server,
    ServerUnavailableError,
    variable,
)

ServerT = TypeVar("ServerT", bound=Server)

MARKER_OF_FIXTURE = {
    "redis_url": "redis",
    "own_redis": "redis",
    "postgres_url": "postgres",
    "own_postgres": "postgres",
    "rabbitmq_url": "rabbitmq",
    "nats_url": "nats",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by the servers whose fixtures it takes, so that `-m redis` finds it."""
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in MARKER_OF_FIXTURE:
                item.add_marker(MARKER_OF_FIXTURE[fixture])


@pytest.fixture
def namespace() -> str:
    """A name that nothing else on a shared server carries."""
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
def redis_url() -> str:
    return address_of("redis")


@pytest.fixture
def rabbitmq_url() -> str:
    return address_of("rabbitmq")


@pytest.fixture
def nats_url() -> str:
    return address_of("nats")


@pytest.fixture
def postgres_url(_worker_database: str) -> str:
    """The address of a database that this pytest worker has for itself."""
    return _worker_database


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis with an append-only file, for this test alone."""
    with private(RedisServer) as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for this test alone."""
    with private(PostgresServer) as server:
        yield server


@pytest.fixture(scope="session")
def _worker_database() -> Iterator[str]:
    url = address_of("postgres")
    name = f"taskiq_flow_{secrets.token_hex(6)}"
    _execute(url, f'CREATE DATABASE "{name}"')
    own = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    yield own
    with ThreadPoolExecutor(1) as thread:  # see `_execute`
        found = thread.submit(postgres_leftovers, own).result()
    _execute(url, f'DROP DATABASE "{name}" WITH (FORCE)')
    # Nobody can say which test left it: this fails the last one of this worker.
    assert found == [], "tests have left rows that nothing takes away"


def address_of(name: str) -> str:
    """Return the address of a shared server, or skip the test, or fail it on CI."""
    url = os.environ.get(variable(name))
    if url is None:
        _not_here(f"no {name} server: {variable(name)} is not set (tools/servers.py sets it)")
    return url


def private(kind: type[ServerT]) -> ServerT:
    """Make a server of this kind, or skip the test, or fail it on CI."""
    try:
        return kind()
    except ServerUnavailableError as error:
        _not_here(str(error))


def _not_here(reason: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(reason)
    pytest.skip(reason)


def _execute(url: str, statement: str) -> None:
    async def execute() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    # In a thread: `asyncio.run` takes the current thread's loop away, which pytest-asyncio has set.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, execute()).result()
