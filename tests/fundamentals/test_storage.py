"""Values under keys: who can read them, which storage is made, what a worker copies there."""

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st
from taskiq import InMemoryBroker
from taskiq_redis import ListQueueBroker, RedisStreamBroker

from taskiq_flow import Pipeline, PipelineMiddleware, StorageAdapterFactory, TaskiqFlowConfig
from taskiq_flow.exceptions import (
    PayloadTooLargeError,
    StorageDecryptionError,
    StorageUnavailableError,
    StorageUseError,
)
from taskiq_flow.middlewares import StorageMiddleware
from taskiq_flow.storage import (
    BaseStorageAdapter,
    EncryptedStorageAdapter,
    InMemoryStorageAdapter,
    PrefixedStorageAdapter,
    RedisStorageAdapter,
    SQLiteStorageAdapter,
    StorageEntry,
    escape_pattern,
)

REDIS = "redis://localhost:6379"

make = StorageAdapterFactory.create_storage_adapter


# --- Keys and entries


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
@settings(max_examples=50)
async def test_an_escaped_pattern_matches_its_text_and_nothing_else(one: str, other: str) -> None:
    storage = InMemoryStorageAdapter()
    await storage.set(one, 1)
    await storage.set(other, 1)

    assert await storage.keys(escape_pattern(one)) == [one]
    assert await storage.keys(escape_pattern(one) + "*") == sorted(
        {key for key in (one, other) if key.startswith(one)}
    )


def test_an_entry_knows_what_is_left_of_its_time() -> None:
    past, now = datetime.now(UTC) - timedelta(seconds=1), datetime.now(UTC)

    assert StorageEntry("a", 1, expires_at=past).is_expired()
    assert StorageEntry("a", 1, expires_at=past).remaining_ttl() == 0
    assert StorageEntry("a", 1).remaining_ttl() is None
    assert not StorageEntry("a", 1, created_at=now).is_expired()
    with pytest.raises(StorageUseError, match=r"expires_at=.* has no time zone; use datetime.now"):
        StorageEntry("a", 1, expires_at=datetime(2026, 1, 1))  # noqa: DTZ001


async def test_a_value_that_is_too_large_is_refused() -> None:
    storage = InMemoryStorageAdapter(max_value_bytes=10)

    with pytest.raises(PayloadTooLargeError, match="value of 'a' takes 14 bytes; the limit is 10"):
        await storage.set("a", "x" * 12)

    assert not await storage.exists("a")


async def test_several_prefixes_share_a_storage() -> None:
    shared = InMemoryStorageAdapter()
    one, other = PrefixedStorageAdapter(shared, "a*:"), PrefixedStorageAdapter(shared, "ab:")
    await one.set("k", 1)
    await other.set("k", 2)

    assert (await one.get("k"), await other.get("k")) == (1, 2)
    assert (await one.keys("*"), await shared.keys()) == (["k"], ["a*:k", "ab:k"])
    assert await one.delete("k")
    assert await other.exists("k")


async def test_an_adapter_of_six_methods_replaces_and_keeps_the_time_it_knows() -> None:
    class Lean(PrefixedStorageAdapter):
        get_entry = BaseStorageAdapter.get_entry
        replace = BaseStorageAdapter.replace

    lean = Lean(InMemoryStorageAdapter(), "p:")
    await lean.set("a", 1)

    assert await lean.replace("a", 1, 2)
    assert not await lean.replace("a", 1, 3)
    assert not await lean.replace("b", None, 3)
    assert await lean.get("a") == 2


# --- Encryption


async def test_a_write_leaves_the_file_free_while_its_event_loop_does_something_else(
    tmp_path: Path,
) -> None:
    """Whoever blocks that loop until another connection has written would wait for himself."""
    file = tmp_path / "values.db"
    written: list[str] = []

    def look(*facts: Any) -> None:
        if facts[2].startswith(("UPDATE", "INSERT", "DELETE")):
            with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
            written.append(facts[2][:6])

    async with SQLiteStorageAdapter(f"sqlite:///{file}") as adapter:
        await adapter.exists("a")
        sqlalchemy.event.listen(sqlalchemy.engine.Engine, "after_cursor_execute", look)
        try:
            await adapter.set("a", 1)
            assert not await adapter.add("a", 2)
            assert await adapter.replace("a", 1, 3)
        finally:
            sqlalchemy.event.remove(sqlalchemy.engine.Engine, "after_cursor_execute", look)
        assert await adapter.get("a") == 3

    assert written == ["UPDATE", "INSERT", "DELETE", "UPDATE"]


async def test_what_is_stored_cannot_be_read_without_the_key(tmp_path: Path) -> None:
    file = tmp_path / "storage.db"
    async with EncryptedStorageAdapter(
        SQLiteStorageAdapter(f"sqlite:///{file}"), Fernet.generate_key()
    ) as storage:
        await storage.set("name", {"card": "4111-1111"})

        assert await storage.get("name") == {"card": "4111-1111"}

    engine = sqlalchemy.create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        (body,) = connection.exec_driver_sql("SELECT body FROM taskiq_flow_storage").one()
    engine.dispose()
    assert "4111" not in body
    assert "card" not in body


