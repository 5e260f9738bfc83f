"""Metrics say what ran, for how long, how often again, and what waits."""

import asyncio
import re
import socket
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from taskiq import InMemoryBroker
from taskiq.middlewares import SimpleRetryMiddleware

from taskiq_flow import ConfigurationError, Pipeline, PipelineError, PipelineMiddleware
from taskiq_flow.exceptions import StoreUnavailableError
from taskiq_flow.metrics import MetricsCollector, MetricsMiddleware
from taskiq_flow.metrics.collector import Reader
from taskiq_flow.metrics.exporters.prometheus import get_metrics_endpoint, metrics_text
from taskiq_flow.metrics.middleware import PORTS
from taskiq_flow.metrics.sampling import Sampler
from taskiq_flow.model.records import Address, Grant
from taskiq_flow.scheduling import PipelineScheduler
from taskiq_flow.stores.base import StoreOptions
from taskiq_flow.stores.factory import make_store
from tests.integration.workers.harness import eventually


@pytest.fixture
def collector() -> MetricsCollector:
    return MetricsCollector.separate()


def register(broker: InMemoryBroker) -> dict[str, Any]:
    failed: list[int] = []

    async def double(value: int) -> int:
        await asyncio.sleep(0.02)
        return 2 * value

    async def fails_once(value: int) -> int:
        failed.append(value)
        if failed.count(value) == 1:
            raise ValueError(value)
        return value

    async def fails(value: Any) -> None:
        raise ValueError(value)

    async def numbers(count: int) -> list[int]:
        return list(range(count))

    return {
        task.__name__: broker.register_task(task, task_name=task.__name__)
        for task in (double, fails_once, fails, numbers)
    }


async def ended(collector: MetricsCollector, name: str, status: str, number: int = 1) -> None:
    await eventually(lambda: collector.pipeline_executions.value(name, status) == number)


async def test_runs_and_steps_are_counted_by_the_names_of_their_pipelines(
    broker: InMemoryBroker, collector: MetricsCollector
) -> None:
    broker.add_middlewares(MetricsMiddleware(collector))
    tasks = register(broker)
    good = Pipeline(broker, tasks["double"]).call_next(tasks["double"]).with_name("good")
    bad = Pipeline(broker, tasks["double"]).call_next(tasks["fails"])
    for number in range(3):
        await (await good.with_id(f"run {number}").kiq(1)).wait_result()
    with pytest.raises(PipelineError):
        await (await bad.kiq(1)).wait_result()
    await ended(collector, "good", "COMPLETED", 3)
    await ended(collector, "double", "FAILED")

    assert collector.pipeline_starts.value("good") == 3
    assert collector.pipeline_steps.value("good", "COMPLETED") == 6
    assert collector.pipeline_steps.value("double", "FAILED") == 1
    assert collector.pipeline_duration.count("good") == 3
    assert 0.1 < collector.pipeline_duration.value("good") < 10
    assert collector.step_duration.count("good", "double#2") == 3
    assert collector.step_duration.value("good", "double#2") > 0.05
    assert collector.task_executions.value("double", "success", "default") == 7
    assert collector.task_executions.value("fails", "error", "default") == 1
    assert 0.13 < collector.task_duration.value("double") < 10
    assert b"run 1" not in metrics_text(collector)


async def test_tries_that_are_made_again_are_counted_for_steps_and_items_and_plain_tasks(
    broker: InMemoryBroker, collector: MetricsCollector
) -> None:
    broker.add_middlewares(MetricsMiddleware(collector), SimpleRetryMiddleware())
    task = register(broker)["fails_once"]
    again = {"max_attempts": 2, "delay": 0.001}
    await (await Pipeline(broker, task).with_retry(**again).kiq(1)).wait_result()
    many = Pipeline(broker).map(task, range(10, 14), max_parallel=2).with_retry(**again)
    await (await many.kiq()).wait_result()

    assert collector.task_retries.value("fails_once") == 5
    assert collector.task_executions.value("fails_once", "error", "default") == 5

    await task.kicker().with_labels(retry_on_error=True).kiq(99)
    await eventually(lambda: collector.task_retries.value("fails_once") == 6)


