"""What happens when a step fails: stop, go on, or try again."""

import asyncio

import pytest
from taskiq import InMemoryBroker

from taskiq_flow.exceptions import InvalidTaskOptionError, PipelineError
from taskiq_flow.pipeline import DataflowPipeline, Pipeline


class Flaky:
    """Fails so often before it succeeds, and counts its calls."""

    def __init__(self, fails: int) -> None:
        self.fails, self.calls = fails, 0

    def call(self) -> int:
        self.calls += 1
        if self.calls <= self.fails:
            raise ConnectionError(f"failure {self.calls}")
        return self.calls


async def test_a_failed_step_fails_the_run_and_is_named(broker: InMemoryBroker) -> None:
    @broker.task
    def load(path: str) -> str:
        return path.upper()

    @broker.task
    def parse(text: str) -> int:
        return int(text)

    task = await Pipeline(broker, load).call_next(parse).kiq("abc")

    with pytest.raises(PipelineError, match="parse") as caught:
        await task.wait_result()
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.failed_step == "parse"
    assert caught.value.partial_results == {"load": "ABC"}


async def test_a_chain_that_continues_passes_none_on(broker: InMemoryBroker) -> None:
    @broker.task
    def fail(value: int) -> int:
        raise ValueError(value)

    @broker.task
    def describe(value) -> str:
        return f"got {value}"

    task = await Pipeline(broker, fail).call_next(describe).on_error("continue").kiq(1)

    assert (await task.wait_result()).return_value == "got None"


async def test_what_a_pipeline_is_told_later_is_for_its_later_runs(broker: InMemoryBroker) -> None:
    @broker.task
    def fail(value: int) -> int:
        raise ValueError(value)

    pipeline = Pipeline(broker, fail)
    before = await pipeline.kiq(1)
    after = await pipeline.on_error("continue").kiq(1)

    assert (await before.wait_result(raise_on_error=False)).is_err
    assert not (await after.wait_result(raise_on_error=False)).is_err


async def test_a_graph_that_continues_runs_all_that_does_not_need_the_failed_step(
    broker: InMemoryBroker,
) -> None:
    ran: list[str] = []

    @broker.task
    def broken(source: int) -> int:
        raise ValueError(source)

    @broker.task
    def dependent(broken: int) -> None:
        ran.append("dependent")

    @broker.task
    def independent(source: int) -> int:
        ran.append("independent")
        return source

    pipeline = DataflowPipeline(broker, [broken, dependent, independent]).on_error("continue")
    results = await pipeline.kiq_dataflow(source=1)

    assert results["independent"] == 1
    assert ran == ["independent"]


async def test_a_failed_step_is_tried_again(broker: InMemoryBroker) -> None:
    flaky = Flaky(fails=2)

    @broker.task
    def fetch() -> int:
        return flaky.call()

    pipeline = Pipeline(broker, fetch).with_retry(max_attempts=3, delay=0.01, jitter=False)
    task = await pipeline.kiq()

    assert (await task.wait_result()).return_value == 3


async def test_the_tries_are_counted_with_the_first(broker: InMemoryBroker) -> None:
    flaky = Flaky(fails=5)

    @broker.task
    def fetch() -> int:
        return flaky.call()

    task = await Pipeline(broker, fetch).with_retry(max_attempts=2, delay=0.01).kiq()

    with pytest.raises(PipelineError, match="failure 2"):
        await task.wait_result()
    assert flaky.calls == 2


async def test_a_tasks_own_labels_go_before_the_pipelines_policy(broker: InMemoryBroker) -> None:
    flaky = Flaky(fails=5)

    @broker.task(retry_on_error=True, max_retries=3, delay=0.01)
    def fetch() -> int:
        return flaky.call()

    task = await Pipeline(broker, fetch).with_retry(max_attempts=9, delay=60).kiq()

    with pytest.raises(PipelineError):
        await task.wait_result()
    assert flaky.calls == 3


async def test_only_the_named_exceptions_are_worth_another_try(broker: InMemoryBroker) -> None:
    flaky = Flaky(fails=5)

    @broker.task
    def fetch() -> int:
        return flaky.call()

    pipeline = Pipeline(broker, fetch).with_retry(3, delay=0.01, retry_on=KeyError)
    task = await pipeline.kiq()

    with pytest.raises(PipelineError):
        await task.wait_result()
    assert flaky.calls == 1


async def test_a_run_that_takes_too_long_fails_with_a_timeout(broker: InMemoryBroker) -> None:
    @broker.task
    async def wait() -> None:
        await asyncio.Event().wait()

    if broker.await_inplace:
        pytest.skip("in this mode kiq itself runs the step, so it would wait as well")
    task = await Pipeline(broker, wait).with_timeout(0.1).kiq()

    with pytest.raises(asyncio.TimeoutError):
        await task.wait_result()


def test_an_error_mode_that_does_not_exist_is_refused(broker: InMemoryBroker) -> None:
    with pytest.raises(InvalidTaskOptionError, match="'stop', 'continue', 'retry'"):
        Pipeline(broker).on_error("ignore")
