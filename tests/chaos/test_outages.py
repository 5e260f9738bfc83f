"""Servers are restarted and frozen while steps run: nothing is lost, no live step starts twice."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.chaos.cluster import Cluster, cluster, overlaps, wait_until
from tests.chaos.record import ended, judge, read_started
from tools.servers import PostgresServer, RedisServer

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(240)]

LONG_STEPS = 12


def start_long_steps(workers: Cluster, started: Path) -> None:
    """Start long steps on two workers, and wait until all of them have begun."""
    for _ in range(2):
        workers.start_worker()
    client = workers.run_client(-LONG_STEPS, 0, started)
    wait_until(lambda: client.poll() is not None, 60, "the client to start its runs")
    wait_until(lambda: len(workers.bodies()) == LONG_STEPS, 60, "all steps to begin")


def finish(workers: Cluster, started: Path, url: str, namespace: str) -> None:
    """Let all runs end, and find each step begun once, recorded once, with its result."""
    runs = read_started(started)
    wait_until(lambda: ended(url, namespace, runs) == len(runs), 90, "the end of all runs")
    verdict = judge(url, namespace, runs)
    bodies = workers.bodies()

    assert len(runs) == LONG_STEPS
    assert not verdict.wrong
    assert not verdict.recorded_twice
    assert not overlaps(bodies)
    assert len(bodies) == LONG_STEPS, "a live step was started a second time"


async def test_a_redis_frozen_for_longer_than_a_lease_starts_no_live_step_twice(
    own_redis: RedisServer, namespace: str, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    with cluster(
        tmp_path,
        broker="list",
        redis=own_redis.url,
        store=own_redis.url,
        namespace=namespace,
        long="9",
    ) as workers:
        await asyncio.to_thread(start_long_steps, workers, started)

        own_redis.freeze()
        await asyncio.sleep(5)  # the lease is 2 s
        own_redis.thaw()

        await asyncio.to_thread(finish, workers, started, own_redis.url, namespace)


async def test_a_redis_with_aof_that_is_restarted_loses_no_run(
    own_redis: RedisServer, namespace: str, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    with cluster(
        tmp_path,
        broker="stream",
        redis=own_redis.url,
        store=own_redis.url,
        namespace=namespace,
        long="7",
    ) as workers:
        await asyncio.to_thread(start_long_steps, workers, started)
        await asyncio.sleep(1.2)  # appendfsync is everysec

        await asyncio.to_thread(own_redis.restart)

        runs = read_started(started)
        await asyncio.to_thread(
            wait_until,
            lambda: ended(own_redis.url, namespace, runs) == len(runs),
            90,
            "the end of all runs",
        )
        verdict = await asyncio.to_thread(judge, own_redis.url, namespace, runs)
        bodies = workers.bodies()

    assert len(runs) == LONG_STEPS
    assert not verdict.wrong
    assert not verdict.recorded_twice
    assert not overlaps(bodies)


async def test_a_postgresql_that_is_restarted_starts_no_live_step_twice(
    own_postgres: PostgresServer, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    with cluster(
        tmp_path,
        broker="list",
        redis=redis_url,
        store=own_postgres.url,
        namespace=namespace,
        long="8",
    ) as workers:
        await asyncio.to_thread(start_long_steps, workers, started)

        await asyncio.to_thread(own_postgres.stop)
        await asyncio.sleep(4)
        await asyncio.to_thread(own_postgres.start)

        await asyncio.to_thread(finish, workers, started, own_postgres.url, namespace)


async def test_a_new_run_waits_for_a_store_that_is_frozen_and_says_so(
    own_redis: RedisServer, namespace: str, tmp_path: Path
) -> None:
    """`kiq` gives a clear error in bounded time, and nothing was kept."""
    started = tmp_path / "started"
    with cluster(
        tmp_path, broker="list", redis=own_redis.url, store=own_redis.url, namespace=namespace
    ) as workers:
        own_redis.freeze()
        begun = time.monotonic()
        client = workers.run_client(0, 1, started)
        await asyncio.to_thread(
            wait_until, lambda: client.poll() is not None, 60, "the client to give up"
        )
        own_redis.thaw()

    assert client.returncode != 0
    assert time.monotonic() - begun < 60
    assert not read_started(started)
    assert "cannot be reached" in (tmp_path / "client.log").read_text()