async def test_a_process_that_only_watches_counts_what_others_do(
    tmp_path: Path, collector: MetricsCollector
) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    working, watching = InMemoryBroker(), InMemoryBroker()
    working.add_middlewares(PipelineMiddleware(store=url))
    watching.add_middlewares(MetricsMiddleware(collector), PipelineMiddleware(store=url))
    await watching.startup()
    tasks = register(working)

    await (await Pipeline(working, tasks["double"]).kiq(1)).wait_result()

    await ended(collector, "double", "COMPLETED")
    assert collector.pipeline_duration.value("double") > 0.01
    assert collector.task_executions.value("double", "success", "default") == 0
    await working.shutdown()
    await watching.shutdown()


async def test_a_run_that_began_before_it_was_watched_counts_with_its_whole_time(
    collector: MetricsCollector,
) -> None:
    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware())
    task = await Pipeline(broker, register(broker)["double"]).wait_for("go").kiq(1)
    async for event in task.events():
        if event.type == "step_parked":
            break
    broker.add_middlewares(MetricsMiddleware(collector))
    await (
        await Pipeline(broker, broker.find_task("double")).with_name("other").kiq(1)
    ).wait_result()

    await task.send_event("go", 7)
    await ended(collector, "double", "COMPLETED")

    assert collector.pipeline_starts.value("double") == 0
    assert collector.pipeline_duration.value("double") > 0.03
    await broker.shutdown()


async def test_gauges_say_how_much_goes_on_waits_and_has_failed(
    broker: InMemoryBroker, collector: MetricsCollector
) -> None:
    tasks = register(broker)
    middleware = PipelineMiddleware(metrics_collector=collector)
    broker.add_middlewares(middleware)
    asked: list[MetricsCollector] = []

    async def schedules(asking: MetricsCollector) -> None:
        asked.append(asking)
        asking.scheduled_jobs.set(3, "active")

    collector.readers.append(schedules)
    waiting = await Pipeline(broker, tasks["double"]).wait_for("go").kiq(1)
    with pytest.raises(PipelineError):
        await (await Pipeline(broker, tasks["fails"]).kiq(1)).wait_result()

    await Sampler(middleware.runtime, collector).sample()

    assert collector.active_pipelines.value() == 1
    assert collector.dead_letters.value() == 1
    assert collector.workers.value() == 1
    assert collector.scheduled_jobs.value("active") == 3
    assert collector in asked
    await waiting.cancel()
    await Sampler(middleware.runtime, collector).sample()
    assert collector.active_pipelines.value() == 0


async def test_a_lost_lease_is_counted(tmp_path: Path, collector: MetricsCollector) -> None:
    """A worker that takes a step and dies is played by a client of the store."""
    url, quick = f"sqlite:///{tmp_path / 'runs.db'}", {"lease_seconds": 0.3, "kick_seconds": 0.3}
    first, second = InMemoryBroker(), InMemoryBroker()
    first.add_middlewares(PipelineMiddleware(store=url, **quick))
    task = await Pipeline(first).sleep(0.2).call_after(register(first)["double"], 1).kiq()
    await first.shutdown()
    store = make_store(url, StoreOptions(lease_seconds=0.3))
    await store.open()

    async def taken() -> bool:
        await store.due(["local"])
        return isinstance(await store.start(Address(task.run_id, 1, 0), "dead"), Grant)

    await eventually(taken)
    second.add_middlewares(PipelineMiddleware(store=url, metrics_collector=collector, **quick))
    register(second)
    await second.startup()

    await eventually(lambda: collector.lost_leases.value("double") == 1)
    await second.shutdown()
    await store.close()


async def test_a_collector_given_to_the_pipeline_middleware_counts_once(
    collector: MetricsCollector,
) -> None:
    broker = InMemoryBroker()
    broker.add_middlewares(
        PipelineMiddleware(metrics_collector=collector), MetricsMiddleware(collector)
    )
    await (await Pipeline(broker, register(broker)["double"]).kiq(1)).wait_result()
    await ended(collector, "double", "COMPLETED")

    assert collector.pipeline_steps.value("double", "COMPLETED") == 1
    assert collector.task_executions.value("double", "success", "default") == 1
    await broker.shutdown()


