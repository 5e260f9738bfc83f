"""A run that has ended can be taken up again: from what failed, or from any step."""

import asyncio
from collections import Counter

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import DataflowPipeline, Pipeline, PipelineError, Task
from taskiq_flow.conditions import less_than
from taskiq_flow.engine.client import RunClient
from taskiq_flow.exceptions import (
    NothingToRunError,
    RunNotEndedError,
    RunNotFoundError,
    UnknownInputError,
    UnknownStepError,
    UnserializableValueError,
)


class Steps:
    """Tasks that note their calls; those in ``broken`` fail."""

    def __init__(self, broker: InMemoryBroker) -> None:
        self.calls: list[str] = []
        self.broken: set[str] = set()

        @broker.task
        def load(number: int) -> int:
            self.note("load")
            return number + 1

        @broker.task
        def double(number: int) -> int:
            self.note("double")
            return number * 2

        @broker.task
        def show(number: int) -> str:
            self.note("show")
            return f"<{number}>"

        self.load, self.double, self.show = load, double, show

    def note(self, name: str) -> None:
        self.calls.append(name)
        if name in self.broken:
            raise ConnectionError(f"{name} is away")

    def pipeline(self, broker: InMemoryBroker) -> Pipeline:
        return Pipeline(broker, self.load).call_next(self.double).call_next(self.show)


@pytest.fixture
def steps(broker: InMemoryBroker) -> Steps:
    return Steps(broker)


async def failed(task) -> None:
    result = await task.wait_result(timeout=20, raise_on_error=False)
    assert result.is_err


async def test_a_failed_run_goes_on_where_it_failed(stored_broker: InMemoryBroker) -> None:
    steps = Steps(stored_broker)
    steps.broken = {"double"}
    task = await steps.pipeline(stored_broker).kiq(4)
    await failed(task)
    steps.broken.clear()

    again = await task.retry()

    assert (await again.wait_result(timeout=20)).return_value == "<10>"
    assert again.task_id != task.task_id
    assert steps.calls == ["load", "double", "double", "show"]
    assert (await task.get_status()).status == "FAILED"


async def test_two_retries_at_once_make_one_run(stored_broker: InMemoryBroker) -> None:
    steps = Steps(stored_broker)
    steps.broken = {"double"}
    task = await steps.pipeline(stored_broker).kiq(4)
    await failed(task)

    made = await asyncio.gather(*(task.retry() for _ in range(5)))
    await failed(made[0])

    assert len({again.task_id for again in made}) == 1
    assert steps.calls == ["load", "double", "double"]


async def test_a_run_is_retried_by_its_id_alone(broker: InMemoryBroker, steps: Steps) -> None:
    steps.broken = {"show"}
    task = await steps.pipeline(broker).kiq(1)
    await failed(task)
    steps.broken.clear()

    again = await Task(task_id=task.task_id, broker=broker).retry()

    assert (await again.wait_result()).return_value == "<4>"
    assert steps.calls.count("load") == 1


async def test_a_retry_that_fails_can_be_retried_itself(
    broker: InMemoryBroker, steps: Steps
) -> None:
    steps.broken = {"show"}
    task = await steps.pipeline(broker).kiq(1)
    await failed(task)
    second = await task.retry()
    await failed(second)
    steps.broken.clear()

    third = await second.retry()

    assert (await third.wait_result()).return_value == "<4>"
    assert (await task.retry()).task_id == second.task_id


async def test_a_cancelled_run_can_be_taken_up_again(broker: InMemoryBroker) -> None:
    if broker.await_inplace:
        pytest.skip("in this mode kiq itself runs the steps")
    started, go = asyncio.Event(), asyncio.Event()

    @broker.task
    async def first() -> int:
        return 1

    @broker.task
    async def second(number: int) -> int:
        started.set()
        await go.wait()
        return number + 1

    task = await Pipeline(broker, first).call_next(second).kiq()
    await started.wait()
    await task.cancel("not now")
    go.set()

    again = await task.retry()

    assert (await again.wait_result(timeout=10)).return_value == 2


async def test_a_step_that_was_passed_over_is_retried_with_what_followed(
    broker: InMemoryBroker, steps: Steps
) -> None:
    steps.broken = {"double"}

    @broker.task
    def shown(number: int | None) -> str:
        return f"<{number}>"

    pipeline = Pipeline(broker, steps.load).call_next(steps.double).call_next(shown)
    task = await pipeline.on_error("continue").kiq(4)
    assert (await task.wait_result()).return_value == "<None>"
    steps.broken.clear()

    again = await task.retry()

    assert (await again.wait_result()).return_value == "<10>"


