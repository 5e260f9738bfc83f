"""Every store keeps the contract of a run store."""

from collections.abc import AsyncIterator
from hashlib import sha1
from pathlib import Path

import pytest

from taskiq_flow.exceptions import DuplicateTickError
from taskiq_flow.stores import memory_listing, redis
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
        monkeypatch.setattr(listings, "WEIGHED_MOST", 1)
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
        script = redis.SCRIPT.replace(b"20000", b"1").replace(b"ZINTERCARD", b"ZOLDER")
        script = script.replace(b"looked < 5000", b"looked < 1").replace(
            b"most = 5000", b"most = 1"
        )
        monkeypatch.setattr(redis, "SCRIPT", script)
        monkeypatch.setattr(redis, "SCRIPT_HASH", sha1(script, usedforsecurity=False).hexdigest())
        async with StoreBench(
            lambda options, clock: RedisRunStore(redis_url, options, clock=clock)
        ) as bench:
            yield bench


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
