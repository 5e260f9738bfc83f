"""What only the Redis store has: a connection that breaks, keys that expire, refusals."""

import asyncio
import gc
import importlib
import secrets
import sys
import time
import tracemalloc
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from taskiq_flow.events import EventType
from taskiq_flow.exceptions import (
    DuplicatePipelineError,
    MissingExtraError,
    StoreFormatError,
    StoreUnavailableError,
)
from taskiq_flow.model.records import (
    Done,
    Failed,
    Grant,
    ItemDone,
    ItemRetry,
    Items,
    Limit,
    RefusalReason,
    RunFilter,
    RunStatus,
    StepKind,
    StepRecord,
    bound_items_key,
)
from taskiq_flow.stores.base import Held, StoreOptions
from taskiq_flow.stores.redis import RedisRunStore
from taskiq_flow.testing import ManualClock, StoreBench, step
from tools.servers import RedisServer

KEPT_FOR_EVER = {
    "format": "which version wrote the store",
    "clock": "when `due` was last called",
    "feed": "bounded by its length",
    "delays": "one number for each queue",
    "due:q": "runs that go on, and ends that nobody has settled",
    "i:all": "entries are removed with their runs",
    "i:names": "the same",
    "i:of": "the same",
}


@pytest.fixture
async def bench(redis_url: str) -> AsyncIterator[StoreBench]:
    async with bench_on(redis_url) as opened:
        yield opened


@pytest.fixture
async def own(own_redis: RedisServer) -> AsyncIterator[StoreBench]:
    """A store on a server that may be hurt; it waits no longer than half a second."""
    async with bench_on(own_redis.url, timeout_seconds=0.5, retry_seconds=0.3) as opened:
        yield opened


def bench_on(url: str, **client_options: Any) -> StoreBench:
    def make(options: StoreOptions, clock: Callable[[], float]) -> RedisRunStore:
        return RedisRunStore(url, options, clock=clock, **client_options)

    return StoreBench(make)


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(url)
    try:
        yield client
    finally:
        await client.aclose()


async def until(ask: Callable[[], Awaitable[int]], is_so: Callable[[int], bool]) -> None:
    """Ask the server again and again until it answers as wanted."""
    async with asyncio.timeout(30):
        while not is_so(await ask()):
            pass


async def waiting(client: Redis) -> int:
    return (await client.info("clients"))["blocked_clients"]


async def subscribers(client: Redis, channel: str) -> int:
    return (await client.pubsub_numsub(channel))[0][1]


class Proxy:
    """Stands between a client and a server, and loses replies when it is told to.

    It listens on a port, or at a path.
    """

    def __init__(self, url: str, *, path: Path | None = None) -> None:
        self._target, self._path = urlsplit(url), path
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.lose_next_reply = False
        self.connections = 0
        self.deaf = 0
        self.url = ""

    def deafen(self) -> None:
        """Let nothing more through on the connections that there are, and keep them open."""
        self.deaf = self.connections

    async def __aenter__(self) -> "Proxy":
        if self._path is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
            self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        else:
            self._server = await asyncio.start_unix_server(self._accept, self._path)
            self.url = f"unix://{self._path}?db=0"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        there = await asyncio.open_connection(self._target.hostname, self._target.port)
        asking = asyncio.create_task(self._ask(reader, there[1], number))
        try:
            while data := await there[0].read(1 << 16):
                if self.lose_next_reply:
                    self.lose_next_reply = False
                    break
                writer.write(data)
        finally:
            asking.cancel()
            writer.close()
            there[1].close()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        while data := await reader.read(1 << 16):
            if number > self.deaf:
                writer.write(data)
        writer.close()


# --- a connection that breaks ----------------------------------------------------------------


