"""What both SQL stores have: URLs, tables that come to be, costs that do not grow."""

import asyncio
import os
import secrets
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from taskiq_flow.exceptions import StoreFormatError, StoreUrlError
from taskiq_flow.model.records import (
    Done,
    Failed,
    Grant,
    ItemRetry,
    Items,
    Limit,
    OnFailure,
    RunStatus,
    StepKind,
)
from taskiq_flow.stores.base import Held
from taskiq_flow.stores.factory import make_store
from taskiq_flow.stores.sql import (
    SqlRunStore,
    migrations,
    postgres,
    schema,
    sqlite_session,
)
from taskiq_flow.stores.sql.migrations import Migration
from taskiq_flow.testing import StoreBench, step
from taskiq_flow.testing.store_bench import error_of, items_done, marked


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind; on PostgreSQL a schema of its own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'runs.db'}"
        return
    server: str = request.getfixturevalue("postgres_url")
    name = f"s{secrets.token_hex(6)}"
    asyncio.run(execute(server, f"CREATE SCHEMA {name}"))
    yield f"{server}?search_path={name}"
    asyncio.run(execute(server, f"DROP SCHEMA {name} CASCADE"))


@pytest.fixture
async def bench(url: str) -> AsyncIterator[StoreBench]:
    async with StoreBench(lambda options, clock: SqlRunStore(url, options, clock=clock)) as opened:
        yield opened


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many statements were run, by their first word."""
    counted: Counter[str] = Counter()

    def count(kind: object, name: str, word: str) -> None:
        original = getattr(kind, name)

        def counting(one: Any, *args: Any, **values: object) -> object:
            if word != "write" or any((args[0] if args else one.writes).values()):
                counted[word] += 1
            return original(one, *args, **values)

        monkeypatch.setattr(kind, name, counting)

    for kind in (sqlite_session.SqliteSession, postgres.PostgresSession):
        count(kind, "rows", "rows")
        count(kind, "execute", "execute")
    count(postgres.PostgresSession, "write", "write")
    count(sqlite_session, "write_rows", "write")
    return counted


# -- URLs and packages


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///runs.db",
        "sqlite:////tmp/runs.db",
        "sqlite+aiosqlite:///runs.db",
        "sqlite:///runs.db?synchronous=FULL",
        "postgresql://me@host/runs",
        "postgresql+asyncpg://me:secret@host:5432/runs?sslmode=require",
        "postgres://me@host/runs",
    ],
)
def test_the_usual_ways_to_write_a_url_are_understood(url: str) -> None:
    assert isinstance(make_store(url), SqlRunStore)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",  # a database in memory would be another one for every connection
        "sqlite:///:memory:",
        "sqlite://host/runs.db",
        "sqlite:///runs.db?synchronous=OFF",
        "sqlite:///runs.db?timeout=3",
        "postgresql+psycopg://me@host/runs",
        "mysql://me@host/runs",
        "not a url",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(StoreUrlError):
        SqlRunStore(url)


@pytest.mark.parametrize("missing", ["sqlalchemy", "asyncpg"])
def test_a_missing_package_is_an_error_that_names_the_extra(missing: str) -> None:
    said = python(f"""
        import sys
        sys.modules[{missing!r}] = None
        from taskiq_flow.exceptions import MissingExtraError
        from taskiq_flow.stores.factory import make_store
        try:
            make_store("postgresql://me@host/runs")
        except MissingExtraError as error:
            print(error)
        """)

    assert "pip install 'taskiq-flow[sql]'" in said
    assert repr(missing) in said


def test_sqlite_needs_no_driver_of_postgresql() -> None:
    said = python("""
        import sys
        sys.modules["asyncpg"] = sys.modules["greenlet"] = None
        from taskiq_flow.stores.factory import make_store
        print(make_store("sqlite:///runs.db").url)
        """)

    assert said == "sqlite:///runs.db\n"


# -- tables


async def test_stores_that_open_a_new_database_together_all_get_in(url: str) -> None:
    stores = [SqlRunStore(url) for _ in range(4)]

    await asyncio.gather(*(store.open() for store in stores))

    for store in stores:
        assert await store.find("nothing") is None
        await store.close()


async def test_a_store_of_another_version_is_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = SqlRunStore(url), SqlRunStore(url)
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "FORMAT_VERSION", "0")
        await store.open()

    refused = await error_of(StoreFormatError, other.open())
    await error_of(StoreFormatError, other.find("a call that opens by itself"))

    assert (refused.found, refused.expected) == ("0", "1")
    await store.close()
    await other.close()


async def test_migrations_bring_an_older_store_up_to_date_one_after_the_other(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = SqlRunStore(url), SqlRunStore(url)
    await old.open()
    monkeypatch.setattr(migrations, "FORMAT_VERSION", "3")
    no_way = await error_of(StoreFormatError, new.migrate())
    added = (
        Migration("1", "2", ("CREATE TABLE taskiq_flow_new (a INTEGER)",)),
        Migration("2", "3", ("ALTER TABLE taskiq_flow_new ADD COLUMN b INTEGER",)),
    )
    monkeypatch.setattr(migrations, "MIGRATIONS", added)

    passed = await new.migrate()
    again = await new.migrate()

    assert no_way.found == "1"
    assert (passed, again) == (("2", "3"), ())
    await new.open()
    await new.close()
    await old.close()


# -- costs


async def test_a_step_costs_the_same_in_a_short_run_and_in_a_long_one(
    bench: StoreBench, statements: Counter[str]
) -> None:
    """Only what a step touches is loaded: the run, itself, and what it opens."""

    async def cost_of_the_third_step(length: int) -> Counter[str]:
        names = [f"s{number}" for number in range(length)]
        chain = [step(name, *names[max(0, n - 1) : n]) for n, name in enumerate(names)]
        run = await bench.create(*chain)
        first = await run.start("s0")
        second = (await run.finish(first, next_token="t1")).grant
        assert second is not None
        statements.clear()
        third = (await run.finish(second, next_token="t2")).grant
        assert third is not None
        assert third.address == run.at("s2")
        return Counter(statements)

    costs = [await cost_of_the_third_step(length) for length in (4, 400)]

    assert costs[0] == costs[1] == {"rows": 2, "write": 1}


async def test_items_cost_the_same_in_a_short_map_and_in_a_long_one(
    bench: StoreBench, statements: Counter[str]
) -> None:
    async def cost_of_ten_items(length: int) -> Counter[str]:
        values = marked(str(number).encode() for number in range(length))
        run = await bench.create(step("m", kind=StepKind.MAP, slots=2), items={"m": values})
        grant = await run.start("m", want=10)
        statements.clear()
        grant = (await run.finish(grant, items_done(grant, want=10), "next")).grant
        assert grant is not None
        assert len(grant.items) == 10
        return Counter(statements)

    costs = [await cost_of_ten_items(length) for length in (60, 6000)]

    # SQLite, which has one writer, reads a run with its step; PostgreSQL locks it before.
    queries = 2 if bench.store.url.startswith("sqlite") else 3
    assert costs[0] == costs[1] == {"rows": queries, "write": 1}


async def test_items_that_failed_cost_the_same_however_many_they_are(
    bench: StoreBench, statements: Counter[str]
) -> None:
    """Retries lie in rows of their own, not in a list that is written again with each of them."""

    async def cost_of_one_more(failed: int) -> Counter[str]:
        values = marked(str(number).encode() for number in range(failed + 40))
        run = await bench.create(step("m", kind=StepKind.MAP), items={"m": values})
        grant: Grant | None = await run.start("m", want=10)
        for number in range(failed // 10):
            assert grant is not None
            retries = tuple(ItemRetry(item.number, b"no", 60.0) for item in grant.items)
            outcome = Items((), retries, want=10)
            grant = (await run.finish(grant, outcome, f"t{number}")).grant
        assert grant is not None
        statements.clear()
        await run.finish(grant, items_done(grant, want=10), "next")
        return Counter(statements)

    costs = [await cost_of_one_more(failed) for failed in (10, 600)]

    assert costs[0] == costs[1]


async def test_an_idle_look_for_what_is_due_asks_once_per_queue(
    bench: StoreBench, statements: Counter[str]
) -> None:
    await bench.create(step("a"))
    await bench.due("one", "two")
    statements.clear()

    await bench.due("one", "two")

    assert statements == {"rows": 4, "write": 1}  # two of them: the beat and the known delays


# -- endings


async def test_waiters_of_this_process_hear_of_an_end_at_once_through_any_twin(
    bench: StoreBench,
) -> None:
    heard: list[tuple[str, RunStatus]] = []
    twin = await bench.twin()
    pushes = await bench.store.listen(lambda run_id, status: heard.append((run_id, status)))
    finished, cancelled = await bench.create(step("a")), await bench.create(step("a"))
    late = await bench.create(step("a"), timeout_seconds=5.0)

    await finished.run("a")
    await twin.cancel(cancelled.run_id, "enough")
    await bench.wait(6.0)

    assert not pushes, "ends of other processes have to be asked for"
    assert heard == [
        (finished.run_id, RunStatus.COMPLETED),
        (cancelled.run_id, RunStatus.CANCELLED),
        (late.run_id, RunStatus.FAILED),
    ]


async def test_nothing_is_left_of_a_run_that_was_deleted(url: str, bench: StoreBench) -> None:
    run = await bench.create(
        step("a", event="go", kind=StepKind.EVENT),
        step("m", kind=StepKind.MAP, limits=(Limit("k", most=1),)),
        step("b", "a", "m"),
        items={"m": marked([b"1", b"2"])},
        tags=("x", "y"),
        inputs={-1: b"1"},
        timeout_seconds=60.0,
        publish=True,
    )
    await bench.store.send_event(run.run_id, "go", b"1")
    grant = await run.start("m")
    grant = (await run.finish(grant, Items((), (ItemRetry(0, b"no", 9.0),)), "next")).grant
    await bench.store.append_log(run.run_id, [b"line"])
    await bench.store.cancel(run.run_id, "enough")

    assert await bench.store.delete(run.run_id)

    for table in (*schema.BELONGINGS, schema.run):
        assert await count(url, f"SELECT count(*) FROM {table.name}") == 0, table.name


async def test_old_runs_are_purged_in_several_short_transactions(
    bench: StoreBench, statements: Counter[str]
) -> None:
    for _ in range(230):
        await (await bench.create(step("a"))).run("a")
    going = await bench.create(step("a"))
    statements.clear()

    purged = await bench.store.purge(before=bench.clock() + 1, limit=220)
    rest = await bench.store.purge(before=bench.clock() + 1)

    assert (purged, rest) == (220, 10)
    assert statements["execute"] == 4 * len((*schema.BELONGINGS, schema.run, schema.tick))
    assert await going.status() is RunStatus.PENDING


# -- rare courses, which load more


async def test_a_skip_goes_through_steps_that_no_operation_had_loaded(bench: StoreBench) -> None:
    names = [f"s{number}" for number in range(30)]
    chain = [step(name, *names[max(0, n - 1) : n]) for n, name in enumerate(names)]
    run = await bench.create(*chain, step("other"))

    await run.run("s0", Failed(b"no", OnFailure.SKIP))
    await run.run("other", Done(b"1"))

    snapshot = await run.snapshot()
    assert snapshot.status is RunStatus.COMPLETED
    assert [found.status for found in snapshot.steps].count("SKIPPED") == 29


async def test_a_store_in_another_thread_works_on_the_same_runs(bench: StoreBench) -> None:
    run = await bench.create(step("a"))
    grant = await run.start("a")
    lost: list[object] = []

    def keep_lease() -> None:
        async def renew() -> None:
            twin = bench.store.twin()
            lost.append(await twin.renew([Held(grant.address, grant.token)]))
            await twin.close()

        asyncio.run(renew())

    thread = threading.Thread(target=keep_lease)
    thread.start()
    await asyncio.to_thread(thread.join)

    assert lost == [{}]


async def test_health_says_how_safe_a_commit_is(bench: StoreBench) -> None:
    facts = await bench.store.health()

    assert facts["durable"] is True
    assert facts["store"] in bench.store.url
    assert facts["latency_ms"] > 0


# -- helpers


def python(program: str) -> str:
    """What a Python of its own prints."""
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def execute(server: str, statement: str) -> None:
    connection = await asyncpg.connect(server)
    await connection.execute(statement)
    await connection.close()


async def count(url: str, query: str) -> int:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            return file.execute(query).fetchone()[0]
    connection = await asyncpg.connect(url)
    found = await connection.fetchval(query)
    await connection.close()
    return found
