"""The middleware that measures: what this process does, and through the feed all that is done."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from importlib import import_module
from typing import Any, NamedTuple

from taskiq import AsyncBroker, TaskiqMessage, TaskiqResult

from taskiq_flow.engine.hooks import StepMiddleware
from taskiq_flow.engine.invoke import StepMessage
from taskiq_flow.engine.runtime import Runtime, runtimes
from taskiq_flow.engine.sender import STEP_TASK
from taskiq_flow.exceptions import ConfigurationError
from taskiq_flow.metrics.collector import MetricsCollector
from taskiq_flow.metrics.feed import MetricsFeed

logger = logging.getLogger("taskiq_flow.metrics")

PORTS = 16
"""A process whose port is taken by its sister takes one of the next."""


class MetricsMiddleware(StepMiddleware):
    """Measures: ``broker.add_middlewares(MetricsMiddleware(port=9464))``.

    Counts each call of a task by this process, plain tasks and items of maps too, and follows the
    event feed for what happens to runs in all processes. A run waits for neither.

    Args:
        collector: Where to; default the one of the process.
        watch: False leaves the feed to another process, and counts only what this one does.
        port: Serve ``/metrics`` here while the broker is started; needs the extra
            ``prometheus``. When it is taken, one of the 15 after it: each child of a worker
            serves its own numbers.
        host: The address to serve at. Default: only this machine.

    Raises:
        ConfigurationError: The port is none.
        MissingExtraError: A port was given, and prometheus_client is not installed.
    """

    def __init__(
        self,
        collector: MetricsCollector | None = None,
        *,
        watch: bool = True,
        port: int | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        super().__init__()
        if port is not None and not 0 < port < 65536:
            raise ConfigurationError(f"port={port!r} is not one of 1 to 65535.")
        self.collector = collector or MetricsCollector()
        self.watch, self.port, self.host = watch, port, host
        self._serve = None if port is None else import_module(_PROMETHEUS).serve
        self._stop: Callable[[], None] | None = None
        self._counts = True

    def set_broker(self, broker: AsyncBroker) -> None:
        """Follow the runs of the broker, if it has an engine yet."""
        super().set_broker(broker)
        self._counts = not any(
            isinstance(m, MetricsMiddleware) and m.collector is self.collector
            for m in broker.middlewares
        )
        runtime = runtimes.get(broker)
        if runtime is not None:
            self.join(runtime)

    def join(self, runtime: Runtime) -> None:
        if self.watch:
            MetricsFeed.join(runtime, self.collector)

    async def startup(self) -> None:
        """Serve, if a port was given; one that cannot be had is logged and costs nothing else."""
        if self._serve is None or self.port is None:
            return
        for port in range(self.port, min(self.port + PORTS, 65536)):
            try:
                self._stop = self._serve(port, self.host, self.collector)
            except OSError as error:
                logger.info("Metrics cannot be served on port %d: %s", port, error)
                continue
            logger.info("Metrics are served at http://%s:%d/metrics", self.host, port)
            return
        logger.warning("Metrics are not served: ports from %d on are taken.", self.port)

    async def shutdown(self) -> None:
        """Serve no more."""
        stop, self._stop = self._stop, None
        if stop is not None:
            await asyncio.to_thread(stop)

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Note when a call begins."""
        if message.task_name != STEP_TASK:
            # Here and not when it has ended: a retry middleware of Taskiq's counts up in between.
            call = _Call(time.perf_counter(), _is_repeated(message))
            _calls.set((*_calls.get(), call))
        return message

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        """Count a call that has ended, however it ended."""
        calls = _calls.get()
        if message.task_name == STEP_TASK or not calls:
            return
        call = calls[-1]
        _calls.set(calls[:-1])
        if not self._counts:
            return
        status = "error" if result.is_err else "success"
        queue = str(message.labels.get("queue_name") or "default")
        self.collector.task_executions.add(message.task_name, status, queue)
        # Taskiq (0.13) rounds its own measure to hundredths of a second.
        took = time.perf_counter() - call.began_at
        self.collector.task_duration.observe(took, message.task_name)
        if call.is_repeated:
            self.collector.task_retries.add(message.task_name)


def _is_repeated(message: TaskiqMessage) -> bool:
    if isinstance(message, StepMessage):
        return message.flow_attempt > 1
    # Where Taskiq's own retry middlewares count.
    return str(message.labels.get("_retries", "0")) not in ("0", "")


class _Call(NamedTuple):
    began_at: float
    is_repeated: bool


_calls: ContextVar[tuple[_Call, ...]] = ContextVar("_calls", default=())
"""Those that go on in this context, the innermost last: a broker in place nests them."""

_PROMETHEUS = "taskiq_flow.metrics.exporters.prometheus"
