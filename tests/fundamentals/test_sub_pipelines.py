"""A pipeline can be a step of another one: it runs as a run of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import (
    ChildRunError,
    Continue,
    DataflowPipeline,
    Pipeline,
    PipelineContext,
    PipelineError,
    Task,
    pipeline_task,
)
from taskiq_flow.conditions import equals
from taskiq_flow.engine.children import child_tag
from taskiq_flow.engine.client import RunClient
from taskiq_flow.exceptions import (
    BadArgumentsError,
    ChildInputError,
    EmptyPipelineError,
    ForeignPipelineError,
)
from taskiq_flow.model.records import RunFilter, RunSnapshot, RunStatus


async def children_of(broker: InMemoryBroker, run_id: str) -> list[RunSnapshot]:
    page = await RunClient.of(broker).store.list_runs(RunFilter(tag=child_tag(run_id)))
    return list(page.runs)


async def child_of(
    broker: InMemoryBroker, run_id: str, status: RunStatus | None = None
) -> RunSnapshot:
    """The only child of a run, as soon as there is one (of a status)."""
    found: list[RunSnapshot] = []

    async def is_there() -> bool:
        found[:] = await children_of(broker, run_id)
        return bool(found) and status in (None, found[0].status)

    await until(is_there)
    (child,) = found
    return child


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.01)


@pytest.fixture
def tasks(broker: InMemoryBroker) -> dict[str, Any]:
    @broker.task
    def add(value: int, other: int = 1) -> int:
        return value + other

    @broker.task
    def double(value: int) -> int:
        return value * 2

    @broker.task
    def numbers(count: int) -> list[int]:
        return list(range(count))

    @broker.task
    def invert(value: int) -> float:
        return 1 / value

    return {"add": add, "double": double, "numbers": numbers, "invert": invert}


async def test_a_pipeline_is_a_step_with_a_run_of_its_own(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    inner = Pipeline(broker, tasks["double"]).call_next(tasks["add"], 5).with_name("inner")
    outer = Pipeline(broker, tasks["add"]).call_next(inner).call_next(tasks["double"])

    task = await outer.kiq(1)

    assert (await task.wait_result(timeout=10)).return_value == 18
    (child,) = await children_of(broker, task.run_id)
    assert (child.name, child.status) == ("inner", RunStatus.COMPLETED)
    assert child.parent is not None
    assert child.parent.run_id == task.run_id
    assert (await Task(child.run_id, broker).wait_result()).return_value == 9
    assert (await task.get_partial_results())["inner"] == 9


async def test_a_pipeline_as_the_first_step_is_started_with_the_arguments_of_the_run(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    outer = Pipeline(broker).call_next(Pipeline(broker, tasks["add"])).call_next(tasks["double"])

    assert (await (await outer.kiq(1, other=2)).wait_result(timeout=10)).return_value == 6
    with pytest.raises(BadArgumentsError, match="is given 3"):
        await outer.kiq(1, 2, 3)


async def test_a_pipeline_is_run_for_each_element(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    each = Pipeline(broker, tasks["double"]).call_next(tasks["add"])
    pipeline = Pipeline(broker, tasks["numbers"]).map(each, max_parallel=3, output="all")

    task = await pipeline.kiq(8)

    assert (await task.wait_result(timeout=20)).return_value == [2 * n + 1 for n in range(8)]
    assert len(await children_of(broker, task.run_id)) == 8


async def test_a_pipeline_is_mapped_over_the_elements_of_the_start(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    by_start = await Pipeline(broker).map(Pipeline(broker, tasks["add"])).kiq([1, 2], other=10)
    bound = await Pipeline(broker).map(Pipeline(broker, tasks["add"]), [1, 2]).kiq()

    assert (await by_start.wait_result(timeout=10)).return_value == [11, 12]
    assert (await bound.wait_result(timeout=10)).return_value == [2, 3]


async def test_pipelines_and_tasks_run_side_by_side_in_a_group(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    inner = Pipeline(broker, tasks["numbers"]).map(tasks["double"])
    task = await Pipeline(broker).group([inner, tasks["double"], inner]).kiq(3)

    assert (await task.wait_result(timeout=10)).return_value == [[0, 2, 4], 6, [0, 2, 4]]


async def test_a_pipeline_beside_the_flow_does_not_change_the_value(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    beside = Pipeline(broker).call_next(tasks["numbers"], 2)
    task = await Pipeline(broker, tasks["add"]).call_after(beside).call_next(tasks["double"]).kiq(1)

    assert (await task.wait_result(timeout=10)).return_value == 4


async def test_a_graph_is_a_step_and_takes_a_value_or_a_dict_of_them(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    @broker.task
    @pipeline_task(output="total")
    def total(left: int, right: int) -> int:
        return left + right

    @broker.task
    @pipeline_task(output="half")
    def halve(number: int) -> int:
        return number // 2

    @broker.task
    def pair(value: int) -> dict[str, int]:
        return {"left": value, "right": 10}

    two = DataflowPipeline.from_tasks(broker, [total])
    one = DataflowPipeline.from_tasks(broker, [halve])

    by_name = await Pipeline(broker, pair).call_next(two).kiq(1)
    single = await Pipeline(broker, tasks["double"]).call_next(one).kiq(4)
    wrong = await Pipeline(broker, tasks["double"]).call_next(two).kiq(4)

    assert (await by_name.wait_result(timeout=10)).return_value == {"total": 11}
    assert (await single.wait_result(timeout=10)).return_value == {"half": 4}
    with pytest.raises(PipelineError, match="needs a dict of them") as caught:
        await wrong.wait_result(timeout=10)
    assert isinstance(caught.value.__cause__, ChildInputError)


async def test_the_failure_of_a_child_names_the_child_and_its_step(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    inner = Pipeline(broker, tasks["double"]).call_next(tasks["invert"])
    task = await Pipeline(broker, tasks["double"]).call_next(inner).kiq(0)

    with pytest.raises(PipelineError, match="failed at step 'pipeline'") as caught:
        await task.wait_result(timeout=10)

    (child,) = await children_of(broker, task.run_id)
    cause = caught.value.__cause__
    assert isinstance(cause, ChildRunError)
    assert (cause.run_id, cause.failed_step) == (child.run_id, "invert")
    assert child.run_id in str(cause)
    assert "ZeroDivisionError" in str(cause)


async def test_a_retry_of_the_step_starts_another_child(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    tries: list[int] = []

    @broker.task
    def flaky(value: int) -> int:
        tries.append(value)
        if len(tries) < 3:
            raise ConnectionError("not yet")
        return value

    outer = Pipeline(broker).call_next(Pipeline(broker, flaky))
    outer.with_retry(max_attempts=3, delay=0.01, retry_on=ConnectionError)
    task = await outer.kiq(1)

    assert (await task.wait_result(timeout=10)).return_value == 1
    states = sorted(str(run.status) for run in await children_of(broker, task.run_id))
    assert states == ["COMPLETED", "FAILED", "FAILED"]


async def test_an_ended_run_that_is_taken_up_again_starts_its_failed_child_anew(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    works: list[bool] = []

    @broker.task
    def flaky(value: int) -> int:
        if not works:
            raise ConnectionError("not yet")
        return value

    outer = Pipeline(broker, tasks["double"]).call_next(Pipeline(broker, flaky))
    task = await outer.condition(equals(2), tasks["add"], tasks["invert"]).kiq(1)
    with pytest.raises(PipelineError):
        await task.wait_result(timeout=10)

    works.append(True)
    again = await task.retry()

    assert (await again.wait_result(timeout=10)).return_value == 3


async def test_a_retry_inside_a_map_inside_a_child(broker: InMemoryBroker) -> None:
    seen: dict[int, int] = {}

    @broker.task(retry_on_error=True, max_retries=3, delay=0.01)
    def flaky(value: int) -> int:
        seen[value] = seen.get(value, 0) + 1
        if seen[value] < 3:
            raise ConnectionError("not yet")
        return value * 10

    inner = Pipeline(broker).map(flaky)
    task = await Pipeline(broker).map(inner).kiq([[1, 2], [3]])

    assert (await task.wait_result(timeout=20)).return_value == [[10, 20], [30]]


async def test_failed_children_of_a_map_can_be_left_out(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    each = Pipeline(broker, tasks["invert"])
    task = await Pipeline(broker).map(each, skip_errors=True).kiq([1, 0, 2])

    assert (await task.wait_result(timeout=10)).return_value == [1.0, 0.5]


async def test_cancelling_a_run_cancels_its_children_and_theirs(broker: InMemoryBroker) -> None:
    begun = asyncio.Event()
    ended: list[str] = []

    @broker.task
    async def hang(value: int) -> int:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return value

    inner = Pipeline(broker).call_next(Pipeline(broker, hang))
    starting = asyncio.ensure_future(Pipeline(broker).call_next(inner).with_id("top").kiq(1))
    await begun.wait()
    top = Task("top", broker)

    assert await top.cancel("enough")
    await starting

    (child,) = await children_of(broker, (await starting).run_id)
    (grandchild,) = await children_of(broker, child.run_id)
    assert child.status is grandchild.status is RunStatus.CANCELLED
    assert child.reason is not None
    assert "its parent run" in child.reason
    await until(lambda: bool(ended))


async def test_children_of_a_run_that_failed_are_cancelled(broker: InMemoryBroker) -> None:
    waiting = Pipeline(broker).wait_for("never")

    @broker.task
    def fails() -> None:
        raise ValueError("no")

    task = await Pipeline(broker).group([waiting, fails]).kiq()

    with pytest.raises(PipelineError):
        await task.wait_result(timeout=10)
    await child_of(broker, task.run_id, RunStatus.CANCELLED)


async def test_a_cancelled_child_fails_the_step(broker: InMemoryBroker) -> None:
    task = await Pipeline(broker).call_next(Pipeline(broker).wait_for("never")).kiq()
    child = await child_of(broker, task.run_id)
    await Task(child.run_id, broker).cancel("not this one")

    with pytest.raises(PipelineError, match="was cancelled: not this one"):
        await task.wait_result(timeout=10)


async def test_the_timeout_of_a_child_is_its_own(broker: InMemoryBroker) -> None:
    inner = Pipeline(broker).wait_for("never").with_timeout(0.05)
    task = await Pipeline(broker).call_next(inner).kiq()

    with pytest.raises(PipelineError, match=r"took longer than its timeout of 0.05 s"):
        await task.wait_result(timeout=10)


async def test_a_pipeline_that_is_changed_later_stays_as_it_was_added(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    inner = Pipeline(broker, tasks["double"])
    outer = Pipeline(broker).call_next(inner)
    inner.call_next(tasks["double"])

    assert (await (await outer.kiq(1)).wait_result(timeout=10)).return_value == 2


def test_what_cannot_be_a_step_is_refused_at_once(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    elsewhere = InMemoryBroker()

    @elsewhere.task
    def other(value: int) -> int:
        return value

    with pytest.raises(EmptyPipelineError):
        Pipeline(broker).call_next(Pipeline(broker))
    with pytest.raises(ForeignPipelineError, match="another broker"):
        Pipeline(broker).call_next(Pipeline(elsewhere, other))
    with pytest.raises(BadArgumentsError, match="cannot be bound to a pipeline"):
        Pipeline(broker).call_next(Pipeline(broker, tasks["add"]), other=3)


def test_a_picture_shows_a_pipeline_as_a_step(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    inner = Pipeline(broker, tasks["double"]).call_next(tasks["add"])
    view = Pipeline(broker, tasks["add"]).call_next(inner).map(inner, [1]).to_view()

    assert [(n.label, n.kind, n.detail) for n in view.nodes[1:]] == [
        ("pipeline", "pipeline", "2 steps"),
        ("pipeline#2", "pipeline", "2 steps"),
    ]


# --- steps that return further steps --------------------------------------------------------


async def test_a_step_can_return_the_steps_that_are_to_follow(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    @broker.task
    def plan_work(count: int, context: PipelineContext) -> Continue:
        assert context.broker is not None
        work = Pipeline(broker).map(tasks["double"])
        return Continue(work, list(range(count)))

    task = await Pipeline(broker, plan_work).reduce(total_of(broker)).kiq(4)

    assert (await task.wait_result(timeout=10)).return_value == 12
    (child,) = await children_of(broker, task.run_id)
    assert child.status is RunStatus.COMPLETED


async def test_a_step_can_return_a_pipeline_with_its_arguments_bound(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    @broker.task
    def countdown(number: int) -> Any:
        if number == 0:
            return "lift-off"
        return Pipeline(broker).call_next(countdown, number=number - 1)

    task = await Pipeline(broker, countdown).kiq(5)

    assert (await task.wait_result(timeout=20)).return_value == "lift-off"


async def test_the_body_of_a_step_that_continues_runs_once(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    ran: list[int] = []

    @broker.task
    def each(value: int) -> Any:
        ran.append(value)
        return Pipeline(broker).call_next(tasks["double"], value=value) if value % 2 else value

    task = await Pipeline(broker).map(each, max_parallel=2).kiq(range(12))

    expected = [2 * n if n % 2 else n for n in range(12)]
    assert (await task.wait_result(timeout=20)).return_value == expected
    assert sorted(ran) == list(range(12))


async def test_a_task_of_a_graph_can_return_a_pipeline(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    @broker.task
    @pipeline_task(output="found")
    def find(count: int) -> Pipeline[list[int]]:
        return Pipeline(broker).map(tasks["double"], range(count))

    @broker.task
    @pipeline_task(output="sum")
    def add_up(found: list[int]) -> int:
        return sum(found)

    outputs = await DataflowPipeline.from_tasks(broker, [find, add_up]).kiq_dataflow(3)

    assert outputs == {"found": [0, 2, 4], "sum": 6}


async def test_what_a_step_returns_must_be_startable(
    broker: InMemoryBroker, tasks: dict[str, Any]
) -> None:
    @broker.task
    def misses(value: int) -> Any:
        return Pipeline(broker, tasks["double"])

    task = await Pipeline(broker, misses).kiq(1)

    with pytest.raises(PipelineError, match="'value' received no value"):
        await task.wait_result(timeout=10)


async def test_cancelling_reaches_the_children_of_steps_that_continued(
    broker: InMemoryBroker,
) -> None:
    @broker.task
    def waits(value: int) -> Any:
        return Pipeline(broker).wait_for("never")

    task = await Pipeline(broker, waits).kiq(1)
    await child_of(broker, task.run_id)

    await task.cancel()

    (child,) = await children_of(broker, task.run_id)
    assert child.status is RunStatus.CANCELLED


def total_of(broker: InMemoryBroker) -> Any:
    @broker.task
    def total(values: list[int]) -> int:
        return sum(values)

    return total