async def test_a_finish_whose_reply_is_lost_is_recorded_once_and_answered(redis_url: str) -> None:
    """The call is repeated with the same token on a new connection, and gets the same grant."""
    async with Proxy(redis_url) as proxy, bench_on(proxy.url) as bench:
        run = await bench.create(step("a"), step("b", "a"))
        grant = await run.start("a")

        proxy.lose_next_reply = True
        finished = await run.finish(grant, next_token="next")

        assert finished.recorded
        assert finished.grant is not None
        assert finished.grant.token == "next"
        assert (await run.happened("a")).count(EventType.STEP_COMPLETED) == 1


async def test_a_cancel_whose_reply_is_lost_still_says_that_it_cancelled(redis_url: str) -> None:
    async with Proxy(redis_url) as proxy, bench_on(proxy.url) as bench:
        run = await bench.create(step("a"))

        proxy.lose_next_reply = True
        cancelled = await bench.store.cancel(run.run_id, "enough")

        assert cancelled
        assert not await bench.store.cancel(run.run_id, "again")


async def test_a_creation_whose_reply_is_lost_is_no_duplicate_of_itself(redis_url: str) -> None:
    async with Proxy(redis_url) as proxy, bench_on(proxy.url) as bench:
        await bench.store.health()

        proxy.lose_next_reply = True
        run = await bench.create(step("a"), key="only one")

        assert run.names(run.ready) == ["a"]
        with pytest.raises(DuplicatePipelineError):
            await bench.create(step("a"), key="only one")


async def test_a_connection_on_which_nothing_comes_any_more_is_replaced(redis_url: str) -> None:
    """As when a machine between them has forgotten it; nobody is told."""
    async with Proxy(redis_url) as proxy, bench_on(proxy.url, timeout_seconds=0.5) as bench:
        run = await bench.create(step("a"))

        proxy.deafen()

        assert await run.start("a")


async def test_calls_of_one_tick_travel_together(own: StoreBench, own_redis: RedisServer) -> None:
    async with client_of(own_redis.url) as client:
        before = (await client.info("stats"))["total_reads_processed"]

        await asyncio.gather(*[own.store.find("nothing") for _ in range(500)])

        after = (await client.info("stats"))["total_reads_processed"]
    assert after - before < 20


async def test_a_call_that_is_given_up_does_not_shift_the_answers_of_others(
    bench: StoreBench, caplog: pytest.LogCaptureFixture
) -> None:
    run = await bench.create(step("a"))
    abandoned = asyncio.create_task(bench.store.plan(run.run_id))
    asked = asyncio.create_task(bench.store.find("nothing"))
    await asyncio.sleep(0)

    abandoned.cancel()

    assert await asked is None
    assert await bench.store.plan(run.run_id) == run.new.plan
    assert not caplog.records


async def test_a_run_goes_on_after_the_server_was_restarted(
    own: StoreBench, own_redis: RedisServer
) -> None:
    async with client_of(own_redis.url) as client:
        await client.config_set("appendfsync", "always")
    run = await own.create(step("a"), step("b", "a"))
    grant = await run.start("a")

    await asyncio.to_thread(own_redis.kill)
    await asyncio.to_thread(own_redis.start)

    assert (await run.finish(grant)).recorded
    assert (await run.run("b")).ended is RunStatus.COMPLETED


async def test_an_absent_server_is_named_and_found_again(
    own: StoreBench, own_redis: RedisServer
) -> None:
    run = await own.create(step("a"))

    await asyncio.to_thread(own_redis.kill)
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1"):
        await run.start("a")
    await asyncio.to_thread(own_redis.start)

    assert await own.store.workers() == []


async def test_a_frozen_server_is_given_up_in_time_and_used_again_when_it_answers(
    own: StoreBench, own_redis: RedisServer
) -> None:
    run = await own.create(step("a"))
    own_redis.freeze()
    began = time.monotonic()
    try:
        # The second one finds no connection, and no handshake either.
        for said in ("it may have done what it was asked, or still do it", "nothing was changed"):
            with pytest.raises(StoreUnavailableError, match=said):
                await run.start("a", token="mine")
        took = time.monotonic() - began
    finally:
        own_redis.thaw()

    assert took < 5
    assert isinstance(await run.try_start("a", token="mine"), Grant)


