"""Rates, cancels, events, metrics and traces across one worker with two child processes."""

import asyncio
import json
import re
import socket
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from taskiq_flow import Pipeline, PipelineError, RunEndedError, send_event
from taskiq_flow.engine.children import child_tag
from taskiq_flow.engine.client import RunClient
from taskiq_flow.exceptions import PipelineCancelledError
from taskiq_flow.model.records import RunFilter
from taskiq_flow.tracing import TracingMiddleware
from tests.integration.apps.watched import RATE, provider, register_rated
from tests.integration.workers.conftest import PLACES, QUICK, build
from tests.integration.workers.harness import READY_LINE, App, Client, eventually
from tools.serving.processes import wait_until

pytestmark = pytest.mark.redis

PARKED = "step_parked"


@pytest.fixture(scope="module")
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def app(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, port: int
) -> Iterator[App]:
    broker, store = PLACES[0].values[0]
    app = build(request, tmp_path_factory.mktemp("watched") / "app", broker, store=store)
    try:
        worker = app.spawn("--workers", "2", module="watched", FLOW_APP_METRICS_PORT=str(port))
        worker.wait_for_log(READY_LINE, seconds=60)
        wait_until(lambda: worker.log.count(READY_LINE) == 2, timeout_seconds=60)
        yield app
    finally:
        app.close()


@pytest.fixture
async def client(app: App) -> AsyncIterator[Client]:
    async with app.client(TracingMiddleware(provider(app.directory))) as client:
        register_rated(client.broker)
        yield client


async def parked(task: Any) -> None:
    async for event in task.events():
        if event.type == PARKED:
            return


async def test_a_rate_holds_between_two_processes_that_both_work(app: App, client: Client) -> None:
    single = Pipeline(client.broker, client["rated"])
    tasks = await asyncio.gather(*(single.kiq(number) for number in range(30)))
    for task in tasks:
        await task.wait_result(timeout=30)

    store = RunClient.of(client.broker).store
    events = [event for task in tasks for event in await store.events(task.run_id)]
    starts = sorted(event.at for event in events if event.type == "step_started")
    assert len(starts) == 30
    # The store's clock has milliseconds.
    assert min(b - a for a, b in pairwise(starts)) > 1 / RATE - 0.002
    assert len({note.pid for note in app.journal.notes("rated")}) == 2


@pytest.mark.parametrize("waits", ["sleeping", "waiting"])
async def test_a_cancelled_run_that_no_worker_holds_ends_at_once_and_never_goes_on(
    app: App, client: Client, waits: str
) -> None:
    pipeline = Pipeline(client.broker, client["add"])
    pipeline = pipeline.sleep(2.5) if waits == "sleeping" else pipeline.wait_for("go")
    task = await pipeline.call_next(client["add_noted"]).kiq(1)
    async for event in task.events():
        if event.type == "step_completed":
            break

    await task.cancel("enough")
    with pytest.raises(PipelineCancelledError, match="enough"):
        await task.wait_result(timeout=2)

    if waits == "waiting":
        with pytest.raises(RunEndedError):
            await task.send_event("go", 1)
    else:  # longer than it would have slept
        await (await Pipeline(client.broker, client["pause"]).kiq(2.7)).wait_result(timeout=20)
    assert app.journal.notes("add_noted") == []


async def test_a_parent_is_told_at_once_of_a_child_that_was_cancelled(client: Client) -> None:
    inner = Pipeline(client.broker, client["add"]).wait_for("never")
    task = await Pipeline(client.broker).call_next(inner).kiq(1)
    store = RunClient.of(client.broker).store

    async def child() -> str | None:
        runs = (await store.list_runs(RunFilter(tag=child_tag(task.run_id)))).runs
        return runs[0].run_id if runs else None

    await eventually(lambda: _is_there(child))
    await RunClient.of(client.broker).cancel(str(await child()), "this one only")

    with pytest.raises(PipelineError, match="this one only"):
        await task.wait_result(timeout=3)


