"""What the engine itself computes between two steps of the user's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import MappingProxyType
from typing import Any, Final

from taskiq_flow.conditions import Condition, ValueAt

PREFIX: Final = "taskiq_flow:"
"""Begins the task name of a builtin step; no function of a user's stands behind it."""


async def collect(*values: Any) -> AsyncIterator[Any]:
    """Make one list of several values, so that a map can run over them."""
    for value in values:
        yield value


async def prepend(first: Any, values: Iterable[Any]) -> AsyncIterator[Any]:
    """Put the initial value of a reduction before the others."""
    yield first
    for value in values:
        yield value


async def chunk(values: Sequence[Any], size: int) -> AsyncIterator[list[Any]]:
    """Cut a list into lists of ``size``; the last one may be shorter."""
    for start in range(0, len(values), size):
        yield list(values[start : start + size])


async def choose(value: Any, how: Sequence[Any]) -> Any:
    """Give what a branch chooses by: the truth of a comparison, or a part of the value."""
    kind, stored = how
    if kind == "at":
        return ValueAt(tuple(stored)).of(value)
    return Condition.from_json(stored).holds(value)


async def hand_over(*values: Any) -> list[Any]:
    """Give the values that a child run is started with."""
    return list(values)


# Async generators: what they yield is stored item by item, so no list has to fit into one value.
BUILTINS: Final = MappingProxyType[str, Callable[..., Any]](
    {
        "collect": collect,
        "prepend": prepend,
        "chunk": chunk,
        "choose": choose,
        "pipeline": hand_over,
    }
)

MERGE: Final = "merge"
"""The builtin where the ways of a branch join. It has no function: stored values are copied."""


class StepOption:
    """Keys of `PlanStep.options` that the worker obeys."""

    OUTPUTS = "outputs"
    """Names of several outputs: what the task returned is stored as a dict with these keys."""

    LONE = "lone"
    """Which argument, by name or place, is a list to be reduced: one of a single element is its
    own reduction, so that is passed on and the task is not called."""

    CACHE = "cache"
    """How results are kept beyond their runs: ``ttl``, ``version`` and ``key`` of a `CachePolicy`;
    a key that is a function stands as true, and is asked of the worker's own."""

    SPREAD = "spread"
    """Names of the arguments that a map takes out of its item, which is a dict of them."""

    CHILD = "child"
    """The run that this step starts, a `Child`; the step's values are what that is started with."""

    MAY_CONTINUE = "may_continue"
    """Whether the task may return a pipeline, which then runs in its place."""

    TAKEN = "taken"
    """The runs, newest first, whose results for items of this map are taken over."""

    COMPENSATION = "compensation"
    """The step that takes this one back when its run does not complete."""

    WAYS = "ways"
    """The `Ways` of a branch, for the step that chooses and for the one where they join."""