async def test_a_store_may_be_used_from_one_event_loop_after_another(redis_url: str) -> None:
    """As with two calls of `asyncio.run`, the first of which leaves its connection open."""
    store = RedisRunStore(redis_url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        await asyncio.to_thread(asyncio.run, store.open())

        health = await store.health()
        gc.collect()

    await store.close()
    assert health["store"] == "redis"


async def test_a_wrong_password_is_told_at_once_and_not_shown(own_redis: RedisServer) -> None:
    async with client_of(own_redis.url) as client:
        await client.config_set("requirepass", "right")
    address = own_redis.url.replace("redis://", "redis://:{}@")

    store = RedisRunStore(address.format("wrong-secret"), retry_seconds=3600)
    with pytest.raises(StoreUnavailableError) as caught:
        await asyncio.wait_for(store.open(), 30)
    await store.close()

    assert "wrong-secret" not in str(caught.value)
    assert "check the name and the password in its address" in str(caught.value)
    nameless = RedisRunStore(own_redis.url, retry_seconds=3600)
    with pytest.raises(StoreUnavailableError, match="it asks for a password"):
        await asyncio.wait_for(nameless.open(), 30)
    await nameless.close()
    async with bench_on(address.format("right")) as bench:
        assert await bench.store.workers() == []


async def test_databases_are_apart(own_redis: RedisServer) -> None:
    async with bench_on(own_redis.url) as here:
        there = RedisRunStore(own_redis.url.replace("/0", "/1"), here.options)
        run = await here.create(step("a"))

        assert await there.get(run.run_id) is None
        await there.close()


async def test_a_unix_socket_will_do(redis_url: str, tmp_path: Path) -> None:
    async with (
        Proxy(redis_url, path=tmp_path / "redis.sock") as proxy,
        bench_on(proxy.url) as bench,
    ):
        run = await bench.create(step("a"))

        assert (await run.run("a")).ended is RunStatus.COMPLETED


# --- a server that refuses ---------------------------------------------------------------------


async def test_a_full_server_refuses_whole_operations_and_says_so(
    own: StoreBench, own_redis: RedisServer
) -> None:
    run = await own.create(step("a"), step("b", "a"))
    grant = await run.start("a")
    async with client_of(own_redis.url) as client:
        await client.config_set("maxmemory", "1")

        with pytest.raises(StoreUnavailableError, match="OOM"):
            await run.finish(grant)
        with pytest.raises(StoreUnavailableError, match="OOM"):
            await own.create(step("a"), run_id="refused")

        await client.config_set("maxmemory", "0")
    assert await own.store.get("refused") is None
    assert run.names((await run.finish(grant)).ready) == ["b"]


async def test_a_replica_is_named_and_used_again_when_it_leads(
    own: StoreBench, own_redis: RedisServer
) -> None:
    run = await own.create(step("a"))
    async with client_of(own_redis.url) as client:
        await client.replicaof("127.0.0.1", "1")

        with pytest.raises(StoreUnavailableError, match="READONLY"):
            await run.start("a")

        await client.replicaof("NO", "ONE")
    assert await run.start("a")


async def test_a_server_that_forgot_the_script_is_told_it_again(
    own: StoreBench, own_redis: RedisServer
) -> None:
    async with client_of(own_redis.url) as client:
        await client.script_flush()

    run = await own.create(step("a"))

    assert run.names(run.ready) == ["a"]


async def test_a_store_of_another_version_is_refused(own_redis: RedisServer) -> None:
    async with client_of(own_redis.url) as client:
        await client.set("{taskiq_flow:default}:format", "0")
    store = RedisRunStore(own_redis.url)

    with pytest.raises(StoreFormatError, match="format 0"):
        await store.open()

    await store.close()


async def test_health_tells_how_durable_the_server_is(
    own: StoreBench, own_redis: RedisServer
) -> None:
    before = await own.store.health()
    async with client_of(own_redis.url) as client:
        await client.config_set("maxmemory-policy", "allkeys-lru")

    after = await own.store.health()

    assert before["durable"]
    assert before["appendfsync"] == "everysec"
    assert before["latency_ms"] > 0
    assert not after["durable"]
    assert after["maxmemory_policy"] == "allkeys-lru"


@pytest.mark.parametrize("module", ["redis.asyncio.connection", "hiredis"])
def test_a_missing_package_is_named_with_its_extra(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = module.partition(".")[0]
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "taskiq_flow.stores.redis_wire")

    with pytest.raises(MissingExtraError, match=rf"'{package}'.*taskiq-flow\[redis\]"):
        importlib.import_module("taskiq_flow.stores.redis_wire")


# --- keys --------------------------------------------------------------------------------------


async def eventful_run(bench: StoreBench, status: RunStatus) -> str:
    """Run through what makes keys: a map with retries, limits, a log, progress, events."""
    store = bench.store
    bench.clock.advance(1)
    run = await bench.create(
        step("map", kind=StepKind.MAP, slots=3, queue="q"),
        step("waits", "map", kind=StepKind.EVENT, event="go", queue="q"),
        step("limited", queue="q", limits=(Limit("key", most=1, per_second=100.0),)),
        items={"map": [b"=a", b"=b", b"=c", b"=d"]},
        queue="q",
        key="key",
        tags=("tag",),
        tick=f"tick-{status}",
        backlog=("backlog", 10),
        max_parallel=2,
        timeout_seconds=100.0,
    )
    grants = [await run.start("map", 0), await run.start("map", 1)]
    await run.refused("map", 2)
    await run.finish(grants[0], Items((), retries=(ItemRetry(0, b"error", 1000.0),)))
    await run.finish(await run.start("limited"))
    await store.send_event(run.run_id, "later", b"payload")
    if status is RunStatus.CANCELLED:
        await store.note_progress(run.run_id, 0, b"half")
        await store.append_log(run.run_id, [b"line"])
        await store.cancel(run.run_id, "enough")
    else:
        done = Items((ItemDone(1, b"=B"),), failed=Failed(b"broken"))
        await run.finish(grants[1], done)
    assert await run.status() is status
    await store.append_log(run.run_id, [b"line after the end"])
    await store.note_progress(run.run_id, 0, b"all")
    return run.run_id


async def keys_of(client: Redis, bench: StoreBench) -> list[str]:
    """The keys of a namespace, without what they have in common."""
    prefix = f"{{taskiq_flow:{bench.options.namespace}}}:"
    found = [key.decode() async for key in client.scan_iter(match=prefix + "*", count=1000)]
    return [key.removeprefix(prefix) for key in found]


@pytest.mark.parametrize("status", [RunStatus.CANCELLED, RunStatus.FAILED])
async def test_every_key_expires_after_the_run_has_ended_or_has_a_reason_not_to(
    status: RunStatus, own: StoreBench, own_redis: RedisServer
) -> None:
    await eventful_run(own, status)

    async with client_of(own_redis.url) as client:
        prefix = f"{{taskiq_flow:{own.options.namespace}}}:"
        keys = await keys_of(client, own)
        lasting = [key for key in keys if await client.ttl(prefix + key) == -1]

    indexes = {key for key in lasting if key.startswith(("i:s:", "i:e:", "i:n:", "i:k:", "i:t:"))}
    assert set(lasting) - indexes <= set(KEPT_FOR_EVER)
    assert len(keys) - len(lasting) >= 10, "the run has left fewer keys than this test is about"


async def test_no_key_of_a_run_is_left_when_it_has_been_purged(
    own: StoreBench, own_redis: RedisServer
) -> None:
    for status in (RunStatus.CANCELLED, RunStatus.FAILED):
        await eventful_run(own, status)
    own.clock.advance(1)

    removed = await own.store.purge(before=own.clock())

    own.clock.advance(2000)
    await own.store.due(["q"])  # forgets the times of slots that are no more
    async with client_of(own_redis.url) as client:
        keys = set(await keys_of(client, own))
    assert removed == 2
    assert keys - {"tick:tick-CANCELLED", "tick:tick-FAILED", "ln:key"} == {
        "format", "clock", "feed", "delays",
    }  # fmt: skip


async def test_runs_whose_keys_have_expired_leave_listings_and_indexes(
    own: StoreBench, own_redis: RedisServer
) -> None:
    """A listing leaves them out; every new run takes two of those whose time is over away."""
    runs = [await own.create(step("a"), tags=("tag",)) for _ in range(3)]
    for run in runs:
        await run.run("a")
    async with client_of(own_redis.url) as client:
        prefix = f"{{taskiq_flow:{own.options.namespace}}}:"
        for run in runs[:2]:  # as expiry does
            await client.delete(*[f"{prefix}{kind}:{run.run_id}" for kind in "rve"])

        page = await own.store.list_runs(RunFilter(tag="tag"))
        listed = await client.zcard(prefix + "i:t:tag")
        own.clock.advance(own.options.retention_seconds + 1)
        await own.create(step("a"))
        await own.create(step("a"))

        assert [found.run_id for found in page.runs] == [runs[2].run_id]
        assert listed == 1
        assert await client.zcard(prefix + "i:all") == 2
        assert not await client.exists(prefix + "i:t:tag", prefix + "i:e:COMPLETED")


async def test_a_run_in_creation_is_not_there_and_expires_if_it_is_never_sealed(
    own: StoreBench, own_redis: RedisServer
) -> None:
    seen: list[object] = []
    draft = own.draft(step("map", kind=StepKind.MAP, slots=2), key="key")
    new = draft.new._replace(lengths={0: 5000})

    async def look() -> None:
        async with bench_on(own_redis.url) as other, client_of(own_redis.url) as client:
            store = await other.open(namespace=own.options.namespace)
            page = await store.list_runs(RunFilter())
            seen.extend([await store.get(new.run_id), page.runs, await store.plan(new.run_id)])
            prefix = f"{{taskiq_flow:{own.options.namespace}}}:"
            keys = [key for key in await keys_of(client, own) if new.run_id in key]
            seen.append([0 < await client.ttl(prefix + key) <= 3600 for key in keys])

    def items() -> Iterator[bytes]:
        for number in range(5000):
            if number == 3000:  # parts of it are stored by now
                look_from_another_thread(look)
            yield b"=%d" % number

    await own.store.create(new, {0: items()})

    assert seen == [None, (), None, [True, True, True, True]]
    last = await own.store.items(new.run_id, bound_items_key(0), 4998, 5001)
    assert last == [b"=4998", b"=4999", None]
    async with client_of(own_redis.url) as client:
        prefix = f"{{taskiq_flow:{own.options.namespace}}}:"
        assert await client.ttl(f"{prefix}r:{new.run_id}") == -1


async def test_a_limit_that_is_held_for_hours_is_not_forgotten_while_it_is_renewed(
    own: StoreBench, own_redis: RedisServer
) -> None:
    run = await own.create(step("a", limits=(Limit("api", most=1),)))
    grant = await run.start("a")

    async with client_of(own_redis.url) as client:
        key = f"{{taskiq_flow:{own.options.namespace}}}:lh:api"
        await client.expire(key, 5)  # most of an hour has passed
        await own.store.renew([Held(grant.address, grant.token)])

        assert await client.ttl(key) > 3000


def look_from_another_thread(look: Callable[[], Any]) -> None:
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, look()).result()


