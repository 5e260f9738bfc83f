"""What failed for good can be listed, looked into, retried and removed."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from taskiq import InMemoryBroker, TaskiqMessage, TaskiqMiddleware

from taskiq_flow import Pipeline, PipelineMiddleware, Task
from taskiq_flow.engine.client import RunClient
from taskiq_flow.exceptions import (
    ConfigurationError,
    InvalidTaskOptionError,
    NotADeadLetterError,
    RunNotFoundError,
)
from taskiq_flow.middlewares.retry import DLQManager
from taskiq_flow.model.records import Address, Failed, NewRun, RunStatus
from taskiq_flow.plan import Const, Plan, PlanStep


class Shop:
    """A chain of two tasks whose second one is broken, until it is mended."""

    def __init__(self, broker: InMemoryBroker) -> None:
        self.broker, self.is_broken = broker, True

        @broker.task(task_name="price")
        def price(number: int) -> int:
            return number * 10

        @broker.task(task_name="charge")
        def charge(amount: int) -> str:
            if self.is_broken:
                raise ConnectionError(f"no bank for {amount}")
            return f"charged {amount}"

        self.pipeline = Pipeline(broker, price).call_next(charge)

    async def fail(self, number: int = 1) -> str:
        task = await self.pipeline.kiq(number)
        assert (await task.wait_result(timeout=20, raise_on_error=False)).is_err
        return task.task_id


async def test_dead_letters_are_listed_newest_first_by_pages(stored_broker: InMemoryBroker) -> None:
    shop = Shop(stored_broker)
    failed = [await shop.fail(number) for number in range(5)]
    shop.is_broken = False
    await (await shop.pipeline.kiq(9)).wait_result(timeout=20)
    letters = DLQManager(stored_broker)

    first = await letters.list_failed(limit=3)
    rest = await letters.list_failed(limit=3, cursor=first.cursor)

    assert [letter.task_id for letter in (*first, *rest)] == failed[::-1]
    assert rest.cursor is None
    newest = first[0]
    assert (newest.step, newest.task_name) == ("charge", "charge")
    assert newest.error == "ConnectionError: no bank for 40"
    assert newest.error_type == "ConnectionError"
    assert newest.failed_at >= newest.created_at


async def test_a_dead_letter_says_what_it_had_and_how_it_failed(
    stored_broker: InMemoryBroker,
) -> None:
    shop = Shop(stored_broker)
    failed = await shop.fail(4)

    found = await DLQManager(stored_broker).inspect(failed)

    assert found.inputs == {"number": 4}
    assert found.partial_results == {"price": 40}
    assert "raise ConnectionError" in found.traceback
    assert [failure.step for failure in found.report.failed] == ["charge"]


async def test_a_retried_letter_leaves_the_list_and_names_its_retry(
    stored_broker: InMemoryBroker,
) -> None:
    shop = Shop(stored_broker)
    failed = await shop.fail(4)
    shop.is_broken = False
    letters = DLQManager(stored_broker)

    again = await letters.retry_task(failed)

    result = await Task(task_id=again, broker=stored_broker).wait_result(timeout=20)
    assert result.return_value == "charged 40"
    assert await letters.retry_task(failed) == again
    assert await letters.list_failed() == []
    (kept,) = await letters.list_failed(include_retried=True)
    assert kept.retried_as == again


async def test_many_are_retried_by_a_filter(broker: InMemoryBroker) -> None:
    shop = Shop(broker)
    shop.pipeline.with_tags("today").with_name("orders")
    failed = {await shop.fail(number) for number in range(3)}
    shop.pipeline.with_name("others")
    other = await shop.fail(7)
    shop.is_broken = False
    letters = DLQManager(broker)

    made = await letters.retry_all(name="orders", tag="today", task="charge")

    assert made.keys() == failed
    for again in made.values():
        assert not (await Task(task_id=again, broker=broker).wait_result()).is_err
    assert [letter.task_id for letter in await letters.list_failed()] == [other]


async def test_letters_are_filtered_by_time_and_task(broker: InMemoryBroker) -> None:
    shop = Shop(broker)
    failed = await shop.fail()
    letters, now = DLQManager(broker), datetime.now(UTC)

    assert await letters.list_failed(since=now + timedelta(hours=1)) == []
    assert await letters.list_failed(until=now - timedelta(hours=1)) == []
    assert await letters.list_failed(task="price") == []
    (found,) = await letters.list_failed(since=now - timedelta(hours=1), task="charge")
    assert found.task_id == failed


async def test_a_letter_is_deleted_and_gone(stored_broker: InMemoryBroker) -> None:
    shop = Shop(stored_broker)
    failed = await shop.fail()
    letters = DLQManager(stored_broker)

    assert await letters.delete_task(failed)

    assert await letters.list_failed() == []
    assert not await letters.delete_task(failed)
    with pytest.raises(RunNotFoundError):
        await letters.inspect(failed)


async def test_old_letters_are_cleaned_up_and_young_ones_are_kept(
    stored_broker: InMemoryBroker,
) -> None:
    shop = Shop(stored_broker)
    for number in range(3):
        await shop.fail(number)
    letters = DLQManager(stored_broker)

    assert await letters.cleanup_older_than(3600) == 0
    assert await letters.cleanup_older_than(0) == 3

    assert await letters.list_failed() == []


async def test_listeners_hear_of_each_new_letter(stored_broker: InMemoryBroker) -> None:
    heard: list[str] = []
    everything = asyncio.Event()

    def listen(letter) -> None:
        heard.append(letter.error)
        raise RuntimeError("a broken listener harms nobody")

    async def listen_too(letter) -> None:
        if letter.error.endswith("for 20"):
            everything.set()

    shop = Shop(stored_broker)
    async with DLQManager(stored_broker).with_listener(listen).with_listener(listen_too):
        await shop.fail(1)
        await shop.fail(2)
        async with asyncio.timeout(20):
            await everything.wait()

    assert heard == ["ConnectionError: no bank for 10", "ConnectionError: no bank for 20"]


async def test_letters_are_read_and_retried_by_the_store_alone(
    tmp_path: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example by a script that has none of the tasks; the workers find the retry."""
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware(store=url, namespace=namespace, kick_seconds=0.5))
    shop = Shop(broker)
    failed = await shop.fail(2)
    shop.is_broken = False
    monkeypatch.setenv("TASKIQ_FLOW_NAMESPACE", namespace)
    monkeypatch.setenv("TASKIQ_FLOW_KICK_SECONDS", "0.5")
    letters = DLQManager(store=url)

    (letter,) = await letters.list_failed()
    again = await letters.retry_task(letter.task_id)
    await letters.close()

    result = await Task(task_id=again, broker=broker).wait_result(timeout=30)
    assert (letter.task_id, result.return_value) == (failed, "charged 20")
    await broker.shutdown()


