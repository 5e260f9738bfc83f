"""Reductions in parts call their task so often that one value is left."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskiq_flow.compile import BUILTINS, Policies, Reduction, constant, use_task
from taskiq_flow.compile.builder import PlanBuilder
from taskiq_flow.compile.reduction import MOST_ITEMS, add_reduction
from taskiq_flow.exceptions import InvalidTaskOptionError
from taskiq_flow.plan import PlanStep, Source
from tests.unit.compile.tasks import ROUTING, total


def plan_of(how: Reduction) -> list[PlanStep]:
    builder, use = PlanBuilder(Policies(), ROUTING), use_task(total)
    add_reduction(builder, builder.name("sum"), use, use.read(), Source(-1), how)
    return builder.steps


async def run(name: str, *args: Any) -> list[Any]:
    return [value async for value in BUILTINS[name](*args)]


def test_without_chunks_the_task_is_called_once() -> None:
    (step,) = plan_of(Reduction())

    assert (step.name, step.options) == ("sum", {})


def test_the_initial_value_is_put_first() -> None:
    first, last = plan_of(Reduction(initial=constant(7, "initial value", "sum")))

    assert first.builtin == "prepend"
    assert dict(last.kwargs) == {"values": Source(0)}


def test_the_initial_value_counts_as_one_more() -> None:
    first = constant(7, "initial value", "sum")

    assert Reduction(chunk_size=2, length=2).levels == 0
    assert Reduction(chunk_size=2, length=2, initial=first).levels == 1


def test_from_the_second_level_on_a_single_value_is_passed_on() -> None:
    steps = plan_of(Reduction(chunk_size=2, length=8))
    lone = {step.name: step.options.get("lone") for step in steps if step.builtin is None}

    assert lone == {"sum.level1": None, "sum.level2": "values", "sum": "values"}


@given(st.integers(0, MOST_ITEMS), st.integers(2, 5000))
def test_the_last_call_never_gets_more_than_a_chunk(length: int, size: int) -> None:
    how = Reduction(chunk_size=size, length=length)
    left = length
    for _ in range(how.levels):
        left = -(-left // size)

    assert left <= size


def test_a_list_of_unknown_length_is_planned_for_the_most_items() -> None:
    assert Reduction(chunk_size=100).levels == Reduction(chunk_size=100, length=MOST_ITEMS).levels


@given(st.lists(st.integers(), max_size=60), st.integers(2, 9), st.booleans())
async def test_a_tree_of_sums_is_the_sum(values: list[int], size: int, known: bool) -> None:
    """Carries out the plan by hand, with the engine's own list work and a sum as the task."""
    how = Reduction(chunk_size=size, length=len(values) if known else 100)
    left: Any = values
    for step in plan_of(how):
        if step.builtin is not None:
            left = await run(step.builtin, left, size)
        elif step.map is not None:
            left = [sum(part) for part in left]
        else:
            left = sum(left)

    assert left == sum(values)


async def test_the_engines_own_list_work() -> None:
    assert await run("collect", 1, "a") == [1, "a"]
    assert await run("prepend", 0, [1, 2]) == [0, 1, 2]
    assert await run("chunk", [1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4], [5]]
    assert await run("chunk", [], 2) == []


@pytest.mark.parametrize("size", [1, 0, -3])
def test_a_chunk_has_at_least_two_values(size: int) -> None:
    with pytest.raises(InvalidTaskOptionError, match="2 or more"):
        Reduction(chunk_size=size)