ANY_TEXT = ["a|b|0|1", "{x}:{y}", "nul\x00nul", "日本 ☃ 🙂", "*?[a]\\", ' "\n']


@pytest.mark.parametrize("text", ANY_TEXT, ids=ascii)
async def test_any_text_may_name_anything(text: str, bench: StoreBench) -> None:
    run = await bench.create(
        step(text, queue=text, route=text, task=text, event=None),
        step("waits", text, kind=StepKind.EVENT, event=text, queue=text),
        run_id=f"{bench.options.namespace}{text}",
        name=text,
        key=text,
        tags=(text, "other"),
        kind=text,
        queue=text,
        tick=text,
        backlog=(text, 1),
        publish=True,
    )
    bench.clock.advance(bench.options.kick_seconds)

    (wake,) = await bench.due(text)
    await run.run(text)
    await bench.store.send_event(run.run_id, text, b"payload")
    page = await bench.store.list_runs(RunFilter(name=text, kind=text, tag=text))

    assert wake.ready is not None
    assert wake.ready == run.ready[0]
    assert (wake.ready.queue, wake.ready.route, wake.ready.task) == (text, text, text)
    assert [found.run_id for found in page.runs] == [run.run_id]
    assert page.runs[0].status is RunStatus.COMPLETED
    assert await bench.store.find(text) == run.run_id
    assert (await run.events())[-3].detail == text
    assert [found.name for found in (await run.snapshot()).steps] == [text, "waits"]


