"""Steps that return pipelines, and one that takes back what another did."""

from typing import Any

from taskiq import AsyncBroker

from taskiq_flow import Pipeline
from tests.integration.apps.steps import journal


def register_continuing(broker: AsyncBroker) -> None:
    """Register the steps that need their broker."""

    @broker.task(task_name="splits")
    async def splits(count: int) -> Any:
        journal.write("splits", "ran", count)
        square = broker.find_task("square")
        return Pipeline(broker).map(square, range(count)).reduce(broker.find_task("total"))

    @broker.task(task_name="undo")
    async def undo(value: Any) -> None:
        journal.write("undo", "ran", value)
