"""Conditions and branches go one of several ways; the steps of the others are skipped."""

from enum import StrEnum

import pytest
from taskiq import InMemoryBroker

from taskiq_flow import DataflowPipeline, NoCaseError, Pipeline, PipelineError, pipeline_task
from taskiq_flow.conditions import (
    all_of,
    any_of,
    at_least,
    at_most,
    contains,
    equals,
    greater_than,
    is_none,
    is_true,
    less_than,
    negated,
    not_equals,
    one_of,
    value_at,
)
from taskiq_flow.exceptions import ConditionError, ConfigurationError, InvalidTaskOptionError


class Tasks:
    """Tasks that most of these tests use."""

    def __init__(self, broker: InMemoryBroker) -> None:
        @broker.task
        def double(value: int) -> int:
            return value * 2

        @broker.task
        def negate(value: int) -> int:
            return -value

        @broker.task
        def is_even(value: int) -> bool:
            return value % 2 == 0

        self.double, self.negate, self.is_even = double, negate, is_even


@pytest.fixture
def tasks(broker: InMemoryBroker) -> Tasks:
    return Tasks(broker)


async def result_of(pipeline: Pipeline[object], *args: object) -> object:
    return (await (await pipeline.kiq(*args)).wait_result(timeout=10)).return_value


async def test_a_task_chooses_between_two_ways(broker: InMemoryBroker, tasks: Tasks) -> None:
    pipeline = Pipeline(broker).condition(tasks.is_even, tasks.double, tasks.negate)

    assert await result_of(pipeline, 4) == 8
    assert await result_of(pipeline, 5) == -5


async def test_without_another_way_the_value_passes_by(
    broker: InMemoryBroker, tasks: Tasks
) -> None:
    pipeline = Pipeline(broker, tasks.double).condition(greater_than(10), tasks.negate)
    pipeline.call_next(tasks.double)

    assert await result_of(pipeline, 6) == -24
    assert await result_of(pipeline, 5) == 20


async def test_the_steps_of_the_way_not_taken_are_skipped(
    broker: InMemoryBroker, tasks: Tasks
) -> None:
    way = Pipeline(broker, tasks.double).call_next(tasks.double)
    task = await Pipeline(broker).condition(is_true(), way, tasks.negate).kiq(1)
    await task.wait_result(timeout=10)

    status = await task.get_status()

    steps = {step.name: str(step.status) for step in status.steps}
    assert steps["negate"] == "SKIPPED"
    assert (steps["double"], steps["double#2"]) == ("COMPLETED", "COMPLETED")
    assert task.partial_results == {}
    assert await task.get_partial_results() == {
        "condition": True,
        "double": 2,
        "double#2": 4,
    }


async def test_a_value_that_is_none_comes_out_of_its_way(broker: InMemoryBroker) -> None:
    @broker.task
    def forget(value: int) -> None:
        del value

    assert await result_of(Pipeline(broker).condition(is_true(), forget), 3) is None


async def test_a_task_chooses_one_of_many_cases(broker: InMemoryBroker, tasks: Tasks) -> None:
    @broker.task
    def size(value: int) -> str:
        return "small" if value < 10 else "big" if value < 100 else "huge"

    pipeline = Pipeline(broker).branch(size, {"small": tasks.double, "big": tasks.negate}, None)
    with_default = Pipeline(broker).branch(
        size, {"small": tasks.double}, default=Pipeline(broker, tasks.negate)
    )

    assert await result_of(pipeline, 1) == 2
    assert await result_of(pipeline, 50) == -50
    assert await result_of(with_default, 500) == -500


async def test_no_case_and_no_default_fails_with_the_value_and_the_cases(
    broker: InMemoryBroker, tasks: Tasks
) -> None:
    pipeline = Pipeline(broker).branch(value_at(), {1: tasks.double, 2: tasks.negate})
    task = await pipeline.with_retry(max_attempts=5, delay=60).kiq(3)

    with pytest.raises(PipelineError, match="no case for 3; its cases are 1, 2") as caught:
        await task.wait_result(timeout=10)
    assert isinstance(caught.value.__cause__, NoCaseError)
    assert caught.value.__cause__.cases == (1, 2)


async def test_a_case_is_not_taken_for_a_truth(broker: InMemoryBroker, tasks: Tasks) -> None:
    ways = Pipeline(broker).branch(value_at(), {True: tasks.negate}, default=tasks.double)
    assert await result_of(ways, 1) == 2
    assert await result_of(ways, True) == -1


async def test_members_of_an_enumeration_are_cases(broker: InMemoryBroker, tasks: Tasks) -> None:
    class Colour(StrEnum):
        RED = "red"
        BLUE = "blue"

    @broker.task
    def colour(value: int) -> Colour:
        return Colour.RED if value else Colour.BLUE

    pipeline = Pipeline(broker).branch(
        colour, {Colour.RED: tasks.double, Colour.BLUE: tasks.negate}
    )

    assert await result_of(pipeline, 1) == 2


async def test_a_part_of_the_value_chooses(broker: InMemoryBroker) -> None:
    @broker.task
    def pay(order: dict[str, str]) -> str:
        return "paid " + order["id"]

    @broker.task
    def ship(order: dict[str, str]) -> str:
        return "shipped " + order["id"]

    pipeline = Pipeline(broker).branch(value_at(("state", 0)), {"new": pay, "paid": ship})

    assert await result_of(pipeline, {"state": ["paid"], "id": "7"}) == "shipped 7"


