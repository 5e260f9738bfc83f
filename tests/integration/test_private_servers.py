"""The servers of the tests: what `tools/servers.py` promises to whoever relies on it."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from tests.support.tree import ROOT
from tools.servers import PostgresServer, RedisServer
from tools.serving.keeper import is_alive, tree
from tools.serving.processes import wait_until

RUN = [sys.executable, str(ROOT / "tools" / "servers.py"), "--only", "redis", "--no-install"]


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if "TASKIQ_FLOW" not in name}
    return subprocess.run(
        [*RUN, *arguments],
        env={**inherited, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_redis_killed_and_started_again_still_has_what_it_flushed(
    own_redis: RedisServer,
) -> None:
    async with Redis.from_url(own_redis.url) as client:
        await client.config_set("appendfsync", "always")
        await client.set("key", "value")

        await asyncio.to_thread(own_redis.kill)
        await asyncio.to_thread(own_redis.start)

    async with Redis.from_url(own_redis.url) as client:
        assert await client.get("key") == b"value"


async def test_a_frozen_redis_answers_nothing_until_it_is_thawed(own_redis: RedisServer) -> None:
    async with Redis.from_url(own_redis.url, socket_timeout=60) as client:
        await client.ping()
        own_redis.freeze()

        waiting = asyncio.create_task(client.ping())
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        own_redis.thaw()

        assert done == set()
        assert await waiting


async def test_postgres_killed_and_started_again_still_has_what_it_committed(
    own_postgres: PostgresServer,
) -> None:
    connection = await asyncpg.connect(own_postgres.url)
    await connection.execute("CREATE TABLE kept AS SELECT 42 AS number")

    await asyncio.to_thread(own_postgres.kill)
    connection.terminate()
    await asyncio.to_thread(own_postgres.start)

    connection = await asyncpg.connect(own_postgres.url)
    assert await connection.fetchval("SELECT number FROM kept") == 42
    await connection.close()


async def test_each_pytest_worker_has_a_database_of_its_own(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)

    name = await connection.fetchval("SELECT current_database()")
    await connection.close()

    assert name.startswith("taskiq_flow_")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_the_runner_no_server_and_no_file_stays(
    number: signal.Signals, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    runner = subprocess.Popen(
        [*RUN, "--", "sh", "-c", f"touch {ready}; exec tail --pid=$PPID -f /dev/null"],
        env={**os.environ, "TASKIQ_FLOW_TEST_REDIS_URL": "", "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
    )
    assert wait_until(ready.exists, timeout_seconds=30)
    started = [pid for pid in tree(runner.pid) if pid != runner.pid]
    assert len(started) >= 3, "the command, Redis and its keeper"

    runner.send_signal(number)
    runner.wait(timeout=30)

    assert wait_until(lambda: not any(map(is_alive, started)), timeout_seconds=10)
    assert wait_until(lambda: list(tmp_path.iterdir()) == [ready], timeout_seconds=5)


def test_the_exit_code_is_the_one_of_the_command() -> None:
    assert run("--", "sh", "-c", "exit 7").returncode == 7


def test_the_command_is_told_where_its_server_is() -> None:
    done = run("--", "sh", "-c", "echo at $TASKIQ_FLOW_TEST_REDIS_URL")

    assert "at redis://127.0.0.1:" in done.stdout


def test_a_server_that_the_caller_brings_is_used_and_none_is_started() -> None:
    done = run("--", "true", TASKIQ_FLOW_TEST_REDIS_URL="redis://brought:6379/0")

    assert "environment  redis://brought:6379/0" in done.stdout


@pytest.mark.parametrize(("ci", "exit_code"), [("true", 3), ("", 0)])
def test_a_missing_server_is_named_and_fails_only_on_ci(ci: str, exit_code: int) -> None:
    """Without programs on PATH there is no NATS; its Debian path is not a fixed one."""
    done = subprocess.run(
        [sys.executable, "-c", MISSING, "--only", "nats", "--no-install", "--", "true"],
        env={**os.environ, "CI": ci, "TASKIQ_FLOW_TEST_NATS_URL": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "nats" in done.stdout
    assert "NOT HERE" in done.stdout
    assert done.returncode == exit_code


MISSING = """
import sys
from tools import servers
servers.locate = lambda name: None
sys.exit(servers.main(sys.argv[1:]))
"""
