"""What the engine does about failures is done once, however often a process is interrupted."""

import time
from collections.abc import AsyncIterator

import pytest
from taskiq import InMemoryBroker, TaskiqMessage

from taskiq_flow.codec import encode_error
from taskiq_flow.engine.adoption import adopt
from taskiq_flow.engine.calls import compile_call
from taskiq_flow.engine.client import RunClient
from taskiq_flow.middlewares import DLQManager
from taskiq_flow.model.records import Address, Failed, Grant, NewRun, Retry, RunFilter, StepStatus
from taskiq_flow.model.retry import RetryPolicy
from taskiq_flow.stores.base import StoreOptions
from taskiq_flow.stores.memory import MemoryRunStore
from taskiq_flow.testing.clock import ManualClock


@pytest.fixture
async def broker() -> AsyncIterator[InMemoryBroker]:
    broker = InMemoryBroker()
    yield broker
    await broker.shutdown()


async def test_a_retry_that_two_workers_see_starts_its_callback_once(
    broker: InMemoryBroker,
) -> None:
    """The first may have died after it started the callback, before it recorded the retry."""
    told: list[int] = []

    @broker.task(task_name="work")
    def work() -> None:
        raise AssertionError("this test plays the worker")

    @broker.task(task_name="note")
    def note(error: str, attempt: int) -> None:
        told.append(attempt)

    client = RunClient.of(broker)
    await client.open()
    policy = RetryPolicy(max_attempts=3, on_retry="note")
    plan, _ = compile_call(broker, work, (), {}, kind="test", name="test", retry=policy)
    new = NewRun("run-1", "default", plan.records, plan.stored, kind="test", queue="elsewhere")
    await client.store.create(new)
    grant = await client.store.start(Address("run-1", 0, 0), "token")
    assert isinstance(grant, Grant)

    error = encode_error(ValueError("bad"))
    for _ in range(3):
        await client.runtime.dispatcher.tell_retry(grant, Retry(error, 1.0))

    page = await client.store.list_runs(RunFilter(kind="on_retry"))
    for run in page.runs:
        await client.wait(run.run_id, timeout_seconds=10)
    assert told == [1]


async def test_a_failed_message_that_comes_twice_is_taken_over_once(broker: InMemoryBroker) -> None:
    """Its worker may have died after it was stored, before the message was acknowledged."""

    @broker.task(task_name="work")
    def work(number: int) -> None:
        raise AssertionError("this test plays the worker")

    message = TaskiqMessage(
        task_id="message-1", task_name="work", labels={}, args=[1], kwargs={}, labels_types={}
    )
    policy = RetryPolicy(max_attempts=3, delay=60)
    answers = [
        await adopt(broker, message, ValueError("bad"), default=policy, elapsed=0.1, tags=())
        for _ in range(2)
    ]

    run = await RunClient.of(broker).store.get("message-1")
    assert run is not None
    (step,) = run.steps
    assert (answers, step.status, step.attempt) == ([True, True], StepStatus.RETRYING, 1)
    await RunClient.of(broker).cancel("message-1")


async def test_a_step_that_takes_its_workers_down_is_a_dead_letter() -> None:
    clock = ManualClock()
    store = MemoryRunStore(StoreOptions(lease_seconds=1.0, kick_seconds=1.0), clock=clock)
    broker = InMemoryBroker()

    @broker.task(task_name="work")
    def work() -> None:
        raise AssertionError("it never comes so far")

    plan, _ = compile_call(broker, work, (), {}, kind="test", name="bomb")
    await store.create(NewRun("run-1", "default", plan.records, plan.stored, "test", name="bomb"))
    for death in range(8):
        await store.start(Address("run-1", 0, 0), f"token-{death}")
        for _ in range(12):
            clock.advance(0.1)
            await store.due(["", "local"])

    (letter,) = await DLQManager(store=store).list_failed()

    assert (letter.name, letter.step, letter.is_poison) == ("bomb", "work", True)
    assert "8" in letter.error


async def test_the_age_of_a_dead_letter_counts_from_its_failure() -> None:
    clock = ManualClock(time.time() - 100)
    store, broker = MemoryRunStore(clock=clock), InMemoryBroker()

    @broker.task(task_name="work")
    def work() -> None:
        raise AssertionError("this test plays the worker")

    plan, _ = compile_call(broker, work, (), {}, kind="test", name="slow")
    await store.create(NewRun("run-1", "default", plan.records, plan.stored, "test"))
    address = Address("run-1", 0, 0)
    await store.start(address, "token")
    clock.advance(95)
    await store.finish(address, "token", Failed(encode_error(ValueError("bad"))), None)
    letters = DLQManager(store=store)

    assert await letters.cleanup_older_than(50) == 0
    assert await letters.cleanup_older_than(1) == 1
