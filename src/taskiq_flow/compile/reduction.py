"""Compiles a reduction: one call with the whole list, or a tree of calls with parts of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taskiq_flow.compile.arguments import Call, Given, bind_call
from taskiq_flow.compile.builder import PlanBuilder, item_spec
from taskiq_flow.compile.builtin import StepOption
from taskiq_flow.compile.uses import TaskUse
from taskiq_flow.dataflow import TaskInfo
from taskiq_flow.model.numbers import check_count
from taskiq_flow.plan import Binding, Const, Item, Source

MOST_ITEMS = 1_000_000
"""A list of unknown length has at most so many elements: the limit of a map's fan-out."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """How a list becomes one value.

    ``chunk_size`` reduces so many at a time, as a tree: the task must be associative. ``length``
    is how many there are, where that is known; ``initial`` is put before them.
    """

    chunk_size: int | None = None
    initial: Const | None = None
    length: int | None = None
    max_parallel: int | None = None

    def __post_init__(self) -> None:
        check_count("max_parallel", self.max_parallel)
        check_count("chunk_size", self.chunk_size, least=2)

    @property
    def levels(self) -> int:
        """How many levels of parts come before the last call."""
        if self.chunk_size is None:
            return 0
        levels = 0
        left = (MOST_ITEMS if self.length is None else self.length) + (self.initial is not None)
        while left > self.chunk_size:
            left = -(-left // self.chunk_size)
            levels += 1
        return levels


def add_reduction(
    builder: PlanBuilder,
    name: str,
    use: TaskUse,
    info: TaskInfo,
    values: Source,
    how: Reduction,
    *,
    named: Mapping[str, Binding] | None = None,
    after: Sequence[int] = (),
) -> int:
    """Add the steps of a reduction; the last of them, which has its name, is returned."""
    size = how.chunk_size
    if how.initial is not None:
        index = builder.add_builtin(
            f"{name}.initial", "prepend", how.initial, values, like=use, after=after
        )
        values = Source(index)
    for level in range(1, how.levels + 1):
        chunks = builder.add_builtin(
            f"{name}.chunks{level}", "chunk", values, Const(str(size)), like=use, after=after
        )
        part = builder.name(f"{name}.level{level}")
        call = bind_call(part, use, info, Given((Item(),), named))
        index = builder.add_task(
            part,
            use,
            info,
            call,
            spec=item_spec(Source(chunks), max_parallel=how.max_parallel),
            # The first level calls the task even for one element, as a single call would.
            options=_lone(call, Item()) if level > 1 else None,
            is_output=False,
        )
        values = Source(index)
    call = bind_call(name, use, info, Given((values,), named))
    options = _lone(call, values) if how.levels else None
    return builder.add_task(name, use, info, call, after=after, options=options)


def _lone(call: Call, values: Binding) -> dict[str, str | int]:
    """Name the argument that is the list."""
    names = (name for name, binding in call.kwargs if binding == values)
    return {StepOption.LONE: next(names, 0)}
