"""Numbers for Prometheus: what runs, how long it takes, and what waits."""

from typing import TYPE_CHECKING

from taskiq_flow.first_use import loading

if TYPE_CHECKING:
    from taskiq_flow.metrics.collector import MetricsCollector
    from taskiq_flow.metrics.middleware import MetricsMiddleware

__all__ = [
    "MetricsCollector",
    "MetricsMiddleware",
]

if not TYPE_CHECKING:  # with a `__getattr__`, a checker would let any name pass
    __getattr__, __dir__ = loading(
        __name__,
        {
            "MetricsCollector": "taskiq_flow.metrics.collector",
            "MetricsMiddleware": "taskiq_flow.metrics.middleware",
        },
    )