@pytest.mark.parametrize("text", ANY_TEXT, ids=ascii)
async def test_whoever_waits_for_a_limit_is_found_by_any_name(text: str, bench: StoreBench) -> None:
    limits = (Limit(text, most=1),)
    first = await bench.create(step("a", limits=limits))
    second = await bench.create(step("a", limits=limits), run_id=f"{bench.options.namespace}{text}")
    grant = await first.start("a")
    await second.refused("a")

    finished = await first.finish(grant)

    assert [entry.address.run_id for entry in finished.ready] == [second.run_id]


# --- size ----------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_plan_of_20_000_steps_is_stored_in_parts_and_runs(bench: StoreBench) -> None:
    """One step, 20,000 that need it, and one that needs all of those."""
    middle = range(1, 20_001)
    last = len(middle) + 1
    steps = [
        StepRecord(0, "first", "task", b"{}", successors=tuple(middle)),
        *[StepRecord(k, f"step {k}", "task", b"{}", (last,), 1, sources=(0,)) for k in middle],
        StepRecord(last, "last", "task", b"{}", need=len(middle), sources=tuple(middle)),
    ]
    run = bench.draft()
    run.index.update({found.name: found.index for found in steps})

    await bench.store.create(run.new._replace(steps=steps))
    finished = await run.run("first")
    done = await asyncio.gather(*[run.run(found.name) for found in steps[1:1000]])

    assert len(finished.ready) == len(middle)
    assert not any(answer.ready for answer in done)
    snapshot = await run.snapshot()
    assert snapshot.total == len(steps)
    assert snapshot.remaining == len(steps) - 1000
    assert await run.refused("last") is RefusalReason.GONE


