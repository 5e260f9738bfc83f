"""Shows the numbers to Prometheus; needs the extra ``prometheus``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from importlib import import_module
from itertools import accumulate
from typing import Any

from taskiq_flow.exceptions import MissingExtraError
from taskiq_flow.metrics.collector import MetricsCollector
from taskiq_flow.metrics.instruments import Distribution, Kind, Metric

try:
    from prometheus_client import CollectorRegistry, generate_latest, start_http_server
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.core import Metric as Family
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    raise MissingExtraError("Metrics for Prometheus", "prometheus", "prometheus_client") from error

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class PrometheusCollector(Collector):
    """Our numbers in a registry of yours: ``REGISTRY.register(PrometheusCollector())``."""

    def __init__(self, collector: MetricsCollector | None = None) -> None:
        self.collector = collector or MetricsCollector()

    def collect(self) -> Iterator[Family]:
        """What all metrics stand at, as of now."""
        for metric in self.collector.read():
            yield _family(metric)


def metrics_text(collector: MetricsCollector | None = None) -> bytes:
    """All numbers in Prometheus' text format."""
    return generate_latest(_registry(collector))


def get_metrics_endpoint(
    collector: MetricsCollector | None = None,
) -> Callable[[], Awaitable[Any]]:
    """Make an endpoint for FastAPI: ``app.get("/metrics")(get_metrics_endpoint())``."""
    registry = _registry(collector)

    # Without annotations that FastAPI would make a model of.
    async def metrics():
        # Whoever calls an endpoint has Starlette; who only measures need not.
        response = import_module("starlette.responses").Response
        return response(generate_latest(registry), media_type=CONTENT_TYPE)

    return metrics


def serve(
    port: int, host: str = "127.0.0.1", collector: MetricsCollector | None = None
) -> Callable[[], None]:
    """Serve the numbers from a thread; call what is returned to stop.

    Raises:
        OSError: The port is taken.
    """
    server, thread = start_http_server(port, host, _registry(collector))

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


def _registry(collector: MetricsCollector | None) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(PrometheusCollector(collector))
    return registry


def _family(metric: Metric) -> Family:
    family: Any
    if metric.kind is Kind.HISTOGRAM:
        family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        bounds = [*map(str, metric.bounds), "+Inf"]
        for labels, found in metric.series():
            assert isinstance(found, Distribution)
            buckets = list(zip(bounds, accumulate(found.counts), strict=True))
            family.add_metric(labels, buckets, found.total)
        return family
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, found in metric.series():
        family.add_metric(labels, found)
    return family
