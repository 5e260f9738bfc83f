"""The command line beside a real worker on Redis."""

import os
from collections.abc import Iterator

import pytest

from tests.integration.apps.settings import BrokerKind
from tests.integration.cli.conftest import Cli
from tests.integration.workers.conftest import build
from tests.integration.workers.harness import READY_LINE, App

pytestmark = pytest.mark.redis

TARGET = "tests.integration.apps.commanded"
BROKER = ("--broker", "tests.integration.apps.plain:broker")
LONELY = """
import os
from taskiq_redis import ListQueueBroker
from taskiq_flow import Pipeline, PipelineMiddleware

broker = ListQueueBroker(os.environ["TASKIQ_FLOW_STORE_URL"], queue_name="lonely")
broker.add_middlewares(PipelineMiddleware())

@broker.task
async def nothing(value: int) -> int:
    return value

p = Pipeline(broker, nothing)
"""


@pytest.fixture(scope="module")
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    made = build(request, tmp_path_factory.mktemp("app") / "app", BrokerKind.LIST)
    try:
        made.spawn().wait_for_log(READY_LINE)
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def settings(cli: Cli, app: App) -> None:
    os.environ.update(app.settings.as_env())


def test_a_pipeline_is_run_by_workers_and_its_result_is_written_here(cli: Cli) -> None:
    said = cli("run", f"{TARGET}:squares", *BROKER, "--arg", "4")

    assert (said.code, said.out) == (0, "[0, 1, 4, 9]\n")
    assert "on the workers of" in said.err


def test_a_detached_run_is_seen_and_steered_from_elsewhere(cli: Cli) -> None:
    run_id = cli("run", f"{TARGET}:waiting", *BROKER, "--detach").out.strip()
    going = cli("list", "--name", "waiting", "--json").json["runs"]
    shown = cli("show", run_id[-8:])

    sent = cli("send-event", run_id[-8:], "go", "41", *BROKER)
    watched = cli("watch", run_id[-8:])

    assert run_id in [run["run_id"] for run in going]
    assert "event 'go'" in shown.out
    assert (sent.code, watched.code) == (0, 0)
    assert cli("show", run_id, "--json").json["result"]["value"] == 42


def test_a_run_is_cancelled_and_another_one_retried_on_the_workers(cli: Cli) -> None:
    waiting = cli("run", f"{TARGET}:waiting", *BROKER, "-d", "--json").json["run_id"]
    failed = cli("run", f"{TARGET}:failing", *BROKER, "-q", "-a", "1", "--json").json

    cancelled = cli("cancel", waiting, "--reason", "not needed")
    again = cli("retry", failed["run_id"], *BROKER, "--json").json["run_id"]

    assert cancelled.code == 0
    assert (cli("watch", waiting).code, cli("watch", again).code) == (1, 1)
    assert "not needed" in cli("show", waiting).out
    assert cli("show", again, "--json").json["retry_of"] == failed["run_id"]
    assert failed["error"]["type"] == "ValueError"


def test_workers_are_listed_and_the_doctor_names_what_is_guaranteed(cli: Cli) -> None:
    workers = cli("workers", "--json").json
    said = cli("doctor", *BROKER)

    assert len(workers) == 1
    assert str(workers[0]["pid"]) in cli("workers").out
    assert said.code == 0, said.out
    assert "at most once" in said.out
    assert "a lost message costs time, not work" in said.out
    assert "1 serve" in said.out


def test_a_run_that_nobody_takes_says_so_wherever_it_is_looked_at(cli: Cli) -> None:
    lonely = cli.write(LONELY)
    run_id = cli("run", f"{lonely}:p", "--broker", f"{lonely}:broker", "-a", "4", "-d").out.strip()

    shown = cli("show", run_id)
    watched = cli("watch", run_id, "--timeout", "5")
    waiting = cli("run", f"{TARGET}:waiting", *BROKER, "-d").out.strip()

    assert (shown.code, watched.code) == (0, 124)
    for said in (shown, watched):
        assert "no live worker serves queue" in said.out
    assert "waits for event 'go'" in cli("show", waiting).out
    assert " left" not in cli("show", waiting).out
    assert cli("cancel", waiting).code == 0


def test_the_doctor_finds_that_nobody_serves_a_queue(cli: Cli) -> None:
    store = os.environ["TASKIQ_FLOW_STORE_URL"]

    said = cli("doctor", *BROKER, "--store", store, "--namespace", "nobody-is-here", "--json")

    workers = next(check for check in said.json["checks"] if check["name"] == "workers")
    assert workers["verdict"] == "fault"
    assert "taskiq worker" in workers["fix"]
    assert said.code == 1
