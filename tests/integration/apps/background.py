"""Background tasks of FastAPI on a worker: the same module is imported by the application."""

import os

from taskiq import AsyncBroker

from fastapi_taskflow import QueueConfig, TaskManager, task_log
from taskiq_flow import PipelineMiddleware
from tests.integration.apps.brokers import make_broker
from tests.integration.apps.settings import AppSettings


def make_manager(broker: AsyncBroker) -> TaskManager:
    manager = TaskManager(broker=broker, queues={"single": QueueConfig(concurrency=1)})
    for task, options in ((where, {"retries": 1}), (fail, {"queue": "single"})):
        manager.task(**options)(task)
    return manager


def where(number: int) -> dict[str, int]:
    """Say in which process it runs; a plain function, so in a thread there."""
    task_log(f"number {number}")
    return {"number": number, "pid": os.getpid()}


async def fail(why: str) -> None:
    raise ValueError(why)


if "FLOW_APP_BROKER" in os.environ:
    broker = make_broker(AppSettings.from_env())
    broker.add_middlewares(PipelineMiddleware())
    manager = make_manager(broker)
