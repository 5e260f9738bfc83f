"""A metric counts right, from any thread, and never has more series than are allowed."""

import importlib
import sys
import threading

import pytest

from taskiq_flow.exceptions import MissingExtraError
from taskiq_flow.metrics import MetricsCollector
from taskiq_flow.metrics.exporters.prometheus import metrics_text
from taskiq_flow.metrics.instruments import MOST_SERIES, OTHER, Distribution, Kind, Metric
from taskiq_flow.metrics.process import ProcessUsage

DOCUMENTED = """
    pipeline_executions_total pipeline_duration_seconds pipeline_steps_total active_pipelines
    task_executions_total task_duration_seconds task_retry_attempts_total
    websocket_messages_total sse_events_sent_total worker_cpu_usage_percent
    worker_memory_usage_bytes
"""


def test_the_eleven_documented_metrics_are_there() -> None:
    names = {metric.name for metric in MetricsCollector.separate().metrics}

    assert len(DOCUMENTED.split()) == 11
    assert {f"taskiq_flow_{name}" for name in DOCUMENTED.split()} <= names


def test_a_process_has_one_collector() -> None:
    assert MetricsCollector() is MetricsCollector()
    assert MetricsCollector.separate() is not MetricsCollector()


def test_threads_lose_no_count() -> None:
    metric = Metric("runs", "", Kind.COUNTER, ("name",))

    def count() -> None:
        for _ in range(1000):
            metric.add("a")

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert metric.value("a") == 8000


def test_a_value_falls_into_the_bucket_whose_bound_it_does_not_pass() -> None:
    metric = Metric("seconds", "", Kind.HISTOGRAM, bounds=(1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 7.0):
        metric.observe(value)

    assert list(metric.series()) == [((), Distribution((2, 1, 1), 10.0))]
    assert metric.count() == 4


def test_names_without_end_make_no_series_without_end() -> None:
    metric = Metric("runs", "", Kind.COUNTER, ("name", "status"))
    for number in range(10_000):
        metric.add(f"pipeline {number}", "COMPLETED")
    metric.add("pipeline 1", "COMPLETED")

    assert len(list(metric.series())) == MOST_SERIES + 1
    assert metric.value(OTHER, OTHER) == 10_000 - MOST_SERIES
    assert metric.value("pipeline 1", "COMPLETED") == 2


def test_a_hostile_name_stays_in_its_label_and_costs_no_other_metric() -> None:
    collector = MetricsCollector.separate()
    for name in ('a"} 1\nevil 2', "back\\slash", "lone \ud800", "nul \x00", "x" * 10_000_000):
        collector.pipeline_starts.add(name)

    text = metrics_text(collector).decode()

    assert "\nevil" not in text
    assert r'pipeline="a\"} 1\nevil 2"' in text
    assert "lone ?" in text
    assert max(map(len, text.splitlines())) < 500


def test_what_a_process_uses_is_measured() -> None:
    usage = ProcessUsage()
    usage._at -= 1.0
    sum(number * number for number in range(300_000))

    assert usage.cpu_percent() > 0
    assert 1_000_000 < usage.memory_bytes() < 100_000_000_000
    assert usage.cpu_percent() == usage.cpu_percent()


@pytest.mark.parametrize(
    ("package", "module", "extra"),
    [
        ("prometheus_client", "taskiq_flow.metrics.exporters.prometheus", "prometheus"),
        ("opentelemetry", "taskiq_flow.tracing", "otel"),
    ],
)
def test_without_the_package_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, package: str, module: str, extra: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    for name in [name for name in sys.modules if name == module or name.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)

    with pytest.raises(MissingExtraError, match=rf"pip install 'taskiq-flow\[{extra}\]'"):
        importlib.import_module(module)