async def test_an_endpoint_of_fastapi_shows_the_numbers(collector: MetricsCollector) -> None:
    app = FastAPI()
    app.get("/metrics")(get_metrics_endpoint(collector))
    collector.sse_events.add(by=2)

    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        answer = await client.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "taskiq_flow_sse_events_sent_total 2.0" in answer.text
    assert "taskiq_flow_worker_memory_usage_bytes" in answer.text


async def test_processes_beside_each_other_serve_each_on_a_port_of_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where each serves is read from its log: any of the next ports may be somebody else's."""
    caplog.set_level("INFO", "taskiq_flow.metrics")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        brokers = []
        for number in (1, 2):
            collector = MetricsCollector.separate()
            collector.sse_events.add(by=number)
            broker = InMemoryBroker()
            broker.add_middlewares(MetricsMiddleware(collector, port=port))
            await broker.startup()
            brokers.append(broker)

        urls = re.findall(r"served at (\S+)", caplog.text)
        served = [await asyncio.to_thread(read, url) for url in urls]

        for broker in brokers:
            await broker.shutdown()

    assert ["_total 1.0" in served[0], "_total 2.0" in served[1]] == [True, True]
    assert len(urls) == len(set(urls)) == 2
    assert all(port < urlsplit(url).port < port + PORTS for url in urls)
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(read, urls[0])


def test_a_port_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="port=0 is not one of 1 to 65535"):
        MetricsMiddleware(port=0)


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


async def raises(collector: MetricsCollector) -> None:
    raise RuntimeError("this reader is broken")


async def hangs(collector: MetricsCollector) -> None:
    await asyncio.Event().wait()


async def connects(collector: MetricsCollector) -> None:
    await asyncio.open_connection("127.0.0.1", 1)


@pytest.mark.parametrize("reader", [raises, hangs, connects])
async def test_a_reader_that_does_not_work_costs_neither_runs_nor_other_numbers(
    collector: MetricsCollector, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    broker = InMemoryBroker()
    collector.readers.append(reader)
    broker.add_middlewares(PipelineMiddleware(metrics_collector=collector))
    task = register(broker)["double"]

    async with asyncio.timeout(4):  # a reader is given up after five
        assert (await (await Pipeline(broker, task).kiq(1)).wait_result()).return_value == 2
        await ended(collector, "double", "COMPLETED")
        await broker.shutdown()

    assert collector.workers.value() == 1
    assert ("Gauges stand still" in caplog.text) is (reader is not hangs)


async def test_a_feed_that_is_away_costs_a_run_nothing(
    collector: MetricsCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happened meanwhile is counted no more, what happens later is."""
    broker = InMemoryBroker()
    middleware = PipelineMiddleware(metrics_collector=collector)
    broker.add_middlewares(middleware)
    task = register(broker)["double"]

    async def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailableError("memory://", "the feed is away")

    monkeypatch.setattr(middleware.runtime.store, "feed", away)
    async with asyncio.timeout(4):
        assert (await (await Pipeline(broker, task).kiq(1)).wait_result()).return_value == 2
    monkeypatch.undo()
    await (await Pipeline(broker, task).kiq(1)).wait_result()

    await ended(collector, "double", "COMPLETED")
    await broker.shutdown()


async def test_a_scheduler_is_shown_while_it_is_at_work(collector: MetricsCollector) -> None:
    broker = InMemoryBroker()
    middleware = PipelineMiddleware(metrics_collector=collector)
    broker.add_middlewares(middleware)
    pipeline = Pipeline(broker, register(broker)["double"])

    async with PipelineScheduler(broker) as scheduler:
        await scheduler.schedule_interval(pipeline, hours=1, args=[1], job_id="one")
        await scheduler.schedule_interval(pipeline, hours=1, args=[1], job_id="two")
        await scheduler.pause_job("two")
        await (await scheduler.run_now("one")).wait_result()
        await Sampler(middleware.runtime, collector).sample()

    assert collector.scheduled_jobs.value("active") == 1
    assert collector.scheduled_jobs.value("paused") == 1
    assert collector.schedule_lateness.value() == 0
    assert collector.readers == []
    await broker.shutdown()
