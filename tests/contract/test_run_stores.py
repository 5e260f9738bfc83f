"""Every store keeps the contract of a run store."""

from collections.abc import AsyncIterator
from hashlib import sha1
from pathlib import Path

import pytest

from taskiq_flow.exceptions import DuplicateTickError
from taskiq_flow.model.records import RunFilter
from taskiq_flow.stores import memory_listing, redis, redis_listings
from taskiq_flow.stores.base import TICK_SECONDS, RunStore, StoreOptions
from taskiq_flow.stores.memory import MemoryRunStore
from taskiq_flow.stores.redis import RedisRunStore
from taskiq_flow.stores.sql import SqlRunStore, listings
from taskiq_flow.testing import ManualClock, RunStoreContract, StoreBench, step
from taskiq_flow.testing.contract.counts import CountContract


class TestMemory(RunStoreContract):
    @pytest.fixture
    async def bench(self) -> AsyncIterator[StoreBench]:
        async with StoreBench(lambda options, clock: MemoryRunStore(options, clock=clock)) as bench:
            yield bench


@pytest.mark.redis
class TestRedis(RunStoreContract):
    @pytest.fixture
    async def bench(self, redis_url: str) -> AsyncIterator[StoreBench]:
        async with StoreBench(
            lambda options, clock: RedisRunStore(redis_url, options, clock=clock)
        ) as bench:
            yield bench


class TestSqlite(RunStoreContract):
    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[StoreBench]:
        url = f"sqlite:///{tmp_path / 'runs.db'}"
        async with StoreBench(
            lambda options, clock: SqlRunStore(url, options, clock=clock)
        ) as bench:
            yield bench


@pytest.mark.postgres
class TestPostgres(RunStoreContract):
    @pytest.fixture
    async def bench(self, postgres_url: str) -> AsyncIterator[StoreBench]:
        async with StoreBench(
            lambda options, clock: SqlRunStore(postgres_url, options, clock=clock)
        ) as bench:
            yield bench


class TestManyInMemory(CountContract):
    """As if there were too many runs to put those found in order: walks orders that are kept."""

    @pytest.fixture
    async def bench(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StoreBench]:
        monkeypatch.setattr(memory_listing, "SORTED_MOST", 1)
        async with StoreBench(lambda options, clock: MemoryRunStore(options, clock=clock)) as bench:
            yield bench