async def test_a_map_keeps_its_items_and_runs_again_when_it_failed(
    stored_broker: InMemoryBroker,
) -> None:
    broken = True

    @stored_broker.task
    def numbers(count: int) -> list[int]:
        return list(range(count))

    @stored_broker.task
    def square(number: int) -> int:
        if broken and number == 2:
            raise ValueError(number)
        return number * number

    @stored_broker.task
    def total(squares: list[int]) -> int:
        return sum(squares)

    task = await Pipeline(stored_broker, numbers).map(square).call_next(total).kiq(4)
    given = await Pipeline(stored_broker).map(square, [1, 2, 3]).call_next(total).kiq()
    await failed(task)
    await failed(given)
    broken = False

    again = await task.retry()
    given_again = await given.retry()

    assert (await again.wait_result(timeout=20)).return_value == 14
    assert (await given_again.wait_result(timeout=20)).return_value == 14
    fork = await again.fork("total")
    assert (await fork.wait_result(timeout=20)).return_value == 14
    changed = await again.fork(outputs={"square": [10, 20]})
    assert (await changed.wait_result(timeout=20)).return_value == 30
    renewed = await given_again.fork(inputs={"square": [5]})
    assert (await renewed.wait_result(timeout=20)).return_value == 25


@pytest.mark.parametrize("policy", ["stop", "continue", "dead_letter"])
async def test_items_of_a_map_that_were_done_are_not_done_again(
    stored_broker: InMemoryBroker, policy: str
) -> None:
    calls: Counter[int] = Counter()
    broken = {7, 70}

    @stored_broker.task
    def numbers(count: int) -> list[int]:
        return list(range(count))

    @stored_broker.task
    def square(number: int) -> int:
        calls[number] += 1
        if number in broken:
            raise ValueError(number)
        return number * number

    @stored_broker.task
    def total(squares: list[int | None]) -> int:
        return sum(square or 0 for square in squares)

    pipeline = Pipeline(stored_broker, numbers).map(square, max_parallel=1).call_next(total)
    task = await pipeline.on_error(policy).kiq(100)
    await task.wait_result(timeout=20, raise_on_error=False)
    done = {number for number in calls if number not in broken}
    broken.discard(7)
    second = await task.retry()
    await second.wait_result(timeout=20, raise_on_error=False)
    broken.clear()

    third = await second.retry()

    result = await third.wait_result(timeout=20)
    assert result.return_value == sum(number * number for number in range(100))
    assert done
    assert {calls[number] for number in done} == {1}
    assert calls[70] == 3 if policy == "continue" else calls[70] >= 1
    calls.clear()
    whole = await third.fork("square")
    await whole.wait_result(timeout=20)
    assert calls == Counter(range(100))


async def test_an_ended_run_is_forked_from_a_step_with_a_changed_output(
    stored_broker: InMemoryBroker,
) -> None:
    steps = Steps(stored_broker)
    task = await steps.pipeline(stored_broker).kiq(4)
    await task.wait_result(timeout=20)
    steps.calls.clear()

    from_step = await task.fork("double")
    changed = await task.fork(outputs={"load": 100})
    whole = await task.fork(inputs={"number": 9})
    last = await task.fork(outputs={"show": "as I say"})

    assert (await from_step.wait_result(timeout=20)).return_value == "<10>"
    assert (await changed.wait_result(timeout=20)).return_value == "<200>"
    assert (await whole.wait_result(timeout=20)).return_value == "<20>"
    assert (await last.wait_result(timeout=20)).return_value == "as I say"
    assert steps.calls.count("load") == 1
    assert (await task.get_status()).status == "COMPLETED"


async def test_a_fork_of_a_graph_runs_only_what_needs_the_change(broker: InMemoryBroker) -> None:
    calls: list[str] = []

    @broker.task
    def left(source: int) -> int:
        calls.append("left")
        return source + 1

    @broker.task
    def right(source: int, scale: int) -> int:
        calls.append("right")
        return source * scale

    @broker.task
    def both(left: int, right: int) -> int:
        calls.append("both")
        return left + right

    pipeline = DataflowPipeline(broker, [left, right, both])
    task = await pipeline.kiq(source=1, scale=10)
    await task.wait_result()
    calls.clear()

    fork = await task.fork(inputs={"scale": 20})

    assert (await fork.wait_result()).return_value == {"left": 2, "right": 20, "both": 22}
    assert calls == ["right", "both"]