async def test_keys_rotate_while_old_values_stay_readable() -> None:
    inner, old, new = InMemoryStorageAdapter(), Fernet.generate_key(), Fernet.generate_key()
    before = EncryptedStorageAdapter(inner, old)
    for number in range(5):
        await before.set(f"k{number}", number, ttl_seconds=100)
    both = EncryptedStorageAdapter(inner, [new, old])
    after = EncryptedStorageAdapter(inner, [new])
    assert await both.get("k1") == 1
    with pytest.raises(StorageDecryptionError, match=r"'k1' cannot be decrypted.*older key after"):
        await after.get("k1")

    assert await both.rotate() == 5

    assert [await after.get(f"k{number}") for number in range(5)] == list(range(5))
    entry = await after.get_entry("k1")
    assert entry is not None
    assert 90 < (entry.remaining_ttl() or 0) <= 100
    with pytest.raises(StorageDecryptionError):
        await before.get("k1")


async def test_a_value_that_is_written_during_a_rotation_is_not_lost() -> None:
    old, new = Fernet.generate_key(), Fernet.generate_key()

    class Busy(InMemoryStorageAdapter):
        async def replace(self, key: str, expected: Any, value: Any) -> bool:
            await writers.pop().set(key, "newer") if writers else None
            return await super().replace(key, expected, value)

    inner = Busy()
    await EncryptedStorageAdapter(inner, old).set("a", "older")
    writers = [EncryptedStorageAdapter(inner, old)]

    assert await EncryptedStorageAdapter(inner, [new, old]).rotate() == 1

    assert await EncryptedStorageAdapter(inner, new).get("a") == "newer"


async def test_a_value_under_another_key_is_refused() -> None:
    inner = InMemoryStorageAdapter()
    storage = EncryptedStorageAdapter(inner, Fernet.generate_key())
    await storage.set("mine", "admin")

    await inner.set("yours", await inner.get("mine"))
    await inner.set("plain", "text")
    await inner.set("number", 1)

    for key in ("yours", "plain", "number"):
        with pytest.raises(StorageDecryptionError, match=f"'{key}'"):
            await storage.get(key)
    with pytest.raises(StorageDecryptionError, match="'plain'"):
        await storage.rotate("plain")


@pytest.mark.parametrize("keys", [[], "secret", ["secret"], [b"\xff"]])
def test_a_key_that_is_none_is_refused_without_showing_it(keys: Any) -> None:
    with pytest.raises(StorageUseError, match=r"Fernet.generate_key\(\) makes one") as caught:
        EncryptedStorageAdapter(InMemoryStorageAdapter(), keys)

    assert "secret" not in str(caught.value)


# --- The factory


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, InMemoryStorageAdapter),
        ({"type": "memory"}, InMemoryStorageAdapter),
        ({"type": "inmemory"}, InMemoryStorageAdapter),
        ({"type": "redis"}, RedisStorageAdapter),
        ({"type": "sqlite"}, SQLiteStorageAdapter),
        ({"type": "sqlalchemy"}, SQLiteStorageAdapter),
        ({"redis_url": REDIS}, RedisStorageAdapter),
        ({"redis_url": REDIS, "type": "memory"}, InMemoryStorageAdapter),
        ({"config": {"storage_type": "redis"}}, RedisStorageAdapter),
        ({"config": {"storage_type": "sqlite"}}, SQLiteStorageAdapter),
        ({"config": {"storage_type": "sqlite", "storage_redis_url": REDIS}}, SQLiteStorageAdapter),
        ({"config": {"storage_redis_url": REDIS}}, RedisStorageAdapter),
        ({"config": {"storage_db_url": "sqlite:///x.db"}}, SQLiteStorageAdapter),
        (
            {"config": {"storage_db_url": "sqlite:///x.db", "storage_redis_url": REDIS}},
            RedisStorageAdapter,
        ),
        ({"broker": InMemoryBroker()}, InMemoryStorageAdapter),
    ],
)
async def test_the_factory_makes_what_is_configured(options: dict[str, Any], kind: type) -> None:
    if "config" in options:
        options = {**options, "config": TaskiqFlowConfig(**options["config"])}

    async with make(**options) as made:
        assert type(made) is kind


@pytest.mark.parametrize("broker_class", [ListQueueBroker, RedisStreamBroker])
async def test_the_factory_knows_a_broker_of_redis(broker_class: Any, redis_url: str) -> None:
    broker = broker_class(redis_url)

    async with make(broker=broker) as made:
        assert type(made) is RedisStorageAdapter
        await made.set("by the broker", 1, ttl_seconds=60)
        assert await made.delete("by the broker")

    await broker.connection_pool.disconnect()


async def test_the_factory_reads_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKIQ_FLOW_STORAGE_TYPE", "redis")
    monkeypatch.setenv("TASKIQ_FLOW_STORAGE_TTL_SECONDS", "60")

    async with make() as made, make(ttl_seconds=5) as short:
        assert type(made) is RedisStorageAdapter
        assert (made.ttl_seconds, short.ttl_seconds) == (60, 5)  # type: ignore[attr-defined]


