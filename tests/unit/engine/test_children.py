"""A child run is created once and its end is never lost, wherever a worker dies in between."""

import pickle
from collections.abc import AsyncIterator

import pytest
from taskiq import InMemoryBroker

from taskiq_flow.compile import Continue, Shape
from taskiq_flow.engine.children import Created, child_tag
from taskiq_flow.engine.program import load_program
from taskiq_flow.middleware import PipelineMiddleware
from taskiq_flow.model.records import (
    Address,
    Done,
    Grant,
    NewRun,
    Parked,
    RunFilter,
    RunStatus,
    StepRecord,
    Wake,
    WakeKind,
)
from taskiq_flow.pipeline import Pipeline
from taskiq_flow.stores.base import StoreOptions
from taskiq_flow.stores.memory import MemoryRunStore
from taskiq_flow.testing.clock import ManualClock

PARENT, CHILD = Address("parent", 0, 0), Address("child", 0, 0)
NOTHING_LEFT = 60.0
"""Seconds after which all that is repeated has been repeated."""


class Bench:
    """Two runs, one of which waits for the other; the test plays the workers."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        options = StoreOptions(lease_seconds=1000.0)
        self.store = MemoryRunStore(options, clock=self.clock)
        broker = InMemoryBroker()
        self.middleware = PipelineMiddleware(store=self.store)
        broker.add_middlewares(self.middleware)

    async def create(self, address: Address, parent: Address | None = None) -> Grant:
        record = StepRecord(0, "step", "task", b"", queue="q")
        await self.store.create(
            NewRun(address.run_id, "default", [record], b"", "test", queue="q", parent=parent)
        )
        grant = await self.store.start(address, f"token of {address.run_id}")
        assert isinstance(grant, Grant)
        return grant

    async def settle_what_is_due(self) -> list[WakeKind]:
        self.clock.advance(NOTHING_LEFT)
        wakes: tuple[Wake, ...] = await self.store.due(["q"])
        for wake in wakes:
            await self.middleware.runtime.settler.settle(wake)
        return [wake.kind for wake in wakes]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.store.open()
    yield bench
    await bench.store.close()


async def test_a_parent_that_does_not_wait_yet_is_told_again(bench: Bench) -> None:
    parent = await bench.create(PARENT)
    child = await bench.create(CHILD, PARENT)
    ended = await bench.store.finish(CHILD, child.token, Done(b"1"), None)
    for wake in ended.wakes:
        await bench.middleware.runtime.settler.settle(wake)

    await bench.store.finish(PARENT, parent.token, Parked(), None)
    again = await bench.settle_what_is_due()

    assert WakeKind.NOTIFY in again
    grant = await bench.store.start(PARENT, "next")
    assert isinstance(grant, Grant)
    assert grant.note == "child"


async def test_a_parent_that_has_ended_is_told_no_more(bench: Bench) -> None:
    parent = await bench.create(PARENT)
    child = await bench.create(CHILD, PARENT)
    await bench.store.finish(PARENT, parent.token, Done(b"1"), None)
    ended = await bench.store.finish(CHILD, child.token, Done(b"1"), None)

    for wake in ended.wakes:
        await bench.middleware.runtime.settler.settle(wake)

    assert await bench.settle_what_is_due() == []


async def test_a_child_whose_parent_ended_meanwhile_is_cancelled(bench: Bench) -> None:
    """The run was cancelled after its children were looked for, before this one was there."""
    parent = await bench.create(PARENT)
    await bench.create(CHILD, PARENT)
    children = bench.middleware.runtime.dispatcher.runner.children
    children.created[parent.token] = Created("child", ())
    await bench.store.cancel("parent", "enough")

    finished = await bench.store.finish(PARENT, parent.token, Parked(), None)
    await children.parked(parent, recorded=finished.recorded)

    child = await bench.store.get("child")
    assert child is not None
    assert child.status is RunStatus.CANCELLED


async def test_a_step_that_begins_again_finds_the_child_that_it_had(bench: Bench) -> None:
    """Its worker died after it had created the child, and before the step could wait for it."""
    broker = bench.middleware.broker

    @broker.task
    def double(value: int) -> int:
        return value * 2

    outer = Pipeline(broker).call_next(Pipeline(broker, double))
    plan = outer.as_child().prepare(Shape(1)).compiled.plan
    run = NewRun("outer", "default", plan.records, plan.stored, "test", inputs={-1: b"1"})
    await bench.store.create(run)
    grant = await bench.store.start(Address("outer", 0, 0), "first")
    assert isinstance(grant, Grant)
    program = load_program(grant.blob)
    children = bench.middleware.runtime.dispatcher.runner.children
    wanted = children.wanted(program, [1])
    assert wanted is not None

    child = children.child_id(grant, None, 0)
    again = grant._replace(token="second", lost=1)
    assert await children.begin(grant, program, child, wanted)
    assert await children.begin(again, program, children.child_id(again, None, 0), wanted)
    listed = await bench.store.list_runs(RunFilter(tag=child_tag("outer")))
    await bench.store.cancel(child, "ends it")

    assert [run.run_id for run in listed.runs] == [child]
    assert not await children.begin(again, program, child, wanted)
    assert children.child_id(grant, None, 1) != child


def test_what_a_step_goes_on_with_leaves_its_process_as_a_plan() -> None:
    """A pipeline cannot be pickled, because its broker cannot."""
    broker = InMemoryBroker()
    double = broker.register_task(lambda value: 2 * value, task_name="double")
    asked = Continue(Pipeline(broker, double).with_tags("x"), 21)

    child, values = pickle.loads(pickle.dumps(asked)).child()

    expected, given = asked.child()
    assert (child.to_json(), values) == (expected.to_json(), given)
    assert (values, child.tags) == ([21], ("x",))