@pytest.mark.slow
async def test_100_000_items_pass_through_without_being_held(bench: StoreBench) -> None:
    """Neither creating the run nor working on it takes memory for all of its items."""
    count, want = 100_000, 1000
    draft = bench.draft(step("map", kind=StepKind.MAP, slots=4))
    new = draft.new._replace(lengths={0: count})
    tracemalloc.start()
    ready = await bench.store.create(new, {0: (b"=" + b"x" * 100 for _ in range(count))})

    async def work(slot: int) -> None:
        grant: Grant | None = await draft.start("map", slot, want=want)
        while grant is not None:
            done = Items(tuple(ItemDone(i.number, i.value) for i in grant.items), want=want)
            grant = (await draft.finish(grant, done, next_token=secrets.token_hex(8))).grant

    await asyncio.gather(*[work(entry.address.slot) for entry in ready])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert await draft.status() is RunStatus.COMPLETED
    assert peak < 20 * 1024 * 1024, "the items together take 10 MB, and twice that as objects"
    assert await bench.store.items(new.run_id, 0, count - 1, count) == [b"=" + b"x" * 100]


async def test_a_snapshot_of_many_steps_comes_in_pages(bench: StoreBench) -> None:
    run = await bench.create(*[step(f"step {number}") for number in range(2500)])
    for number in (0, 999, 1000, 2499):
        await run.run(f"step {number}")

    snapshot = await run.snapshot()

    assert [found.index for found in snapshot.steps] == [0, 999, 1000, 2499]


