"""What happens when a step fails: stop, go on, or try again."""

import asyncio

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import PipelineStatus, RetryPolicy, pipeline_task
from taskiq_flow.engine.client import RunClient
from taskiq_flow.exceptions import InvalidTaskOptionError, PipelineError
from taskiq_flow.model.records import RunFilter
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


@pytest.mark.parametrize("kind", [StopIteration, GeneratorExit])
async def test_a_function_whose_iterator_has_ended_fails_and_hangs_nobody(
    broker: InMemoryBroker, kind: type[BaseException]
) -> None:
    @broker.task
    def first_of(values: list[int]) -> int:
        for value in values:
            return value
        raise kind

    @broker.task
    async def first_in_loop_of(values: list[int]) -> int:
        return first_of.original_func(values)

    for function in (first_of, first_in_loop_of):
        task = await Pipeline(broker, function).kiq([])

        with pytest.raises(PipelineError, match=kind.__name__):
            await task.wait_result(timeout=10)


async def test_a_step_that_cancels_its_own_task_fails_instead_of_beginning_for_ever(
    broker: InMemoryBroker,
) -> None:
    calls: list[int] = []

    @broker.task
    async def give_up(value: int) -> int:
        calls.append(value)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return value

    task = await Pipeline(broker, give_up).kiq(1)
    with pytest.raises(PipelineError, match="CancelledError"):
        await task.wait_result(timeout=10)

    assert calls == [1]


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


async def finished_callbacks(broker: InMemoryBroker, count: int) -> list[PipelineStatus]:
    """Wait until so many callbacks have been run, and return their records."""
    client = RunClient.of(broker)
    async with asyncio.timeout(20):
        while True:
            page = await client.store.list_runs(RunFilter(kind="on_retry"))
            if len(page.runs) >= count and all(run.status.is_final for run in page.runs):
                return [await client.status(run.run_id) for run in page.runs]
            await asyncio.sleep(0.01)


async def test_a_task_is_told_of_each_retry(stored_broker: InMemoryBroker) -> None:
    """It is started by the worker that saw the failure, as a run of its own."""
    flaky = Flaky(fails=2)
    told: list[tuple[str, int]] = []

    @stored_broker.task
    def fetch() -> int:
        return flaky.call()

    @stored_broker.task
    def note(error: str, attempt: int) -> None:
        told.append((error, attempt))

    pipeline = Pipeline(stored_broker, fetch).with_retry(3, 0.01, on_retry=note)
    task = await pipeline.kiq()

    assert (await task.wait_result(timeout=20)).return_value == 3
    statuses = await finished_callbacks(stored_broker, 2)
    assert {status.status for status in statuses} == {"COMPLETED"}
    assert sorted(told, key=lambda each: each[1]) == [
        ("ConnectionError: failure 1", 1),
        ("ConnectionError: failure 2", 2),
    ]


async def test_a_task_is_told_of_retries_inside_a_map(broker: InMemoryBroker) -> None:
    """It may be given by its name, or as the function that was decorated."""
    told: list[int] = []
    failed: set[int] = set()

    @broker.task
    def fetch(number: int) -> int:
        if number % 2 and number not in failed:
            failed.add(number)
            raise ConnectionError(number)
        return number

    async def told_of(error: str, attempt: int) -> None:
        told.append(attempt)

    broker.register_task(told_of, task_name="told")
    pipeline = Pipeline(broker).map(fetch, list(range(6)))
    for on_retry in ("told", told_of):
        failed.clear()
        task = await pipeline.with_retry(2, 0.01, on_retry=on_retry).kiq()
        assert (await task.wait_result()).return_value == list(range(6))

    await finished_callbacks(broker, 6)
    assert told == [1] * 6


async def test_a_policy_of_ones_own_goes_before_the_numbers(broker: InMemoryBroker) -> None:
    flaky = Flaky(fails=5)

    @broker.task
    def fetch() -> int:
        return flaky.call()

    policy = RetryPolicy(max_attempts=4, delay=0.01, retry_on=(ConnectionError,))
    task = await Pipeline(broker, fetch).with_retry(2, policy=policy).kiq()

    with pytest.raises(PipelineError, match="failure 4"):
        await task.wait_result()