class TestManyInSqlite(CountContract):
    """The same."""

    @pytest.fixture
    async def bench(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[StoreBench]:
        monkeypatch.setattr(listings, "SORTED_MOST", 1)
        monkeypatch.setattr(listings, "WEIGHED", (1,))
        url = f"sqlite:///{tmp_path / 'runs.db'}"
        async with StoreBench(
            lambda options, clock: SqlRunStore(url, options, clock=clock)
        ) as bench:
            yield bench


@pytest.mark.redis
class TestManyInRedis(CountContract):
    """The same, on servers that cannot count what two indexes have in common."""

    @pytest.fixture
    async def bench(
        self, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[StoreBench]:
        make_script_look_at(monkeypatch, b"1, 1, 3, 1")
        use_script(monkeypatch, redis.SCRIPT.replace(b"ZINTERCARD", b"ZOLDER"))
        async with StoreBench(
            lambda options, clock: RedisRunStore(redis_url, options, clock=clock)
        ) as bench:
            yield bench


def make_script_look_at(monkeypatch: pytest.MonkeyPatch, numbers: bytes) -> None:
    """Let the script look at fewer runs in a call than it does."""
    before = b"LOOKED, SORTED, BATCH, NAMES = "
    script = redis.SCRIPT.replace(before + b"1000, 2000, 100, 1000", before + numbers)
    assert script != redis.SCRIPT
    use_script(monkeypatch, script)


def use_script(monkeypatch: pytest.MonkeyPatch, script: bytes) -> None:
    monkeypatch.setattr(redis, "SCRIPT", script)
    monkeypatch.setattr(redis, "SCRIPT_HASH", sha1(script, usedforsecurity=False).hexdigest())


class TestRetentionInMemory:
    """Memory has no place for all: the newest ended runs stay."""

    async def test_the_oldest_ended_runs_are_dropped_and_those_that_go_on_stay(self) -> None:
        async with StoreBench(
            lambda options, clock: MemoryRunStore(options, clock=clock), retained_runs=2
        ) as bench:
            going = await bench.create(step("a"))
            ended = [await bench.create(step("a")) for _ in range(4)]
            for run in ended:
                grant = await run.start("a")
                await run.finish(grant)
                await run.finish(grant)

            kept = [await bench.store.get(run.run_id) is not None for run in [going, *ended]]

        assert kept == [True, False, False, True, True]

    async def test_deleted_runs_do_not_count_as_kept(self) -> None:
        async with StoreBench(
            lambda options, clock: MemoryRunStore(options, clock=clock), retained_runs=2
        ) as bench:
            runs = [await bench.create(step("a")) for _ in range(3)]
            await runs[0].run("a")
            await runs[1].run("a")
            await bench.store.delete(runs[1].run_id)
            await runs[2].run("a")

            assert await bench.store.get(runs[0].run_id) is not None


@pytest.mark.parametrize(
    "kind", ["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
)
async def test_a_tick_is_forgotten_when_it_cannot_come_again(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """After a week, in which its run may have gone long ago; Redis gives the key that time."""

    def make(options: StoreOptions, clock: ManualClock) -> RunStore:
        if kind == "memory":
            return MemoryRunStore(options, clock=clock)
        url = f"sqlite:///{tmp_path / 'runs.db'}"
        if kind == "postgres":
            url = str(request.getfixturevalue("postgres_url"))
        return SqlRunStore(url, options, clock=clock)

    async with StoreBench(make, retention_seconds=60.0) as bench:
        first = await bench.create(step("a"), tick="t")
        await first.run("a")
        bench.clock.advance(TICK_SECONDS - 1)
        await bench.store.purge(before=bench.clock() - 60)
        with pytest.raises(DuplicateTickError):
            await bench.create(step("a"), tick="t")

        bench.clock.advance(2.0)
        await bench.store.purge(before=bench.clock() - 60)
        await bench.create(step("a"), tick="another")

        assert await bench.store.get(first.run_id) is None
        await bench.create(step("a"), tick="t")


@pytest.mark.parametrize(
    "kind",
    [
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("redis", marks=pytest.mark.redis),
    ],
)
async def test_a_page_that_has_looked_at_enough_comes_short_and_says_where_to_go_on(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What two long indexes have in common may be nothing: no page looks through all of it."""
    monkeypatch.setattr(listings, "LOOKED_MOST", 2)
    monkeypatch.setattr(redis_listings, "CALLS_MOST", 1)
    make_script_look_at(monkeypatch, b"1, 1, 2, 1")

    def make(options: StoreOptions, clock: ManualClock) -> RunStore:
        if kind == "redis":
            return RedisRunStore(request.getfixturevalue("redis_url"), options, clock=clock)
        url = f"sqlite:///{tmp_path / 'runs.db'}"
        if kind == "postgres":
            url = str(request.getfixturevalue("postgres_url"))
        return SqlRunStore(url, options, clock=clock)

    async with StoreBench(make) as bench:
        both = await bench.create(step("a"), kind="even", tags=("odd",))
        bench.clock.advance(1.0)  # else the order of their ids decides
        for number in range(8):
            facts = {"tags": ("odd",)} if number % 2 else {"kind": "even"}
            await bench.create(step("a"), **facts)
        which = RunFilter(kind="even", tag="odd")
        page = await bench.store.list_runs(which)
        pages = [[run.run_id for run in page.runs]]
        while page.cursor is not None:
            page = await bench.store.list_runs(which, cursor=page.cursor)
            pages.append([run.run_id for run in page.runs])

    assert pages[0] == []
    assert [run_id for page in pages for run_id in page] == [both.run_id]
