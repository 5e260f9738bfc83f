"""How a pipeline that is a step of another one is stored with that step."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Any, Final, ForwardRef, Union, cast, get_args, get_origin

from taskiq_flow.compile.compiled import Compiled, InputSlot, StartValues
from taskiq_flow.compile.links import ChildPlan, ChildUse, Shape
from taskiq_flow.dataflow.signature import MISSING
from taskiq_flow.exceptions import ChildInputError
from taskiq_flow.plan import load_plan, plan_to_json


@dataclass(frozen=True, slots=True)
class Child:
    """A run that a step starts: what it is made of, and the options of its pipeline."""

    plan: ChildPlan
    timeout_seconds: float | None = None
    max_parallel: int | None = None
    tags: tuple[str, ...] = ()

    @classmethod
    def of(cls, use: ChildUse, shape: Shape | None) -> Child:
        """Compile a pipeline for values of a shape."""
        return cls(use.prepare(shape), use.timeout_seconds, use.max_parallel, use.tags)

    def encode(self, step: str, values: Sequence[Any]) -> StartValues:
        """Encode the values that a step hands to its child run.

        Raises:
            ChildInputError: They are to be inputs by name, but are no dict of those.
            BadItemsError: One is to be mapped over, but has no items.
            UnserializableValueError: One cannot be stored.
        """
        compiled, order = self.plan
        if order is not None:
            return compiled.encode([values[place] for place in order])
        names = [slot.name for slot in compiled.slots]
        given = values[0]
        if isinstance(given, Mapping):
            by_name = cast("Mapping[Any, Any]", given)
            if all(name in by_name for name in names):
                return compiled.encode([by_name[name] for name in names])
        raise ChildInputError(step, names, type(cast("object", given)).__name__)

    def to_json(self) -> dict[str, Any]:
        compiled, order = self.plan
        return {
            "plan": plan_to_json(compiled.plan),
            "slots": [list(slot) for slot in compiled.slots],
            "order": order,
            "items": [
                [step, [item.decode() for item in items]]
                for step, items in compiled.bound_items.items()
            ],
            "timeout": self.timeout_seconds,
            "max_parallel": self.max_parallel,
            "tags": list(self.tags),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Child:
        compiled = Compiled(
            plan=load_plan(json.dumps(data["plan"]).encode()),
            slots=tuple(InputSlot(*slot) for slot in data["slots"]),
            bound_items={step: [item.encode() for item in items] for step, items in data["items"]},
        )
        order = None if data["order"] is None else tuple(data["order"])
        return cls(
            ChildPlan(compiled, order), data["timeout"], data["max_parallel"], tuple(data["tags"])
        )


class Startable(ABC):
    """What can be a step of a pipeline, or be returned by one, and runs as a run of its own."""

    broker: Any

    @abstractmethod
    def as_child(self) -> ChildUse:
        """The pipeline as it is now."""


@dataclass(frozen=True)
class Continue:
    """Returned by a step: run this pipeline with these arguments, its result is the step's."""

    pipeline: Startable
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __init__(self, pipeline: Startable, /, *args: Any, **kwargs: Any) -> None:
        object.__setattr__(self, "pipeline", pipeline)
        object.__setattr__(self, "args", args)
        object.__setattr__(self, "kwargs", kwargs)

    def child(self) -> tuple[Child, list[Any]]:
        """What to start, and with which values.

        Raises:
            ConfigurationError: The pipeline cannot be started with these.
        """
        shape = Shape(len(self.args), tuple(self.kwargs))
        child = Child.of(self.pipeline.as_child(), shape)
        return child, [*self.args, *self.kwargs.values()]

    def __reduce__(self) -> tuple[Callable[..., Continue], tuple[Any, ...]]:
        # A pipeline holds its broker, and cannot leave a process of a pool; its plan can.
        child, values = self.child()
        return _Prepared, (child.to_json(), values)


class _Prepared(Continue):
    """One that comes from another process."""

    def __init__(self, child: Mapping[str, Any], values: list[Any]) -> None:
        object.__setattr__(self, "pipeline", None)
        object.__setattr__(self, "args", (child, values))
        object.__setattr__(self, "kwargs", {})

    def child(self) -> tuple[Child, list[Any]]:
        child, values = self.args
        return Child.from_json(child), values


_VALUES: Final = frozenset({NoneType, bool, int, float, str, bytes, list, tuple, dict})


def continuation(returned: object) -> Continue | None:
    """What a step's result asks to be run, if it does."""
    if type(returned) in _VALUES:
        return None  # nearly all are; asking an abstract class takes longer
    if isinstance(returned, Continue):
        return returned
    return Continue(returned) if isinstance(returned, Startable) else None


def may_continue(annotation: Any) -> bool:
    """Whether a task of this return annotation may return a pipeline; one without may."""
    if annotation in (MISSING, Any, object) or isinstance(annotation, (str, ForwardRef)):
        return True
    if isinstance(annotation, type) and issubclass(annotation, (Startable, Continue)):
        return True
    origin = get_origin(annotation)
    parts = get_args(annotation) if origin in (Union, UnionType) else (origin,)
    return any(may_continue(part) for part in parts if part is not None)
