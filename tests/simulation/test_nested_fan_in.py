"""Groups, maps, ways and pipelines inside each other give what the same Python would give."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taskiq import InMemoryBroker

from taskiq_flow import Pipeline
from taskiq_flow.conditions import at_least


@dataclass(frozen=True)
class Part:
    """A part of a chain: how it is added, and what it makes of a value."""

    text: str
    add: Callable[[Nested, Pipeline[Any]], Pipeline[Any]]
    of: Callable[[Any], Any]

    def __repr__(self) -> str:
        return self.text


class Nested:
    """The tasks that parts are made of, and a loop in which their pipelines run."""

    def __init__(self) -> None:
        self.broker = InMemoryBroker()
        self.runner = asyncio.Runner()

        @self.broker.task(task_name="nested:add")
        async def add(number: int, by: int) -> int:
            return number + by

        @self.broker.task(task_name="nested:up_to")
        async def up_to(number: int, most: int) -> list[int]:
            return [number + step for step in range(most)]

        @self.broker.task(task_name="nested:total")
        async def total(values: list[int]) -> int:
            return sum(values)

        @self.broker.task(task_name="nested:is_even")
        async def is_even(number: int) -> bool:
            return number % 2 == 0

        self.add, self.up_to, self.total, self.is_even = add, up_to, total, is_even

    def build(self, part: Part) -> Pipeline[Any]:
        return part.add(self, Pipeline(self.broker))

    def result(self, part: Part, value: int) -> Any:
        async def run() -> Any:
            async with asyncio.timeout(60):
                task = await self.build(part).kiq(value)
                return (await task.wait_result()).return_value

        return self.runner.run(run())


@pytest.fixture(scope="module")
def nested() -> Iterator[Nested]:
    nested = Nested()
    yield nested
    nested.runner.run(nested.broker.shutdown())
    nested.runner.close()


def adds(by: int) -> Part:
    return Part(f"+{by}", lambda n, p: p.call_next(n.add, by=by), lambda value: value + by)


def follows(first: Part, then: Part) -> Part:
    return Part(
        f"({first} {then})",
        lambda n, p: then.add(n, first.add(n, p)),
        lambda value: then.of(first.of(value)),
    )


def grouped(parts: list[Part]) -> Part:
    """Pipelines side by side with the same value, and the sum of what they give."""
    return Part(
        f"sum of {parts}",
        lambda n, p: p.group([n.build(part) for part in parts]).call_next(n.total),
        lambda value: sum(part.of(value) for part in parts),
    )


def mapped(part: Part, most: int, at_once: int | None) -> Part:
    """A pipeline for each of some numbers, and the sum of what they give."""
    return Part(
        f"sum over {most} of {part}",
        lambda n, p: (
            p.call_next(n.up_to, most=most).map(n.build(part), max_parallel=at_once).reduce(n.total)
        ),
        lambda value: sum(part.of(value + step) for step in range(most)),
    )


def filtered(most: int) -> Part:
    return Part(
        f"sum of the even of {most}",
        lambda n, p: p.call_next(n.up_to, most=most).filter(n.is_even).call_next(n.total),
        lambda value: sum(v for v in range(value, value + most) if v % 2 == 0),
    )


def chosen(then: Part, otherwise: Part, least: int) -> Part:
    return Part(
        f"({then} if >= {least} else {otherwise})",
        lambda n, p: p.condition(at_least(least), n.build(then), n.build(otherwise)),
        lambda value: then.of(value) if value >= least else otherwise.of(value),
    )


def within(part: Part) -> Part:
    return Part(f"run of {part}", lambda n, p: p.call_next(n.build(part)), part.of)


PARTS = st.recursive(
    st.builds(adds, st.integers(-5, 5)) | st.builds(filtered, st.integers(0, 4)),
    lambda parts: st.one_of(
        st.builds(follows, parts, parts),
        st.builds(grouped, st.lists(parts, min_size=1, max_size=3)),
        st.builds(mapped, parts, st.integers(0, 3), st.none() | st.integers(1, 2)),
        st.builds(chosen, parts, parts, st.integers(-5, 5)),
        st.builds(within, parts),
    ),
    max_leaves=6,
)


@pytest.mark.timeout(300)
@settings(max_examples=400)
@given(part=PARTS, value=st.integers(-10, 10))
def test_a_chain_of_nested_parts_gives_what_its_model_gives(
    nested: Nested, part: Part, value: int
) -> None:
    assert nested.result(part, value) == part.of(value)
