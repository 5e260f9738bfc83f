"""What the chapters on how to use it have in common: a broker in this process."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import PipelineMiddleware

STORES = [
    "memory",
    "sqlite",
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("postgres", marks=pytest.mark.postgres),
]


@pytest.fixture(params=[False, True], ids=["in_tasks", "in_place"])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[InMemoryBroker]:
    """An in-memory broker, in both of its modes; pipelines add what they need to it."""
    broker = InMemoryBroker(await_inplace=request.param)
    yield broker
    await broker.shutdown()


@pytest.fixture(params=STORES)
async def stored_broker(
    request: pytest.FixtureRequest, tmp_path: Path, namespace: str
) -> AsyncIterator[InMemoryBroker]:
    """An in-memory broker whose runs live in a store of each kind."""
    store = str(request.param)
    if store in ("redis", "postgres"):
        url = str(request.getfixturevalue(f"{store}_url"))
    else:
        url = "memory://" if store == "memory" else f"sqlite:///{tmp_path / 'runs.db'}"
    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware(store=url, namespace=namespace))
    yield broker
    await broker.shutdown()
