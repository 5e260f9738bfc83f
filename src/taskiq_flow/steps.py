"""Steps as values: made in one place, added to any pipeline, kept in lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskiq_flow.dataflow.signature import MISSING
from taskiq_flow.model.numbers import check_seconds
from taskiq_flow.pipeline import Pipeline
from taskiq_flow.pipeline.steps import AddsItself

__all__ = [
    "AddsItself",
    "BranchStep",
    "ConditionStep",
    "FilterStep",
    "GroupStep",
    "IfStep",
    "MapperStep",
    "ReduceStep",
    "SequentialStep",
    "TimeoutStep",
]


@dataclass(frozen=True)
class SequentialStep:
    """`Pipeline.call_next`; with ``passes_by`` it is `Pipeline.call_after`."""

    task: Any
    param_name: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    passes_by: bool = False

    def add_to(self, pipeline: Pipeline[Any]) -> Pipeline[Any]:
        if self.passes_by:
            return pipeline.call_after(self.task, **self.kwargs)
        return pipeline.call_next(self.task, param_name=self.param_name, **self.kwargs)


@dataclass(frozen=True)
class MapperStep:
    """`Pipeline.map`."""

    task: Any
    items: Iterable[Any] | None = None
    output: str | None = None
    max_parallel: int | None = None
    param_name: str | None = None
    skip_errors: bool = False
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def add_to(self, pipeline: Pipeline[Any]) -> Pipeline[Any]:
        return pipeline.map(self.task, self.items, **_options(self), **self.kwargs)


@dataclass(frozen=True)
class FilterStep(MapperStep):
    """`Pipeline.filter`."""

    def add_to(self, pipeline: Pipeline[Any]) -> Pipeline[Any]:
        return pipeline.filter(self.task, self.items, **_options(self), **self.kwargs)


@dataclass(frozen=True)
class GroupStep:
    """`Pipeline.group`."""

    tasks: Sequence[Any]
    param_names: str | Sequence[str | None] | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def add_to(self, pipeline: Pipeline[Any]) -> Pipeline[Any]:
        return pipeline.group(self.tasks, self.param_names, **self.kwargs)


@dataclass(frozen=True)
class ReduceStep:
    """`Pipeline.reduce`."""

    task: Any
    initial: Any = MISSING
    chunk_size: int | None = None
    output: str | None = None
    param_name: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def add_to(self, pipeline: Pipeline[Any]) -> Pipeline[Any]:
        return pipeline.reduce(
            self.task,
            initial=self.initial,
            chunk_size=self.chunk_size,
            output=self.output,
            param_name=self.param_name,
            **self.kwargs,
        )


@dataclass(frozen=True)
class ConditionStep:
    """`Pipeline.condition`."""

    test: Any
    then: Any
    otherwise: Any = None

    def add_to(self, pipeline: Pipeline[Any]) -> Pipeline[Any]:
        return pipeline.condition(self.test, self.then, self.otherwise)


IfStep = ConditionStep


@dataclass(frozen=True)
class BranchStep:
    """`Pipeline.branch`."""

    on: Any
    cases: Mapping[Any, Any]
    default: Any = None

    def add_to(self, pipeline: Pipeline[Any]) -> Pipeline[Any]:
        return pipeline.branch(self.on, self.cases, self.default)


@dataclass(frozen=True)
class TimeoutStep:
    """`Pipeline.call_next` of a task that may take so many seconds each time.

    Raises:
        InvalidTaskOptionError: The timeout is not positive.
    """

    task: Any
    timeout: float
    param_name: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        check_seconds("timeout", self.timeout)

    def add_to(self, pipeline: Pipeline[Any]) -> Pipeline[Any]:
        kicker = self.task.kicker() if hasattr(self.task, "kicker") else self.task
        limited = kicker.with_labels(timeout=self.timeout)
        return pipeline.call_next(limited, param_name=self.param_name, **self.kwargs)


def _options(step: MapperStep) -> dict[str, Any]:
    names = ("output", "max_parallel", "param_name", "skip_errors")
    return {name: getattr(step, name) for name in names}
