"""What the engine itself computes between two steps of the user's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import MappingProxyType
from typing import Any, Final

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


# Async generators: what they yield is stored item by item, so no list has to fit into one value.
BUILTINS: Final = MappingProxyType[str, Callable[..., AsyncIterator[Any]]](
    {"collect": collect, "prepend": prepend, "chunk": chunk}
)


class StepOption:
    """Keys of `PlanStep.options` that the worker obeys."""

    OUTPUTS = "outputs"
    """Names of several outputs: what the task returned is stored as a dict with these keys."""

    LONE = "lone"
    """Which argument, by name or place, is a list to be reduced: one of a single element is its
    own reduction, so that is passed on and the task is not called."""

    SPREAD = "spread"
    """Names of the arguments that a map takes out of its item, which is a dict of them."""
