"""Two applications on one store never meet, and neither do two brokers of one namespace."""

from urllib.parse import urlsplit, urlunsplit

import pytest

from taskiq_flow import Pipeline
from tests.integration.apps.settings import BrokerKind
from tests.integration.workers.conftest import MakeApp
from tests.integration.workers.harness import App

STOOD_STILL = "step(s) that stood still"
"""What recovery logs when it sends a message for a step."""


def two_apps(make_app: MakeApp, redis_url: str, namespace: str, apart: str) -> tuple[App, App]:
    """Make two applications on one store that have nothing but one fact to tell them apart."""
    shared = {"namespace": namespace, "store": redis_url}
    match apart:
        case "namespaces":
            return make_app(store=redis_url), make_app(store=redis_url)
        case "queues":
            return make_app(**shared), make_app(**shared)
        case "databases":
            other = urlunsplit(urlsplit(redis_url)._replace(path="/1"))
            first = make_app(**shared, queue=namespace)
            return first, make_app(**shared, queue=namespace, broker_url=other)
        case _:
            stream = make_app(BrokerKind.STREAM, **shared, queue=f"{namespace}-stream")
            return make_app(**shared), stream


@pytest.mark.parametrize("apart", ["namespaces", "queues", "databases", "kinds"])
async def test_a_worker_leaves_the_runs_of_another_application_alone(
    make_app: MakeApp, redis_url: str, namespace: str, apart: str
) -> None:
    """A worker of the first sees all of a run of the second come due, and does not touch it."""
    first, second = two_apps(make_app, redis_url, namespace, apart)
    worker = await first.start("--log-level", "DEBUG")

    async with first.client() as ours, second.client() as theirs:
        step = theirs["add_noted"]
        waiting = await Pipeline(theirs.broker, step).call_next(step).kiq(1)
        # Its message counts as lost after two seconds: so long later a step of ours is due.
        retry = Pipeline(ours.broker, ours["flaky"]).with_retry(2, delay=4, jitter=False)
        own = await retry.kiq("isolation", failures=1)
        assert (await own.wait_result(timeout=30)).return_value == 2

        assert str(await waiting.get_status()) == "PENDING"
        assert worker.log.count(STOOD_STILL) == 1, "for the retry"
        assert first.journal.notes("add_noted") == []

        await second.start()

        assert (await waiting.wait_result(timeout=30)).return_value == 3
    assert len(second.journal.notes("add_noted")) == 2
    assert first.journal.notes("add_noted") == []