def test_a_kind_that_does_not_exist_is_refused() -> None:
    with pytest.raises(StorageUseError, match="type='mongo' is none of: auto, memory, inmemory"):
        make(type="mongo")
    with pytest.raises(ValueError, match="storage_type"):
        TaskiqFlowConfig(storage_type="mongo")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make_it",
    [
        lambda: SQLiteStorageAdapter("secret-and-no-url"),
        lambda: SQLiteStorageAdapter("postgresql+psycopg2://u:secret@localhost/db"),
        lambda: RedisStorageAdapter("http://u:secret@localhost"),
        lambda: InMemoryStorageAdapter(ttl_seconds=0),
        lambda: RedisStorageAdapter(ttl_seconds=-1),
        lambda: PrefixedStorageAdapter(InMemoryStorageAdapter(), ""),
        lambda: StorageMiddleware(ttl_seconds=float("nan")),
        lambda: StorageMiddleware(timeout_seconds=0),
    ],
)
def test_an_option_that_cannot_work_is_refused(make_it: Callable[[], object]) -> None:
    with pytest.raises((StorageUseError, ImportError)) as caught:
        make_it()

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "storage",
    [
        RedisStorageAdapter("redis://u:secret@localhost:1"),
        SQLiteStorageAdapter("postgresql://u:secret@localhost:1/db"),
        SQLiteStorageAdapter("sqlite:////no/such/directory/x.db"),
    ],
    ids=["redis", "postgres", "sqlite"],
)
async def test_a_storage_that_cannot_be_reached_says_so(storage: BaseStorageAdapter) -> None:
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: storage.get("a"),
        lambda: storage.set("a", 1),
        storage.keys,
        lambda: storage.replace("a", 1, 2),
    ]
    for call in calls:
        with pytest.raises(StorageUnavailableError, match="cannot be used") as caught:
            await call()
        assert "secret" not in str(caught.value)
    await storage.close()
    # aiosqlite's thread of a connection that failed tells the loop of its end, and nobody waits.
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join, 5)


# --- The middleware


def broker_with(middleware: StorageMiddleware) -> InMemoryBroker:
    broker = InMemoryBroker(await_inplace=True)
    broker.add_middlewares(middleware, PipelineMiddleware())

    @broker.task(task_name="divide")
    async def divide(x: int) -> Any:
        return 1 / x

    @broker.task(task_name="odd")
    async def odd() -> Any:
        return object

    return broker


async def run(broker: InMemoryBroker, name: str, *args: Any, **labels: Any) -> Any:
    task: Any = broker.find_task(name)
    return await task.kicker().with_labels(**labels).kiq(*args)


async def test_an_error_is_stored_as_text_and_an_odd_value_as_its_repr() -> None:
    middleware = StorageMiddleware()
    broker = broker_with(middleware)

    bad = await run(broker, "divide", 0, pipeline_id="mine")
    odd = await run(broker, "odd")

    stored: Any = await middleware.storage.get(f"pipeline:mine:task:{bad.task_id}")
    assert stored["is_err"]
    assert stored["error"] == "ZeroDivisionError: division by zero"
    assert stored["return_value"] is None
    stored = await middleware.storage.get(f"task:{odd.task_id}")
    assert (stored["return_value"], stored["error"]) == ("<class 'object'>", None)


async def test_a_middleware_that_is_turned_off_stores_nothing() -> None:
    middleware = StorageMiddleware(enabled=False)
    broker = broker_with(middleware)

    await run(broker, "divide", 1)

    assert await middleware.storage.keys() == []


async def test_a_copy_lives_as_long_as_the_middleware_says() -> None:
    middleware = StorageMiddleware(ttl_seconds=100)
    task = await run(broker_with(middleware), "divide", 1)

    entry = await middleware.storage.get_entry(f"task:{task.task_id}")

    assert entry is not None
    assert 90 < (entry.remaining_ttl() or 0) <= 100


class Raising(InMemoryStorageAdapter):
    async def set(self, key: str, value: Any, ttl_seconds: float | None = None) -> None:
        raise RuntimeError("the storage is broken")

    async def close(self) -> None:
        raise RuntimeError("the storage is broken")


class Hanging(InMemoryStorageAdapter):
    async def set(self, key: str, value: Any, ttl_seconds: float | None = None) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    "storage", [Raising(), Hanging(), RedisStorageAdapter("redis://localhost:1")]
)
async def test_a_storage_that_fails_or_hangs_harms_no_task_and_no_run(
    storage: BaseStorageAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    broker = broker_with(StorageMiddleware(storage, timeout_seconds=0.05))
    await broker.startup()

    task = await run(broker, "divide", 4)
    flow = await Pipeline(broker, broker.find_task("divide")).kiq(2)

    assert (await task.wait_result(timeout=10)).return_value == 0.25
    assert (await flow.wait_result(timeout=10)).return_value == 0.5
    assert caplog.text.count("was not stored") == 2
    await broker.shutdown()
