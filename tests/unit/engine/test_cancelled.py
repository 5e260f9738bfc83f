"""The end of a cancelled run is settled by whoever cancelled it, as far as that process can."""

from typing import Any

from taskiq import InMemoryBroker
from taskiq.result_backends.dummy import DummyResultBackend

from taskiq_flow import Pipeline, PipelineMiddleware
from taskiq_flow.engine.client import RunClient
from taskiq_flow.engine.compensation import compensation_id
from taskiq_flow.model.records import WakeKind
from taskiq_flow.stores.memory import MemoryRunStore


async def add(value: int) -> int:
    return value + 1


async def undo(value: Any) -> None:
    return None


async def test_a_cancelled_run_is_published_when_cancel_returns() -> None:
    broker = InMemoryBroker()
    task = broker.register_task(add, task_name="add")
    run = await Pipeline(broker, task).wait_for("never").kiq(1)

    await run.cancel("enough")

    assert await broker.result_backend.is_result_ready(run.run_id)
    result = await broker.result_backend.get_result(run.run_id)
    assert "enough" in str(result.error)
    await broker.shutdown()


async def test_what_a_cancelled_run_did_is_taken_back_at_once() -> None:
    broker = InMemoryBroker()
    task = broker.register_task(add, task_name="add")
    back = broker.register_task(undo, task_name="undo")
    run = await Pipeline(broker, task).on_failure(back).wait_for("never").kiq(1)
    async for event in run.events():
        if event.type == "step_parked":
            break

    await run.cancel()

    client = RunClient.of(broker)
    assert await client.store.get(compensation_id(await client.find(run.run_id))) is not None
    await broker.shutdown()


class Settling(MemoryRunStore):
    """Notes whose ends it was told are settled."""

    def __init__(self) -> None:
        super().__init__()
        self.settled: list[WakeKind] = []

    async def settle(self, run_id: str, kind: WakeKind) -> None:
        self.settled.append(kind)
        await super().settle(run_id, kind)


async def test_a_process_without_a_result_backend_leaves_it_to_the_workers_to_publish() -> None:
    """They may have one, and would find nothing left to be published."""
    broker, store = InMemoryBroker(), Settling()
    broker.add_middlewares(PipelineMiddleware(store=store))
    task = broker.register_task(add, task_name="add")
    run = await Pipeline(broker, task).wait_for("never").kiq(1)
    broker.result_backend = DummyResultBackend()

    await run.cancel()

    assert store.settled == []
    await broker.shutdown()
