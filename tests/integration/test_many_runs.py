"""Lists of many runs: the copies that make them many, and what a page asks of a server for them."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import select

from benchmarks.bulk import Copy, copy_run
from taskiq_flow.model.records import Failed, RunFilter, RunStatus
from taskiq_flow.stores.base import RunStore, StoreOptions
from taskiq_flow.stores.redis import RedisRunStore
from taskiq_flow.stores.sql import SqlRunStore, schema
from taskiq_flow.stores.sql.session import Mode, Session
from taskiq_flow.testing import ManualClock, StoreBench, step
from taskiq_flow.testing.store_bench import DONE, BenchRun
from tools.servers import RedisServer

PER_RUN = ("r", "v", "e", "l", "p", "k")

CONTENTS = """
local function plain(value)
  local ok, found = pcall(cmsgpack.unpack, value)
  return ok and type(found) == 'table' and found or value
end
local said = {}
for _, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'hash' then
    local fields, found = redis.call('HGETALL', key), {}
    for k = 1, #fields, 2 do found[fields[k]] = plain(fields[k + 1]) end
    said[#said + 1] = found
  elseif kind == 'list' then
    said[#said + 1] = redis.call('LRANGE', key, 0, -1)
  else
    said[#said + 1] = kind
  end
end
return cjson.encode(said)
"""


@asynccontextmanager
async def bench_of(
    kind: str, request: pytest.FixtureRequest, path: Path
) -> AsyncIterator[StoreBench]:
    def make(options: StoreOptions, clock: ManualClock) -> RunStore:
        if kind == "redis":
            return RedisRunStore(request.getfixturevalue("redis_url"), options, clock=clock)
        url = f"sqlite:///{path / 'runs.db'}"
        if kind == "postgres":
            url = str(request.getfixturevalue("postgres_url"))
        return SqlRunStore(url, options, clock=clock)

    async with StoreBench(make) as bench:
        yield bench


async def ended_run(bench: StoreBench, status: RunStatus, run_id: str) -> BenchRun:
    """A run of two steps that took a second, with a value, a log line and progress."""
    facts: dict[str, Any] = {"name": "copied", "tags": ("one", "two"), "inputs": {-1: b"1"}}
    run = await bench.create(step("a"), step("b", "a"), run_id=run_id, **facts)
    grant = await run.start("a", token="token")
    await bench.store.append_log(run_id, [b"line"])
    await bench.store.note_progress(run_id, 0, b"half")
    bench.clock.advance(1.0)
    if status is RunStatus.CANCELLED:
        await bench.store.cancel(run_id, "enough")
        return run
    await bench.store.finish(grant.address, "token", DONE, "next")
    bench.clock.advance(1.0)
    done = Failed(b"error") if status is RunStatus.FAILED else DONE
    await bench.store.finish(grant.address._replace(step=1), "next", done, None)
    return run


@pytest.mark.parametrize(
    "kind",
    [
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("redis", marks=pytest.mark.redis),
    ],
)
async def test_a_copy_of_a_run_is_stored_as_the_run_itself_would_be(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """So what is measured over many copies is what would be measured over as many runs."""
    statuses = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)
    async with bench_of(kind, request, tmp_path) as bench:
        for status in statuses:
            example = await ended_run(bench, status, f"example {status}")
            bench.clock.advance(100.0)
            began = bench.clock()
            real = await ended_run(bench, status, f"real {status}")
            copy = Copy(f"copy {status}", "copied", "pipeline", ("one", "two"), began)
            await copy_run(bench.store, example.run_id, [copy])

            contents = [await stored(bench, run_id) for run_id in (real.run_id, copy.run_id)]
            assert contents[0] == contents[1]
            assert contents[0]
        for which in (RunFilter(), RunFilter(tag="two"), RunFilter(search="cop")):
            page = await bench.store.list_runs(which)
            assert len(page.runs) == await bench.store.count_runs(which) == 9
        assert await bench.store.purge(before=bench.clock() + 1) == 9


async def stored(bench: StoreBench, run_id: str) -> Any:
    """All that a store holds of a run, without its id, numbers and tokens made up on the way."""
    if isinstance(bench.store, SqlRunStore):
        gate: Any = vars(bench.store)["_gate"]
        return await gate.run(lambda session: rows_of(session, run_id), Mode.READ)
    prefix = f"{{taskiq_flow:{bench.options.namespace}}}:"
    async with Redis.from_url(bench.store.url) as client:
        keys = [f"{prefix}{kind}:{run_id}" for kind in PER_RUN]
        said: bytes = await client.eval(CONTENTS, len(keys), *keys)
        contents = json.loads(said.decode("latin-1"))  # a plan is any bytes
        contents.append([await client.pttl(key) > 0 for key in keys])
        contents.append(json.loads(await client.hget(f"{prefix}i:of", run_id)))
        for key in sorted([key async for key in client.scan_iter(f"{prefix}[id]*")]):
            if await client.type(key) == b"zset":
                contents.append([key.decode(), await client.zscore(key, run_id)])
    run = contents[0]["r"]
    run.pop("by", None)  # who cancelled it is told by chance
    assert run.pop("name") == run_id
    return contents


def rows_of(session: Session, run_id: str) -> Any:
    found = session.rows(select(schema.run.c.rid).where(schema.run.c.run_id == run_id))
    own = {"id", "rid", "run_id"}
    rows: list[Any] = []
    for table in (schema.run, *schema.BELONGINGS):
        shown = [column for column in table.c if column.name not in own]
        asked = select(*shown).where(table.c.rid == found[0][0]).order_by(*shown)
        rows.append((table.name, [tuple(row) for row in session.rows(asked)]))
    return rows


@pytest.mark.redis
async def test_a_page_asks_no_more_of_redis_the_more_runs_are_stored(
    own_redis: RedisServer,
) -> None:
    """Commands inside the script count too; each of them reads a hundred runs at the most."""
    filters = [
        RunFilter(),
        RunFilter(status=RunStatus.COMPLETED),
        RunFilter(name="name 3"),
        RunFilter(kind="kind 1"),
        RunFilter(tag="tag 2"),
        RunFilter(search="name"),
        RunFilter(since=1_800_000_010.0, until=1_800_000_100.0),
        RunFilter(ended_since=1_800_000_010.0, ended_until=1_800_000_100.0),
        RunFilter(ended_since=1_800_000_010.0),
        RunFilter(RunStatus.COMPLETED, "name 3"),
        RunFilter(RunStatus.COMPLETED, kind="kind 1", tag="tag 1"),
        RunFilter(tag="tag 2", search="name"),
    ]

    def make(options: StoreOptions, clock: ManualClock) -> RunStore:
        return RedisRunStore(own_redis.url, options, clock=clock)

    async with StoreBench(make) as bench, Redis.from_url(own_redis.url) as client:
        example = await bench.create(step("a"))
        await example.run("a")

        async def commands(first: int, stop: int) -> list[int]:
            """Store more runs, and count what each page asks for then."""
            copies = [
                Copy(
                    f"{n:06}",
                    f"name {n % 10}",
                    f"kind {n % 2}",
                    (f"tag {n % 4}",),
                    bench.clock() + n,
                )
                for n in range(first, stop)
            ]
            await copy_run(bench.store, example.run_id, copies)
            counts: list[int] = []
            for which in filters:
                await client.config_resetstat()
                await bench.store.list_runs(which, limit=20)
                stats = await client.info("commandstats")
                counts.append(sum(one["calls"] for one in stats.values()))
            return counts

        few, many = await commands(0, 400), await commands(400, 2400)

    for which, before, after in zip(filters, few, many, strict=True):
        assert after <= before + 12, which