# --- who hears of it ---------------------------------------------------------------------------


async def test_ends_are_heard_again_after_the_subscription_broke(
    own: StoreBench, own_redis: RedisServer
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    assert await own.store.listen(lambda run_id, _: heard.put_nowait(run_id))
    async with client_of(own_redis.url) as client:
        channel = f"{{taskiq_flow:{own.options.namespace}}}:ended"
        await client.client_kill_filter(_type="pubsub")
        await until(lambda: subscribers(client, channel), lambda count: count > 0)

    run = await own.create(step("a"))
    await run.run("a")

    assert await asyncio.wait_for(heard.get(), 10) == run.run_id


async def test_a_listener_that_raises_costs_the_others_nothing(
    bench: StoreBench, caplog: pytest.LogCaptureFixture
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    def raises(run_id: str, status: RunStatus) -> None:
        raise RuntimeError(f"{run_id} {status}")

    await bench.store.listen(raises)
    await bench.store.listen(lambda run_id, _: heard.put_nowait(run_id))

    run = await bench.create(step("a"))
    await run.run("a")

    assert await asyncio.wait_for(heard.get(), 10) == run.run_id
    assert run.run_id in caplog.text


async def test_other_calls_do_not_wait_behind_one_that_follows_the_feed(
    own: StoreBench, own_redis: RedisServer
) -> None:
    """The read that waits in the server has a connection of its own, or this would hang."""
    following = asyncio.create_task(own.store.feed(wait_seconds=60))
    async with client_of(own_redis.url) as client:
        await until(lambda: waiting(client), lambda count: count > 0)

    run = await own.create(step("a"))
    events, position = await asyncio.wait_for(following, 10)

    assert [event.run_id for event in events] == [run.run_id]
    assert (await own.store.feed(after=position))[0] == []


async def test_a_follower_that_is_given_up_leaves_no_connection_behind(
    own: StoreBench, own_redis: RedisServer
) -> None:
    following = asyncio.create_task(own.store.feed(wait_seconds=60))
    async with client_of(own_redis.url) as client:
        await until(lambda: waiting(client), lambda count: count > 0)

        following.cancel()

        await until(lambda: waiting(client), lambda count: count == 0)
    assert await own.store.workers() == []


async def test_the_feed_may_stop_and_go_on_inside_what_one_call_recorded(
    bench: StoreBench,
) -> None:
    position = (await bench.store.feed())[1]
    run = await bench.create(step("a"))
    grant = await run.start("a")  # records two events
    await run.finish(grant, Done(b"1"))  # and two more

    found = []
    for _ in range(5):
        events, position = await bench.store.feed(after=position, limit=1)
        found += events

    assert found == await run.events()
    assert len(found) == 5


async def test_time_is_the_servers_unless_a_clock_is_given(redis_url: str, namespace: str) -> None:
    """A client whose own clock is wrong must not move a lease."""
    options = StoreOptions(namespace=namespace)
    store, manual = RedisRunStore(redis_url, options), ManualClock()
    async with bench_on(redis_url) as bench, client_of(redis_url) as client:
        run = await bench.create(step("a"))
        draft = bench.draft(step("a"), store=store)
        await store.create(draft.new)

        seconds, _ = await client.time()
        snapshot = await store.get(draft.run_id)
        await store.close()

        assert (await run.snapshot()).created_at == manual()
        assert snapshot is not None
        assert abs(snapshot.created_at - seconds) < 30