async def test_a_retry_is_announced_to_those_alone_who_take_its_messages(
    broker: InMemoryBroker,
) -> None:
    """The store may hold runs of other brokers, and background tasks of applications."""
    sent: list[str] = []

    class Watch(TaskiqMiddleware):
        def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
            sent.append(message.labels["flow_task"])
            return message

    broker.add_middlewares(Watch())
    store, letters = RunClient.of(broker).store, DLQManager(broker)
    made: list[str] = []
    for queue in ("elsewhere", "local"):
        step = PlanStep(name="mail", task=f"mail by {queue}", queue=queue)
        plan = Plan("sequential", (step,), Const("null"))
        run_id, token = str(uuid.uuid4()), uuid.uuid4().hex
        namespace = store.options.namespace
        await store.create(NewRun(run_id, namespace, plan.records, plan.stored, plan.kind))
        address = Address(run_id, 0, 0)
        await store.start(address, token)
        await store.finish(address, token, Failed(b""), None)
        made.append(await letters.retry_task(run_id))

    assert sent == ["mail by local"]
    found = await store.get(made[0])
    assert found is not None
    assert found.status is RunStatus.PENDING


async def test_what_is_no_dead_letter_is_refused(broker: InMemoryBroker) -> None:
    shop = Shop(broker)
    shop.is_broken = False
    task = await shop.pipeline.kiq(1)
    await task.wait_result()
    letters = DLQManager(broker)

    for ask in (letters.inspect, letters.retry_task, letters.delete_task):
        with pytest.raises(NotADeadLetterError, match="COMPLETED"):
            await ask(task.task_id)
    with pytest.raises(RunNotFoundError):
        await letters.retry_task("nowhere")
    with pytest.raises(InvalidTaskOptionError, match="time zone"):
        await letters.list_failed(since=datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused
    with pytest.raises(InvalidTaskOptionError, match="Limit"):
        await letters.list_failed(limit=0)
    with pytest.raises(ConfigurationError, match="store="):
        DLQManager()
