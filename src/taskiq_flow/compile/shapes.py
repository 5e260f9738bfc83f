"""Which parameters of a first step the values of a start go to."""

from __future__ import annotations

from collections.abc import Sequence

from taskiq_flow.compile.children import Child
from taskiq_flow.compile.links import Shape
from taskiq_flow.compile.uses import TaskUse
from taskiq_flow.dataflow import TaskInfo


def free_parameters(use: TaskUse, info: TaskInfo, *, has_item: bool) -> list[str]:
    """The parameters that the values of a start go to, in order."""
    free = [name for name in info.parameters if name not in use.kwargs]
    if use.param_name in free:
        free.remove(use.param_name)
        free.insert(0, use.param_name)
    return free[1:] if has_item else free


def least_shape(use: TaskUse, info: TaskInfo, free: Sequence[str]) -> Shape:
    """The start with the fewest values that a task could be called with."""
    required = [name for name in free if info.parameters[name].is_required]
    needed = required[: max(0, len(required) - len(use.args))]
    by_order = [name for name in needed if info.parameters[name].positional_only]
    return Shape(len(by_order), tuple(name for name in needed if name not in by_order))


def slot_names(child: Child, count: int) -> list[str]:
    """What the values that a child run is started with are called, in the order of their shape."""
    compiled, order = child.plan
    names = [f"argument {number}" for number in range(1, count + 1)]
    for slot, place in zip(compiled.slots, order or (), strict=False):
        names[place] = slot.name
    return names


def size(shape: Shape) -> int:
    """How many values a start of this shape has."""
    return shape.positional + len(shape.named)
