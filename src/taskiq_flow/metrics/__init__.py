"""Numbers for Prometheus: what runs, how long it takes, and what waits."""

from taskiq_flow.metrics.collector import MetricsCollector
from taskiq_flow.metrics.middleware import MetricsMiddleware

__all__ = ["MetricsCollector", "MetricsMiddleware"]
