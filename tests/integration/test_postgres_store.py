"""What only PostgreSQL has: a server that goes away, commits out of order, deadlocks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from benchmarks.bulk import Copy, copy_run
from taskiq_flow.exceptions import StoreUnavailableError
from taskiq_flow.model.records import Done, Grant, Limit, Refusal, RunStatus
from taskiq_flow.stores.base import StoreOptions
from taskiq_flow.stores.sql import SqlRunStore, postgres
from taskiq_flow.testing import StoreBench, step
from taskiq_flow.testing.store_bench import DONE, QUEUE, error_of, new_token
from tools.servers import PostgresServer

pytestmark = pytest.mark.postgres

LOCK_RUN = "SELECT rid FROM taskiq_flow_run WHERE run_id = $1 FOR UPDATE"
LOCK_SLOT = """
    SELECT slot.rid FROM taskiq_flow_slot AS slot JOIN taskiq_flow_run USING (rid)
    WHERE run_id = $1 FOR UPDATE OF slot
"""
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
NOBODY_WAITS = "SELECT count(*) = 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.fixture
async def bench(postgres_url: str) -> AsyncIterator[StoreBench]:
    async with bench_on(postgres_url) as opened:
        yield opened


@pytest.fixture
async def own(own_postgres: PostgresServer) -> AsyncIterator[StoreBench]:
    """A store on a server that may be hurt; it waits no longer than a second for an answer."""
    async with bench_on(own_postgres.url, timeout_seconds=1.0) as opened:
        yield opened


def bench_on(url: str, **options: Any) -> StoreBench:
    def make(given: StoreOptions, clock: Callable[[], float]) -> SqlRunStore:
        return SqlRunStore(url, given, clock=clock, **options)

    return StoreBench(make)


@asynccontextmanager
async def connection_to(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - only the server can tell
            await asyncio.sleep(0)


# -- a server that goes away


async def test_calls_go_on_by_themselves_after_the_server_was_restarted(
    own: StoreBench, own_postgres: PostgresServer
) -> None:
    runs = [await own.create(step("a"), step("b", "a")) for _ in range(4)]
    # Several connections, so that more than one of them is found broken.
    grants = await asyncio.gather(*(run.start("a") for run in runs))

    await asyncio.to_thread(own_postgres.restart)
    finished = await asyncio.gather(
        *(run.finish(grant) for run, grant in zip(runs, grants, strict=True))
    )

    assert all(answer.recorded and len(answer.ready) == 1 for answer in finished)


async def test_a_server_that_is_down_is_unavailable_and_its_password_stays_secret(
    own: StoreBench, own_postgres: PostgresServer
) -> None:
    run = await own.create(step("a"))
    url = own_postgres.url.replace("postgres@", "postgres:secret@") + "?password=secret"
    other = SqlRunStore(url)
    await asyncio.to_thread(own_postgres.stop)

    refused = [
        await error_of(StoreUnavailableError, run.try_start("a")),
        await error_of(StoreUnavailableError, other.open()),
    ]
    await asyncio.to_thread(own_postgres.start)
    grant = await run.try_start("a")

    assert all("nothing was changed" in str(error) for error in refused)
    assert all("secret" not in str(error) for error in refused)
    assert isinstance(grant, Grant)


async def test_a_server_that_stands_still_does_not_hold_a_call_for_long(
    own: StoreBench, own_postgres: PostgresServer
) -> None:
    run = await own.create(step("a"))
    await asyncio.to_thread(own_postgres.freeze)

    try:
        refused = await error_of(StoreUnavailableError, run.try_start("a"))
    finally:
        await asyncio.to_thread(own_postgres.thaw)

    assert "no answer for 1 s); it may have done what it was asked, or still" in str(refused)
    assert isinstance(await run.try_start("a"), Grant | Refusal)


async def test_a_server_that_dies_before_its_answer_is_not_said_to_have_changed_nothing(
    own: StoreBench, own_postgres: PostgresServer
) -> None:
    run = await own.create(step("a"))
    await asyncio.to_thread(own_postgres.freeze)
    asking = asyncio.create_task(error_of(StoreUnavailableError, run.try_start("a")))
    await asyncio.sleep(0.2)

    await asyncio.to_thread(own_postgres.kill)
    refused = await asking
    await asyncio.to_thread(own_postgres.start)

    assert "it may have done what it was asked, or still do it" in str(refused)


async def test_a_database_that_is_not_there_is_unavailable(postgres_url: str) -> None:
    store = SqlRunStore(f"{postgres_url}_missing")

    refused = await error_of(StoreUnavailableError, store.open())

    assert "does not exist" in str(refused)


async def test_a_cancelled_call_keeps_no_lock(bench: StoreBench, postgres_url: str) -> None:
    run, other = await bench.create(step("a")), await bench.create(step("a"))
    async with connection_to(postgres_url) as blocker, blocker.transaction():
        await blocker.fetch(LOCK_SLOT, run.run_id)
        # The call has locked its run, and waits for the slot.
        call = asyncio.create_task(run.try_start("a"))
        await until(lambda: blocker.fetchval(WAITING))
        call.cancel()
        await asyncio.wait([call])

        with pytest.raises(asyncio.CancelledError):
            await call
        # Asked for before the server has noticed, the lock would be a deadlock that either loses.
        await until(lambda: blocker.fetchval(NOBODY_WAITS))
        await blocker.fetch(LOCK_RUN, run.run_id)

    assert isinstance(await run.try_start("a"), Grant)
    assert isinstance(await other.try_start("a"), Grant)


async def test_a_deadlock_is_tried_again(bench: StoreBench, postgres_url: str) -> None:
    run = await bench.create(step("a"))
    async with connection_to(postgres_url) as rival:
        # Only the store's connection looks for deadlocks in time, so it is the one that loses.
        await rival.execute("SET deadlock_timeout = '60s'")
        async with rival.transaction():
            await rival.fetch(LOCK_SLOT, run.run_id)
            call = asyncio.create_task(run.try_start("a"))
            await until(lambda: rival.fetchval(WAITING))
            await rival.fetch(LOCK_RUN, run.run_id)
            assert not call.done()

    assert isinstance(await call, Grant)


# -- several at once


async def test_two_stores_never_wake_the_same_slot(bench: StoreBench) -> None:
    runs = [await bench.create(step("a")) for _ in range(40)]
    twins = [await bench.twin() for _ in range(4)]
    bench.clock.advance(bench.options.kick_seconds)

    found = await asyncio.gather(
        *(twin.due((QUEUE,), limit=10) for twin in twins for _ in range(3))
    )

    woken = [wake.run_id for wakes in found for wake in wakes]
    assert len(woken) == len(set(woken))
    woken += [wake.run_id for wake in await bench.due()]
    assert sorted(woken) == sorted(run.run_id for run in runs)


async def test_a_run_that_somebody_works_on_is_not_waited_for(
    bench: StoreBench, postgres_url: str
) -> None:
    busy, idle = await bench.create(step("a")), await bench.create(step("a"))
    bench.clock.advance(bench.options.kick_seconds)
    async with connection_to(postgres_url) as other, other.transaction():
        await other.fetch(LOCK_RUN, busy.run_id)

        first = await bench.due()

    later = await bench.due()
    assert [wake.run_id for wake in first] == [idle.run_id]
    assert [wake.run_id for wake in later] == [busy.run_id]


async def test_a_limit_holds_however_many_ask_at_once(bench: StoreBench) -> None:
    runs = [await bench.create(step("a", limits=(Limit("k", most=3),))) for _ in range(20)]
    twins = [await bench.twin() for _ in range(3)]

    answers = await asyncio.gather(
        *(twins[n % 3].start(run.at("a"), new_token()) for n, run in enumerate(runs))
    )

    assert sum(isinstance(answer, Grant) for answer in answers) == 3


async def test_a_backlog_holds_however_many_are_created_at_once(bench: StoreBench) -> None:
    drafts = [bench.draft(step("a"), backlog=("emails", 3)) for _ in range(12)]

    done = await asyncio.gather(
        *(bench.store.create(draft.new) for draft in drafts), return_exceptions=True
    )

    assert sum(not isinstance(answer, BaseException) for answer in done) == 3


async def test_many_slots_of_one_map_finish_at_once(bench: StoreBench) -> None:
    """They all lock the same run; none is lost, and exactly one of them ends it."""
    run = await bench.create(*(step(f"s{number}") for number in range(30)), step("end"))
    grants = await asyncio.gather(*(run.start(f"s{number}") for number in range(30)))

    finished = await asyncio.gather(*(run.finish(grant, Done(b"1")) for grant in grants))
    last = await run.run("end")

    assert all(answer.recorded for answer in finished)
    assert last.ended is RunStatus.COMPLETED
    assert [event.seq for event in await run.events()] == list(range(1, 66))


# -- the feed


async def test_the_feed_misses_nothing_that_is_committed_behind_later_events(
    bench: StoreBench, postgres_url: str
) -> None:
    """An event gets its number before its commit: a slower one appears behind faster ones."""
    slow, fast = await bench.create(step("a")), await bench.create(step("a"))
    _, position = await bench.store.feed()
    async with connection_to(postgres_url) as writer:
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute(
            """
            INSERT INTO taskiq_flow_event (namespace, rid, seq, count, at, body)
            SELECT namespace, rid, 2, 1, 0, '[["run_started",null,null,0,""]]'
            FROM taskiq_flow_run WHERE run_id = $1
            """,
            slow.run_id,
        )
        await fast.start("a")

        first, position = await bench.store.feed(after=position)
        await transaction.commit()
        second, position = await bench.store.feed(after=position)
        third, _ = await bench.store.feed(after=position)

    assert {event.run_id for event in first} == {fast.run_id}
    assert [(event.run_id, event.seq) for event in second] == [(slow.run_id, 2)]
    assert third == []


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_the_feed_can_be_read_in_pieces_of_any_size(bench: StoreBench, limit: int) -> None:
    _, position = await bench.store.feed()
    run = await bench.create(step("a"), step("b", "a"))
    for name in ("a", "b"):
        await run.run(name)

    read: list[Any] = []
    while piece := await bench.store.feed(after=position, limit=limit):
        events, position = piece
        if not events:
            break
        assert len(events) <= limit
        read += events

    assert read == await run.events()


# -- values


async def test_to_hear_what_is_new_no_event_is_read_that_was_heard(
    own: StoreBench, own_postgres: PostgresServer
) -> None:
    ended = await own.create(step("a"))
    await ended.run("a", DONE)
    copies = [Copy(f"run {n}", "n", "k", (), own.clock() + n) for n in range(500)]
    await copy_run(own.store, ended.run_id, copies)
    run = await own.create(step("a"))
    async with connection_to(own_postgres.url) as connection:
        await connection.execute("ANALYZE")
        await connection.execute(postgres.SESSION)
        await connection.execute(f"PREPARE feed AS {postgres.FEED}")
        before = await connection.fetchval("SELECT pg_current_snapshot()::text")
        await run.run("a", DONE)
        now = await connection.fetchval("SELECT pg_current_snapshot()::text")
        namespace = (await run.snapshot()).namespace
        given = f"'{before}', '{now}', '{namespace}', 0, 100"
        heard = await connection.fetch(f"EXECUTE feed({given})")
        plan = await connection.fetch(f"EXPLAIN (ANALYZE, TIMING OFF) EXECUTE feed({given})")
        told = "\n".join(row[0] for row in plan)

    assert {row["run_id"] for row in heard} == {run.run_id}
    assert "Rows Removed by Filter" not in told, told
    assert "Seq Scan" not in told, told


async def test_a_text_that_postgres_cannot_hold_is_stored_without_the_character(
    bench: StoreBench,
) -> None:
    run = await bench.create(step("a"))

    await bench.store.cancel(run.run_id, "no\0good")

    assert (await run.snapshot()).reason == "no\ufffdgood"


async def test_the_clock_is_the_servers_and_goes_on_within_a_transaction(
    postgres_url: str,
) -> None:
    async with StoreBench(lambda options, _: SqlRunStore(postgres_url, options)) as bench:
        run = await bench.create(step("a"))
        async with connection_to(postgres_url) as other, other.transaction():
            await other.fetch(LOCK_RUN, run.run_id)
            call = asyncio.create_task(run.try_start("a"))
            await until(lambda: other.fetchval(WAITING))
            let_go_at = await other.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")

        grant = await call

    assert isinstance(grant, Grant)
    assert grant.granted_at >= let_go_at, "the lease began before it was given"