async def test_ways_can_hold_maps_groups_and_further_branches(
    broker: InMemoryBroker, tasks: Tasks
) -> None:
    inner = Pipeline(broker).condition(less_than(0), tasks.negate, tasks.double)
    many = Pipeline(broker).map(tasks.double).group([spread(broker), spread(broker)])
    pipeline = Pipeline(broker).condition(is_list(broker), many, inner).call_next(shown(broker))

    assert await result_of(pipeline, [1, 2]) == "[[2, 4], [2, 4]]"
    assert await result_of(pipeline, -3) == "3"
    assert await result_of(pipeline, 3) == "6"


async def test_a_dataflow_pipeline_is_a_way_as_a_run_of_its_own(broker: InMemoryBroker) -> None:
    @broker.task
    @pipeline_task(output="half")
    def halve(number: int) -> int:
        return number // 2

    graph = DataflowPipeline.from_tasks(broker, [halve])
    pipeline = Pipeline(broker).condition(is_true(), graph)

    assert await result_of(pipeline, 6) == {"half": 3}
    assert await result_of(pipeline, 0) == 0


async def test_a_long_list_passes_through_a_branch_item_by_item(
    broker: InMemoryBroker, tasks: Tasks
) -> None:
    many = Pipeline(broker).map(tasks.double)
    pipeline = Pipeline(broker).condition(is_true(), many).map(tasks.negate)

    assert await result_of(pipeline, list(range(1500))) == [-2 * n for n in range(1500)]


async def test_a_way_keeps_the_policies_of_its_pipeline(
    broker: InMemoryBroker, tasks: Tasks
) -> None:
    tries: list[int] = []

    @broker.task
    def flaky(value: int) -> int:
        tries.append(value)
        if len(tries) < 3:
            raise ConnectionError("not yet")
        return value

    way = Pipeline(broker, flaky).with_retry(max_attempts=3, delay=0.01)
    assert await result_of(Pipeline(broker).condition(is_true(), way), 1) == 1
    assert len(tries) == 3


async def test_where_failures_are_passed_over_a_failed_choice_runs_no_way(
    broker: InMemoryBroker, tasks: Tasks
) -> None:
    ran: list[int] = []

    @broker.task
    def breaks(value: int) -> bool:
        raise ValueError("no idea")

    @broker.task
    def note(value: int) -> int:
        ran.append(value)
        return value

    pipeline = Pipeline(broker).condition(breaks, note, note).on_error("continue")

    assert await result_of(pipeline, 1) is None
    assert ran == []


@pytest.mark.parametrize(
    ("condition", "true_of", "false_of"),
    [
        (equals(3), 3, 4),
        (not_equals(3), 4, 3),
        (greater_than(3), 4, 3),
        (at_least(3), 3, 2),
        (less_than(3), 2, 3),
        (at_most(3), 3, 4),
        (one_of(1, 2), 2, 3),
        (contains("a"), ["a"], ["b"]),
        (is_none(), None, 0),
        (is_true(), [0], []),
        (negated(equals(3)), 4, 3),
        (all_of(greater_than(1), less_than(3)), 2, 3),
        (any_of(equals(1), equals(2)), 2, 3),
        (equals("x", key=("a", 1)), {"a": [0, "x"]}, {"a": [0]}),
        (is_none(key="missing"), {}, {"missing": 1}),
    ],
    ids=str,
)
async def test_each_comparison_chooses(
    broker: InMemoryBroker, condition: object, true_of: object, false_of: object
) -> None:
    @broker.task
    def yes(value: object) -> str:
        return "yes"

    @broker.task
    def no(value: object) -> str:
        return "no"

    pipeline = Pipeline(broker).condition(condition, yes, no)

    assert await result_of(pipeline, true_of) == "yes"
    assert await result_of(pipeline, false_of) == "no"


async def test_what_cannot_be_compared_fails_the_run_with_both_sides(
    broker: InMemoryBroker, tasks: Tasks
) -> None:
    task = await Pipeline(broker).condition(greater_than(3), tasks.double).kiq("text")

    with pytest.raises(PipelineError, match=r"greater_than.*'str'") as caught:
        await task.wait_result(timeout=10)
    assert isinstance(caught.value.__cause__, ConditionError)


def test_bad_branches_are_refused_at_once(broker: InMemoryBroker, tasks: Tasks) -> None:
    with pytest.raises(InvalidTaskOptionError, match="at least one case"):
        Pipeline(broker).branch(tasks.is_even, {})
    with pytest.raises(InvalidTaskOptionError, match="as keys, not"):
        Pipeline(broker).branch(tasks.is_even, {(1, 2): tasks.double})
    with pytest.raises(ConfigurationError, match="takes conditions"):
        all_of(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="A key is"):
        equals(1, key=1.5)  # type: ignore[arg-type]


async def test_a_run_that_begins_with_a_branch_takes_exactly_one_value(
    broker: InMemoryBroker, tasks: Tasks
) -> None:
    with pytest.raises(ConfigurationError, match="exactly one value"):
        await Pipeline(broker).condition(is_true(), tasks.double).kiq(1, 2)


async def test_a_picture_names_the_ways(broker: InMemoryBroker, tasks: Tasks) -> None:
    view = Pipeline(broker).branch(value_at(), {"a": tasks.double}, tasks.negate).to_view()

    assert {(edge.target, edge.label) for edge in view.edges if edge.source == "branch"} >= {
        ("double", "a"),
        ("negate", "default"),
    }
    assert {node.kind for node in view.nodes} == {"branch", "task", "merge"}


def spread(broker: InMemoryBroker) -> object:
    @broker.task(task_name=f"spread-{len(broker.get_all_tasks())}")
    def same(values: list[int]) -> list[int]:
        return values

    return same


def is_list(broker: InMemoryBroker) -> object:
    @broker.task
    def is_a_list(value: object) -> bool:
        return isinstance(value, list)

    return is_a_list


def shown(broker: InMemoryBroker) -> object:
    @broker.task
    def show(value: object) -> str:
        return str(value)

    return show
