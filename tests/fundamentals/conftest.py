"""What the chapters on how to use it have in common: a broker in this process."""

from collections.abc import AsyncIterator

import pytest
from taskiq import InMemoryBroker


@pytest.fixture(params=[False, True], ids=["in_tasks", "in_place"])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[InMemoryBroker]:
    """An in-memory broker, in both of its modes; pipelines add what they need to it."""
    broker = InMemoryBroker(await_inplace=request.param)
    yield broker
    await broker.shutdown()