async def _is_there(found: Any) -> bool:
    return await found() is not None


async def test_an_event_from_a_process_without_a_broker_is_seen_when_workers_look(
    client: Client,
) -> None:
    """They do when a message counts as lost: after the setting `kick_seconds`, 2 s here."""
    task = await Pipeline(client.broker, client["add"]).wait_for("go").kiq(1)
    await parked(task)

    began = time.monotonic()
    await send_event(task.run_id, "go", 41, store=RunClient.of(client.broker).store)

    assert (await task.wait_result(timeout=30)).return_value == 41
    assert time.monotonic() - began < 3 * QUICK["kick_seconds"] + 2


async def test_each_process_shows_its_own_calls_and_all_show_the_runs_of_both(
    app: App, client: Client
) -> None:
    # The next port after a taken one may be somebody else's.
    ports = [int(port) for port in re.findall(r"served at http://\S+:(\d+)/", app.workers[0].log)]
    before = [await scrape(port) for port in ports]
    pipeline = Pipeline(client.broker).map(client["square"], range(300), max_parallel=8)
    for _ in range(4):
        await (await pipeline.with_name("measured").kiq()).wait_result(timeout=30)

    ended = 'taskiq_flow_pipeline_executions_total{pipeline="measured",status="COMPLETED"}'
    calls = 'taskiq_flow_task_executions_total{queue="default",status="success",task_name="square"}'
    shown: list[Counter[str]] = []

    async def counted() -> bool:
        shown[:] = [await scrape(port) for port in ports]
        return all(each[ended] == 4 and each["taskiq_flow_workers"] >= 1 for each in shown)

    await eventually(counted)
    own = [after[calls] - earlier[calls] for after, earlier in zip(shown, before, strict=True)]
    assert len(own) == 2
    assert sum(own) == 1200
    assert all(each["taskiq_flow_worker_memory_usage_bytes"] > 1_000_000 for each in shown)


async def test_a_trace_is_whole_across_processes(app: App, client: Client) -> None:
    spans = app.directory
    pipeline = Pipeline(client.broker, client["add"]).map(client["square"], range(40))
    middleware = next(m for m in client.broker.middlewares if isinstance(m, TracingMiddleware))
    traced = middleware.emitter.provider
    assert traced is not None
    with traced.get_tracer("user").start_as_current_span("caller") as caller:
        trace_id = f"0x{caller.get_span_context().trace_id:032x}"
        task = await pipeline.with_name("traced").kiq(1)
    await task.wait_result(timeout=30)

    def found() -> dict[str, list[dict[str, Any]]]:
        mine = [span for span in read(spans) if span["context"]["trace_id"] == trace_id]
        return {
            name: [span for span in mine if span["name"] == name]
            for name in {span["name"] for span in mine}
        }

    await eventually(lambda: len(found().get("attempt square", ())) == 40)
    await eventually(lambda: "step square" in found())
    tree = found()
    (caller_span,), (run,) = tree["caller"], tree["pipeline traced"]
    (step,) = tree["step square"]
    assert run["parent_id"] == caller_span["context"]["span_id"]
    assert step["parent_id"] == run["context"]["span_id"]
    assert {span["parent_id"] for span in tree["attempt square"]} == {step["context"]["span_id"]}


def read(directory: Path) -> Iterator[dict[str, Any]]:
    for file in directory.glob("spans-*.jsonl"):
        for line in file.read_text().splitlines():
            yield json.loads(line)


async def scrape(port: int) -> Counter[str]:
    """What a process shows, by metric and labels."""

    def get() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return answer.read().decode()

    text = await asyncio.to_thread(get)
    return Counter(
        {
            name: float(value)
            for name, value in re.findall(r"^(taskiq_\S+) (\S+)$", text, re.MULTILINE)
        }
    )