async def test_a_way_that_was_not_taken_stays_so_unless_the_choice_is_made_again(
    stored_broker: InMemoryBroker,
) -> None:
    calls: list[str] = []
    broken = True

    @stored_broker.task
    def load(number: int) -> int:
        return number

    @stored_broker.task
    def small(number: int) -> int:
        calls.append("small")
        if broken:
            raise ConnectionError("away")
        return number

    @stored_broker.task
    def large(number: int) -> int:
        calls.append("large")
        return number * 100

    @stored_broker.task
    def show(number: int) -> str:
        return f"<{number}>"

    chain = Pipeline(stored_broker, load).condition(less_than(10), small, large)
    task = await chain.call_next(show).kiq(1)
    await failed(task)
    broken = False

    again = await task.retry()
    assert (await again.wait_result(timeout=20)).return_value == "<1>"
    assert calls == ["small", "small"]
    assert (await again.get_report()).skipped == ("large",)
    other = await again.fork(outputs={"load": 50})
    assert (await other.wait_result(timeout=20)).return_value == "<5000>"
    assert calls == ["small", "small", "large"]


async def test_a_failed_sub_pipeline_is_run_again(stored_broker: InMemoryBroker) -> None:
    steps = Steps(stored_broker)
    steps.broken = {"double"}
    inner = Pipeline(stored_broker, steps.double).call_next(steps.show)
    task = await Pipeline(stored_broker, steps.load).call_next(inner).kiq(4)
    await failed(task)
    steps.broken.clear()

    again = await task.retry()

    assert (await again.wait_result(timeout=20)).return_value == "<10>"
    assert steps.calls == ["load", "double", "double", "show"]


async def test_a_fork_says_of_what_it_was_made(broker: InMemoryBroker, steps: Steps) -> None:
    steps.broken = {"show"}
    task = await steps.pipeline(broker).with_tags("nightly").with_timeout(60).kiq(1)
    await failed(task)

    retried = await (await task.retry()).get_report()
    forked = await (await task.fork("show", pipeline_id="second-try")).get_report()

    assert (retried.retry_of, retried.fork_of) == (task.run_id, None)
    assert (forked.retry_of, forked.fork_of) == (None, task.run_id)
    assert forked.pipeline_id == "second-try"
    client = RunClient.of(broker)
    run = await client.find(retried.run_id)
    assert run.tags == ("nightly",)
    assert run.deadline is not None
    assert run.deadline - run.created_at == pytest.approx(60)


async def test_the_bound_of_a_run_holds_for_its_retry(broker: InMemoryBroker) -> None:
    """What a run was allowed at once is not forgotten with the run."""
    running, most, broken = 0, 0, True

    @broker.task
    async def wide(number: int) -> int:
        nonlocal running, most
        if broken:
            raise ValueError(number)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return number

    task = await Pipeline(broker, max_parallel=2).map(wide, list(range(8))).kiq()
    await failed(task)
    broken = False
    again = await task.retry()

    await again.wait_result()
    assert most <= 2


async def test_what_cannot_be_taken_up_is_refused_and_nothing_is_made(
    broker: InMemoryBroker, steps: Steps
) -> None:
    task = await steps.pipeline(broker).kiq(1)
    await task.wait_result()
    calls = len(steps.calls)

    with pytest.raises(NothingToRunError, match="from_step"):
        await task.retry()
    with pytest.raises(NothingToRunError):
        await task.fork()
    with pytest.raises(UnknownStepError, match="'load', 'double', 'show'"):
        await task.fork("laod")
    with pytest.raises(UnknownStepError, match="'laod'"):
        await task.fork(outputs={"laod": 1})
    with pytest.raises(UnknownInputError, match="'number'"):
        await task.fork(inputs={"nummer": 1})
    with pytest.raises(UnserializableValueError, match="input 'number'"):
        await task.fork(inputs={"number": object()})
    with pytest.raises(RunNotFoundError):
        await Task(task_id="nowhere", broker=broker).retry()
    assert len(steps.calls) == calls


async def test_a_run_that_goes_on_is_not_forked(broker: InMemoryBroker) -> None:
    if broker.await_inplace:
        pytest.skip("in this mode kiq itself runs the steps")

    @broker.task
    async def wait() -> None:
        await asyncio.Event().wait()

    task = await Pipeline(broker, wait).kiq()

    with pytest.raises(RunNotEndedError, match="cancel it"):
        await task.fork("wait")
    await task.cancel()


async def test_a_failed_run_of_a_name_is_retried_under_its_name(
    broker: InMemoryBroker, steps: Steps
) -> None:
    steps.broken = {"show"}
    task = await steps.pipeline(broker).with_id("order-7").kiq(1)
    with pytest.raises(PipelineError):
        await task.wait_result()
    steps.broken.clear()

    again = await task.retry()
    await again.wait_result()

    named = Task(task_id="order-7", broker=broker)
    assert (await named.wait_result()).return_value == "<4>"
