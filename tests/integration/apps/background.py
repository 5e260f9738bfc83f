"""Background tasks of FastAPI on a worker: the same module is imported by the application."""

import os

from taskiq import AsyncBroker

from fastapi_taskflow import QueueConfig, TaskManager, task_log
from taskiq_flow import PipelineMiddleware
from tests.integration.apps.brokers import make_broker
from tests.integration.apps.settings import AppSettings


def make_manager(broker: AsyncBroker) -> TaskManager:
    manager = TaskManager(
        broker=broker,
        queues={"single": QueueConfig(concurrency=1)},
        log_file=os.environ.get("FLOW_APP_LOG"),
    )
    tasks = ((where, {"retries": 1}), (fail, {"queue": "single"}), (chat, {}))
    for task, options in (*tasks, (apart, {"executor": "process"})):
        manager.task(**options)(task)
    return manager


def where(number: int) -> dict[str, int]:
    """Say in which process it runs; a plain function, so in a thread there."""
    task_log(f"number {number}")
    return {"number": number, "pid": os.getpid()}


async def fail(why: str) -> None:
    raise ValueError(why)


async def chat() -> None:
    for number in range(3000):
        task_log(f"line {number}")


def apart() -> int:
    return os.getpid()


if "FLOW_APP_BROKER" in os.environ:
    broker = make_broker(AppSettings.from_env())
    broker.add_middlewares(PipelineMiddleware())
    manager = make_manager(broker)
