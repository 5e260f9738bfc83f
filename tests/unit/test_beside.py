"""Values beside the runs are in the place of the runs, and each purpose has its own."""

import os
from pathlib import Path

import pytest

from taskiq_flow.exceptions import StoreUrlError
from taskiq_flow.storage.beside import adapter_beside
from taskiq_flow.stores.base import StoreOptions
from taskiq_flow.stores.factory import make_store
from taskiq_flow.stores.memory import MemoryRunStore


@pytest.fixture(params=["sqlite", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}:///{tmp_path}/runs.db"


async def test_namespaces_and_purposes_do_not_meet(url: str) -> None:
    async with (
        adapter_beside(url, purpose="one") as one,
        adapter_beside(url, purpose="two") as two,
        adapter_beside(url, purpose="one", namespace="other") as elsewhere,
        adapter_beside(url, purpose="one") as again,
    ):
        await one.set("a", 1)

        assert await two.keys() == await elsewhere.keys() == []
        assert await again.get("a") == 1


async def test_values_are_in_the_place_of_a_store(tmp_path: Path) -> None:
    store = make_store(f"sqlite:///{tmp_path}/runs.db?synchronous=FULL", StoreOptions("n"))

    async with adapter_beside(store, purpose="p") as adapter:
        await adapter.set("a", 1)
    await store.open()
    await store.close()

    assert [name for name in os.listdir(tmp_path) if name.endswith(".db")] == ["runs.db"]


async def test_stores_in_memory_share_only_with_their_twins() -> None:
    store, other = MemoryRunStore(), MemoryRunStore()
    await adapter_beside(store, purpose="p").set("a", 1)

    assert await adapter_beside(store.twin(), purpose="p").get("a") == 1
    assert await adapter_beside(store.twin(namespace="n"), purpose="p").get("a") is None
    assert await adapter_beside(other, purpose="p").get("a") is None


def test_a_url_where_no_runs_can_be_is_refused() -> None:
    with pytest.raises(StoreUrlError, match="mysql"):
        adapter_beside("mysql://host/db", purpose="p")
