"""Applications with real workers, of any broker and store; their logs are shown with a failure."""

import secrets
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.apps.settings import AppSettings, BrokerKind
from tests.integration.workers.harness import READY_LINE, App
from tests.support.fixtures import address_of

SERVER_OF = {
    BrokerKind.LIST: "redis",
    BrokerKind.STREAM: "redis",
    BrokerKind.RABBIT: "rabbitmq",
    BrokerKind.NATS: "nats",
    BrokerKind.JETSTREAM_PUSH: "nats",
    BrokerKind.JETSTREAM_PULL: "nats",
}

QUICK = {"lease_seconds": 2.0, "kick_seconds": 2.0}
"""Settings by which what stood still is found soon."""

LOG_CHARACTERS = 20_000
"""So much of the end of a worker's log is shown with a failure."""

apps_key = pytest.StashKey[list[App]]()

MakeApp = Callable[..., App]


@pytest.fixture
def make_app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeApp]:
    """Make applications; arguments as of `build`."""
    made = request.node.stash.setdefault(apps_key, [])

    def make(broker: BrokerKind = BrokerKind.LIST, **options: Any) -> App:
        app = build(request, tmp_path / f"app-{len(made) + 1}", broker, **options)
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


def _place(broker: BrokerKind, store: str) -> Any:
    names = {SERVER_OF[broker], store}
    marks = [getattr(pytest.mark, name) for name in sorted(names)]
    return pytest.param((broker, store), id=f"{broker}-{store}", marks=marks)


PLACES = [
    _place(BrokerKind.LIST, "redis"),
    _place(BrokerKind.STREAM, "redis"),
    _place(BrokerKind.RABBIT, "postgres"),
    _place(BrokerKind.RABBIT, "redis"),
    _place(BrokerKind.NATS, "postgres"),
    _place(BrokerKind.JETSTREAM_PUSH, "redis"),
    _place(BrokerKind.JETSTREAM_PULL, "postgres"),
]


@pytest.fixture(scope="module", params=PLACES)
def served_app(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[App]:
    """An application on every broker, with a store, and one worker for all tests of a module.

    A client that leaves at once is started beside the worker: both take their time for that.
    """
    broker, store = request.param
    app = build(request, tmp_path_factory.mktemp("app") / "app", broker, store=store)
    try:
        app.spawn_script("leave")
        app.spawn().wait_for_log(READY_LINE)
        yield app
    finally:
        app.close()


def build(
    request: pytest.FixtureRequest,
    directory: Path,
    broker: BrokerKind,
    *,
    store: str | None = "redis",
    broker_url: str | None = None,
    queue: str | None = None,
    results_url: str = "",
    **flow: Any,
) -> App:
    """Make an application with a namespace and a queue of its own, unless they are given.

    ``store`` is a URL, the name of a server, or None for the broker's own; ``flow`` are settings
    of Taskiq-Flow.
    """
    directory.mkdir()
    name = f"test-{secrets.token_hex(6)}"
    settings = AppSettings(
        broker=broker,
        broker_url=broker_url or address_of(SERVER_OF[broker]),
        queue=queue or name,
        journal=directory / "journal",
        results_url=results_url,
        flow={"namespace": name, **QUICK, **_store(request, store), **flow},
    )
    return App(settings, directory)


def _store(request: pytest.FixtureRequest, store: str | None) -> dict[str, str]:
    if store is None:
        return {}
    if store == "postgres":
        return {"store_url": request.getfixturevalue("_worker_database")}
    return {"store_url": store if "://" in store else address_of(store)}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of all workers with a failed test."""
    report = yield
    if report.failed:
        taken = getattr(item, "funcargs", {}).values()
        apps = [*item.stash.get(apps_key, []), *(one for one in taken if isinstance(one, App))]
        for app in apps:
            for number, worker in enumerate(app.workers, 1):
                report.sections.append(
                    (f"{app.settings.broker} worker {number}", worker.log[-LOG_CHARACTERS:])
                )
    return report
