"""A task that says how far it is, and results that are kept without pickle."""

from pathlib import Path
from typing import Annotated, Any

from taskiq import AsyncBroker, TaskiqDepends

from taskiq_flow.progress import ProgressTracker
from taskiq_flow.result_backends import RedisResultBackend
from tests.integration.apps.settings import AppSettings


def with_results(broker: AsyncBroker, settings: AppSettings) -> AsyncBroker:
    """Give a broker a result backend in the same Redis, and its task."""
    prefix = f"{settings.queue}:results:"
    results = RedisResultBackend[Any](settings.broker_url, prefix, ttl_seconds=60)
    broker = broker.with_result_backend(results)
    broker.register_task(copied, task_name="copied")
    return broker


def copied(rows: int, progress: Annotated[ProgressTracker, TaskiqDepends()]) -> tuple[int, Path]:
    for done in range(1, rows + 1):
        progress.report(done, total=rows, message="copying")
    return rows, Path("there")
