"""Applications on one store never meet, and neither do two brokers of one namespace."""

import asyncio
from urllib.parse import urlsplit, urlunsplit

from taskiq_flow import Pipeline, Task
from tests.integration.apps.settings import BrokerKind
from tests.integration.workers.conftest import MakeApp
from tests.integration.workers.harness import App

STOOD_STILL = "step(s) that stood still"
"""What recovery logs when it sends a message for a step."""


def neighbours(make_app: MakeApp, redis_url: str, namespace: str) -> tuple[App, dict[str, App]]:
    """Make an application, and others that have nothing but one fact to tell them from it."""
    shared = {"namespace": namespace, "store": redis_url}
    other_database = urlunsplit(urlsplit(redis_url)._replace(path="/1"))
    first = make_app(**shared, queue=namespace)
    return first, {
        "namespace": make_app(store=redis_url),
        "queue": make_app(**shared),
        "database": make_app(**shared, queue=namespace, broker_url=other_database),
        "kind": make_app(BrokerKind.STREAM, **shared, queue=f"{namespace}-stream"),
    }


async def start_chain(app: App) -> str:
    """Start a run as a client that is gone afterwards; returns its id."""
    async with app.client() as client:
        step = client["add_noted"]
        return (await Pipeline(client.broker, step).call_next(step).kiq(1)).task_id


async def test_a_worker_leaves_the_runs_of_other_applications_alone(
    make_app: MakeApp, redis_url: str, namespace: str
) -> None:
    """A worker of the first sees runs of all others come due, and does not touch them."""
    first, others = neighbours(make_app, redis_url, namespace)
    worker = await first.start("--log-level", "DEBUG")
    waiting = {apart: await start_chain(app) for apart, app in others.items()}

    async with first.client() as client:
        # Their messages count as lost after two seconds: so long later a step of ours is due.
        retry = Pipeline(client.broker, client["flaky"]).with_retry(2, delay=4, jitter=False)
        own = await retry.kiq("isolation", failures=1)
        assert (await own.wait_result(timeout=30)).return_value == 2

    assert worker.log.count(STOOD_STILL) == 1, "for the retry"
    assert first.journal.notes("add_noted") == []

    await asyncio.gather(*(app.start() for app in others.values()))
    for apart, app in others.items():
        async with app.client() as client:
            task = Task(waiting[apart], client.broker)
            assert (await task.wait_result(timeout=30)).return_value == 3, apart
        assert len(app.journal.notes("add_noted")) == 2, apart
    assert first.journal.notes("add_noted") == []
    assert worker.log.count(STOOD_STILL) == 1
