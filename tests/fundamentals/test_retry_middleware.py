"""One middleware gives every task of a broker retries: plain ones, and steps by default."""

import pytest
from taskiq import InMemoryBroker, SimpleRetryMiddleware
from taskiq_aio_pika import AioPikaBroker

from taskiq_flow import Pipeline, PipelineError, PipelineMiddleware
from taskiq_flow.exceptions import InvalidTaskOptionError, NoStoreError
from taskiq_flow.middlewares.retry import (
    DLQManager,
    PipelineRetryMiddleware,
    RetryMiddleware,
    calculate_exponential_backoff_delay,
)
from tests.fundamentals.test_failures import Flaky


async def test_a_plain_task_is_tried_again_and_its_caller_gets_the_result(
    stored_broker: InMemoryBroker,
) -> None:
    retries = RetryMiddleware(max_retries=3, delay=0.01)
    stored_broker.add_middlewares(retries)
    flaky = Flaky(fails=2)

    @stored_broker.task(task_name="fetch")
    def fetch(base: int, *, scale: int = 1) -> int:
        return (base + flaky.call()) * scale

    await stored_broker.startup()
    task = await fetch.kiq(10, scale=2)

    assert (await task.wait_result(check_interval=0.02, timeout=20)).return_value == 26
    assert flaky.calls == 3
    assert retries.retry_counts == {"fetch": 2}


async def test_a_plain_task_that_fails_for_good_is_a_dead_letter(
    stored_broker: InMemoryBroker,
) -> None:
    stored_broker.add_middlewares(RetryMiddleware(max_retries=1, delay=0.01, dlq_queue="mail"))
    flaky = Flaky(fails=2)

    @stored_broker.task(task_name="send")
    def send(address: str) -> str:
        flaky.call()
        return f"sent to {address}"

    await stored_broker.startup()
    task = await send.kiq("a@b.c")
    result = await task.wait_result(check_interval=0.02, timeout=20)

    assert isinstance(result.error, ConnectionError)
    letters = DLQManager(stored_broker, queue="mail")
    (letter,) = await letters.list_failed()
    assert (letter.task_id, letter.task_name) == (task.task_id, "send")
    assert (await letters.inspect(letter.task_id)).inputs == {"address": "a@b.c"}
    assert await DLQManager(stored_broker, queue="other").list_failed() == []

    again = await letters.retry_task(letter.task_id)
    found = await stored_broker.result_backend.is_result_ready(task.task_id)
    assert found
    assert again != task.task_id


async def test_a_plain_task_that_may_not_be_retried_fails_at_once(broker: InMemoryBroker) -> None:
    broker.add_middlewares(RetryMiddleware(max_retries=3, delay=60, retry_on=KeyError))
    flaky = Flaky(fails=9)

    @broker.task(task_name="fetch")
    def fetch() -> int:
        return flaky.call()

    @broker.task(retry_on_error=False)
    def lookup() -> int:
        raise KeyError("gone")

    await broker.startup()
    first = await (await fetch.kiq()).wait_result(check_interval=0.02, timeout=20)
    second = await (await lookup.kiq()).wait_result(check_interval=0.02, timeout=20)

    assert isinstance(first.error, ConnectionError)
    assert isinstance(second.error, KeyError)
    assert flaky.calls == 1
    assert len(await DLQManager(broker).list_failed()) == 2


async def test_a_tasks_own_labels_go_before_the_middleware(broker: InMemoryBroker) -> None:
    broker.add_middlewares(RetryMiddleware(max_retries=9, delay=60))
    flaky = Flaky(fails=9)

    @broker.task(max_retries=2, retry_delay=0.01)
    def fetch() -> int:
        return flaky.call()

    await broker.startup()
    result = await (await fetch.kiq()).wait_result(check_interval=0.02, timeout=20)

    assert result.is_err
    assert flaky.calls == 2


async def test_steps_get_the_policy_by_default_and_stay_in_their_run(
    broker: InMemoryBroker,
) -> None:
    broker.add_middlewares(PipelineMiddleware(), PipelineRetryMiddleware(2, delay=0.01))
    flaky = Flaky(fails=2)

    @broker.task
    def fetch() -> int:
        return flaky.call()

    @broker.task
    def double(number: int) -> int:
        return number * 2

    task = await Pipeline(broker, fetch).call_next(double).kiq()

    assert (await task.wait_result()).return_value == 6
    assert (await task.get_report()).attempts == {"fetch": 3, "double": 1}
    assert await DLQManager(broker).list_failed() == []


async def test_what_a_pipeline_says_goes_before_the_middleware(broker: InMemoryBroker) -> None:
    broker.add_middlewares(PipelineMiddleware(), RetryMiddleware(9, delay=60))
    flaky = Flaky(fails=9)

    @broker.task
    def fetch() -> int:
        return flaky.call()

    task = await Pipeline(broker, fetch).with_retry(2, delay=0.01).kiq()

    with pytest.raises(PipelineError, match="failure 2"):
        await task.wait_result()


def test_pauses_double_up_to_a_cap_and_jitter_only_lengthens_them() -> None:
    plain = [calculate_exponential_backoff_delay(n, 1.0, 2.0, False) for n in range(1, 5)]

    assert plain == [1.0, 2.0, 4.0, 8.0]
    assert calculate_exponential_backoff_delay(5000, jitter=False) == 300.0
    assert 4.0 <= calculate_exponential_backoff_delay(3) <= 5.0


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(
        InvalidTaskOptionError, match="Max_retries must be a whole number, 0 or more"
    ):
        RetryMiddleware(max_retries=-1)
    with pytest.raises(InvalidTaskOptionError, match="Backoff"):
        PipelineRetryMiddleware(backoff=0.5)


async def test_a_broker_without_a_store_is_told_at_its_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TASKIQ_FLOW_STORE_URL", raising=False)
    broker = AioPikaBroker("amqp://localhost:1")
    broker.add_middlewares(RetryMiddleware())

    with pytest.raises(NoStoreError, match="TASKIQ_FLOW_STORE_URL"):
        await broker.startup()


async def test_another_retry_middleware_is_named_in_the_log(
    broker: InMemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    broker.add_middlewares(SimpleRetryMiddleware(), RetryMiddleware())

    await broker.startup()

    assert "SimpleRetryMiddleware and RetryMiddleware are both on this broker" in caplog.text
