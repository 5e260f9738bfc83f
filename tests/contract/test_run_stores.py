"""Every store keeps the contract of a run store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskiq_flow.stores.memory import MemoryRunStore
from taskiq_flow.stores.redis import RedisRunStore
from taskiq_flow.stores.sql import SqlRunStore
from taskiq_flow.testing import RunStoreContract, StoreBench, step


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
