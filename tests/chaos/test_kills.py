"""Workers and clients are killed all the time; every run that was started ends, and ends right.

A round is repeatable by its seed: `TASKIQ_FLOW_CHAOS_SEED=7 make chaos`. Short by default.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.chaos.cluster import cluster, overlaps, wait_until
from tests.chaos.record import ended, judge, read_started

LONG = os.environ.get("TASKIQ_FLOW_CHAOS") == "long"
RUNS = 200
KILL_SECONDS = 60 if LONG else 9
SEEDS = range(5) if LONG else range(1)
PAIRS = [("list", "redis"), ("stream", "postgres")]
PAIRS += [("stream", "redis"), ("list", "postgres")] if LONG else []
LEASE = 5

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("broker", "store"), PAIRS)
def test_every_run_ends_whoever_is_killed(
    broker: str,
    store: str,
    seed: int,
    redis_url: str,
    request: pytest.FixtureRequest,
    namespace: str,
    tmp_path: Path,
) -> None:
    """200 pipelines of mixed kinds, three workers, one of them killed every second."""
    store_url = redis_url if store == "redis" else request.getfixturevalue("postgres_url")
    chance = random.Random(int(os.environ.get("TASKIQ_FLOW_CHAOS_SEED", seed)))
    started = tmp_path / "started"

    with cluster(
        tmp_path, broker=broker, redis=redis_url, store=store_url, namespace=namespace
    ) as workers:
        for _ in range(3):
            workers.start_worker()
        _start_with_a_killed_client(workers, started, chance)
        until = time.monotonic() + KILL_SECONDS
        while time.monotonic() < until:
            time.sleep(1.0)
            workers.kill(chance.choice(workers.workers))
            workers.start_worker()
        runs = read_started(started)
        wait_until(
            lambda: ended(store_url, namespace, runs) == len(runs),
            180,
            f"the end of {len(runs)} runs, {ended(store_url, namespace, runs)} have ended",
        )
        verdict = judge(store_url, namespace, runs)
        bodies = workers.bodies()

    assert len(runs) >= RUNS
    assert not verdict.not_ended
    assert not verdict.wrong
    assert not verdict.recorded_twice
    assert not overlaps(bodies)


def _start_with_a_killed_client(workers, started: Path, chance: random.Random) -> None:  # type: ignore[no-untyped-def]
    """Start the runs from two clients; the first is killed on the way."""
    first = workers.run_client(0, RUNS, started)
    enough = chance.randrange(20, RUNS // 2)
    wait_until(lambda: len(read_started(started)) >= enough, 60, "the first client to start runs")
    first.send_signal(signal.SIGKILL)
    first.wait()
    done = len(read_started(started))
    second = workers.run_client(done, RUNS + done, started)
    wait_until(lambda: second.poll() is not None, 60, "the second client to start its runs")
    assert second.returncode == 0


@pytest.mark.parametrize("options", [(), ("--use-process-pool",)], ids=["threads", "processes"])
def test_a_killed_workers_step_is_taken_over_within_the_lease_and_two_seconds(
    options: tuple[str, ...], redis_url: str, namespace: str, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    with cluster(
        tmp_path,
        *options,
        broker="list",
        redis=redis_url,
        store=redis_url,
        namespace=namespace,
        long="60",
        # Not shorter: a store that a busy machine has not asked for half a lease counts as having
        # been away, and gives leases another one.
        lease=str(LEASE),
    ) as workers:
        first = workers.start_worker()
        client = workers.run_client(-1, 0, started)  # starts one long step, see `app.start`
        client.wait(60)
        wait_until(lambda: len(workers.bodies()) == 1, 60, "the step to begin")
        workers.start_worker()
        time.sleep(6)  # the second worker is up and has looked for what is due

        workers.kill(first)
        killed = max(workers.killed_at.values())
        wait_until(lambda: len(workers.bodies()) == 2, 20, "another worker to take the step over")
        again = workers.bodies()[1].begin

    assert again - killed <= LEASE + 2.0