async def test_what_a_task_declares_goes_before_the_pipeline_and_its_labels_before_that(
    broker: InMemoryBroker,
) -> None:
    calls: dict[str, int] = {"declared": 0, "labelled": 0, "neither": 0}

    def fail(name: str) -> None:
        calls[name] += 1
        raise ConnectionError(name)

    @broker.task
    @pipeline_task(output="declared", retries=2, retry_delay=0.01)
    def declared() -> None:
        fail("declared")

    @broker.task(max_retries=2, retry_delay=0.01)
    @pipeline_task(output="labelled", retries=4, retry_delay=60)
    def labelled() -> None:
        fail("labelled")

    @broker.task
    def neither() -> None:
        fail("neither")

    group = Pipeline(broker).on_error("continue").with_retry(max_attempts=4, delay=0.01)
    for task in (declared, labelled, neither):
        group.call_after(task)
    await (await group.kiq()).wait_result()

    assert calls == {"declared": 3, "labelled": 2, "neither": 4}


async def test_no_retry_starts_after_the_total_time(broker: InMemoryBroker) -> None:
    flaky = Flaky(fails=500)

    @broker.task(max_retries=500, retry_delay=0.02, retry_backoff=1, retry_timeout=0.1)
    def fetch() -> int:
        return flaky.call()

    task = await Pipeline(broker, fetch).kiq()

    with pytest.raises(PipelineError):
        await task.wait_result()
    assert 1 < flaky.calls < 10


def test_what_workers_could_not_find_is_refused_as_on_retry(broker: InMemoryBroker) -> None:
    with pytest.raises(InvalidTaskOptionError, match=r"decorate the function with @broker\.task"):
        Pipeline(broker).with_retry(on_retry=lambda error, attempt: None)
    with pytest.raises(
        InvalidTaskOptionError, match="must be a whole number, 1 or more, not 'three'"
    ):
        Pipeline(broker).with_retry("three")  # pyright: ignore[reportArgumentType]


async def test_a_run_that_goes_on_to_its_end_may_fail_then(broker: InMemoryBroker) -> None:
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

    pipeline = DataflowPipeline(broker, [broken, dependent, independent]).on_error("dead_letter")
    task = await pipeline.kiq(source=1)

    with pytest.raises(PipelineError) as caught:
        await task.wait_result()
    assert caught.value.failed_step == "broken"
    assert caught.value.partial_results == {"independent": 1}
    assert ran == ["independent"]


async def test_a_run_may_fail_at_its_end_because_of_an_item(broker: InMemoryBroker) -> None:
    @broker.task
    def shaky(number: int) -> int:
        if number == 2:
            raise ValueError(number)
        return number

    @broker.task
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    task = (
        await Pipeline(broker).map(shaky, [1, 2, 3]).call_next(total).on_error("dead_letter").kiq()
    )

    with pytest.raises(PipelineError, match="ValueError: 2"):
        await task.wait_result()
    report = await task.get_report()
    assert (report.failed[0].step, report.skipped) == ("shaky", ("total",))


async def test_a_report_says_what_became_of_each_step(broker: InMemoryBroker) -> None:
    flaky = Flaky(fails=1)

    @broker.task(max_retries=2, retry_delay=0.01)
    def source() -> int:
        return flaky.call()

    @broker.task(max_retries=3, retry_delay=0.01)
    def broken(source: int) -> int:
        raise ValueError(f"bad {source}")

    @broker.task
    def dependent(broken: int) -> int:
        return broken

    @broker.task
    def independent(source: int) -> int:
        return source

    pipeline = DataflowPipeline(broker, [source, broken, dependent, independent])
    task = await pipeline.on_error("continue").kiq()
    await task.wait_result()

    report = await task.get_report()

    assert report.status == "COMPLETED"
    assert set(report.completed) == {"source", "independent"}
    (failure,) = report.failed
    assert (failure.step, failure.error, failure.attempts) == ("broken", "ValueError: bad 2", 3)
    assert failure.error_type == "ValueError"
    assert "raise ValueError" in failure.traceback
    assert (report.skipped, report.unfinished) == (("dependent",), ())
    assert report.attempts == {"source": 2, "broken": 3, "independent": 1}
    assert set(report.durations_ms) == {"source", "broken", "independent"}
    assert (report.success_rate, report.has_errors) == (0.5, True)
    assert report.errors().failed_tasks == ["broken"]
    assert report.errors().skipped_tasks == ["dependent"]
