"""What tests leave on servers is noticed: the check that ends every run of them, on known cases."""

import asyncio
from collections.abc import Callable

import asyncpg
from redis import Redis

from taskiq_flow.stores.base import StoreOptions
from taskiq_flow.stores.redis import RedisRunStore
from taskiq_flow.stores.sql import SqlRunStore
from taskiq_flow.testing import StoreBench, step
from tests.support.leftovers import postgres_leftovers, redis_leftovers
from tools.servers import PostgresServer, RedisServer


async def test_a_key_that_stays_for_ever_is_named_unless_it_has_a_reason(
    own_redis: RedisServer,
) -> None:
    def make(options: StoreOptions, clock: Callable[[], float]) -> RedisRunStore:
        return RedisRunStore(own_redis.url, options, clock=clock)

    async with StoreBench(make) as bench:
        going = await bench.create(step("a"), step("b", "a"), key="k", tags=("t",))
        await going.run("a")
        ended = await bench.create(step("a"), tags=("t",))
        await ended.run("a")
    prefix = f"{{taskiq_flow:{bench.options.namespace}}}:"
    before = redis_leftovers(own_redis.url)

    with Redis.from_url(own_redis.url) as client:
        client.persist(f"{prefix}v:{ended.run_id}")
        client.set(f"{prefix}something", "new")
        client.set("of somebody else", "value")

    assert before == []
    assert sorted(redis_leftovers(own_redis.url)) == [
        f"{prefix}something",
        f"{prefix}v:{ended.run_id}",
    ]


async def test_a_table_without_a_reason_and_rows_of_runs_that_are_gone_are_named(
    own_postgres: PostgresServer,
) -> None:
    def make(options: StoreOptions, clock: Callable[[], float]) -> SqlRunStore:
        return SqlRunStore(own_postgres.url, options, clock=clock)

    async with StoreBench(make) as bench:
        await (await bench.create(step("a"), tags=("t",))).run("a")
        before = await asyncio.to_thread(postgres_leftovers, own_postgres.url)
        connection = await asyncpg.connect(own_postgres.url)
        await connection.execute("DELETE FROM taskiq_flow_run; CREATE TABLE taskiq_flow_new ()")
        await connection.close()

    assert before == []
    found = await asyncio.to_thread(postgres_leftovers, own_postgres.url)
    assert "table taskiq_flow_new" in found
    assert "1 rows of taskiq_flow_tag whose run is gone" in found
