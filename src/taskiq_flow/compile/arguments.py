"""Which parameter of a step receives which value; every misfit is found before anything runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from inspect import Parameter
from typing import Any

from taskiq_flow.compile.uses import TaskUse
from taskiq_flow.dataflow import TaskInfo
from taskiq_flow.exceptions import BadArgumentsError
from taskiq_flow.plan import Binding


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments of a step as the plan stores them."""

    args: tuple[Binding, ...] = ()
    kwargs: tuple[tuple[str, Binding], ...] = ()


@dataclass(frozen=True, slots=True)
class Given:
    """What a step receives beside its bound arguments.

    ``values`` fill its free parameters in order, before the bound positional ones; the first of
    them is the previous value, which goes to ``param_name`` where the step says so. ``hint`` ends
    the sentence about a parameter that got nothing; ``from_start`` says that the values are those
    that a run is started with.
    """

    values: tuple[Binding, ...] = ()
    named: Mapping[str, Binding] | None = None
    hint: str = "bind it with {name}= when the step is added"
    from_start: bool = False


def bind_call(step: str, use: TaskUse, info: TaskInfo, given: Given) -> Call:
    """Match values to the parameters of a task's function.

    Arguments go by name wherever they can, so parameters that the engine or Taskiq fills may
    stand anywhere. A task that this process has only the name of takes them as they come.

    Raises:
        BadArgumentsError: A value has no parameter, or a parameter no value.
    """
    values = list(given.values)
    named: dict[str, Binding] = {**use.kwargs, **(given.named or {})}
    if use.param_name is not None and values:
        if use.param_name in use.kwargs:
            why = f"{use.param_name!r} is bound already, so no other value can go there"
            raise BadArgumentsError(step, use.task_name, why)
        named[use.param_name] = values.pop(0)
    positional: list[Binding] = [*values, *use.args]
    if info.func is None:
        return Call(tuple(positional), tuple(named.items()))
    matching = _Matching(step, use.task_name, info)
    return matching.match(positional, named, given)


class Calls:
    """The calls of one chain; a task that it uses many times is matched once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[TaskInfo, Call]] = {}

    def bind(self, step: str, use: TaskUse, info: TaskInfo, given: Given) -> Call:
        """The same as `bind_call`, and as dear only for what is bound besides one value."""
        if len(given.values) != 1 or given.named or use.args or use.kwargs or use.param_name:
            return bind_call(step, use, info, given)
        known = self._known.get(id(info))
        if known is None:
            known = self._known[id(info)] = (info, bind_call(step, use, info, given))
        value, like = given.values[0], known[1]
        return Call((value,) if like.args else (), tuple((name, value) for name, _ in like.kwargs))


class _Matching:
    def __init__(self, step: str, task_name: str, info: TaskInfo) -> None:
        assert info.func is not None
        self.step, self.task_name = step, task_name
        parameters = _parameters_of(info.func)
        kinds = {p.kind for p in parameters}
        self.takes_more = Parameter.VAR_POSITIONAL in kinds
        self.takes_keywords = Parameter.VAR_KEYWORD in kinds
        self.inputs = [p for p in parameters if p.name in info.parameters]
        self.filled_by_others = set(info.context_parameters)

    def match(
        self, positional: Sequence[Binding], named: Mapping[str, Binding], given: Given
    ) -> Call:
        bound = dict(named)
        free = [p.name for p in self.inputs if p.kind in _BY_ORDER and p.name not in bound]
        bound.update(zip(free, positional, strict=False))
        more = list(positional[len(free) :])
        if more and not self.takes_more:
            self._refuse_positional(len(positional), len(free), given)
        known = {p.name for p in self.inputs}
        strange = [name for name in bound if name not in known]
        if (strange and not self.takes_keywords) or self.filled_by_others.intersection(strange):
            self._refuse_names(strange)
        missing = [
            p.name for p in self.inputs if p.default is Parameter.empty and p.name not in bound
        ]
        if missing:
            self._refuse_missing(missing, given)
        return self._arrange(bound, more)

    def _arrange(self, bound: dict[str, Binding], more: list[Binding]) -> Call:
        args: list[Binding] = []
        for parameter in self.inputs:
            by_order = parameter.kind is Parameter.POSITIONAL_ONLY or (
                bool(more) and parameter.kind in _BY_ORDER
            )
            if by_order and parameter.name in bound:
                args.append(bound.pop(parameter.name))
        return Call((*args, *more), tuple(bound.items()))

    def _refuse_positional(self, number: int, free: int, given: Given) -> None:
        if free == 0 and given.values and not given.from_start:
            why = "it takes no argument that the value before it could go to; use call_after()"
        else:
            why = (
                f"it has {free} free parameter{'' if free == 1 else 's'} but is given "
                f"{number} positional value{'' if number == 1 else 's'}"
            )
        raise BadArgumentsError(self.step, self.task_name, why)

    def _refuse_names(self, strange: list[str]) -> None:
        listed = ", ".join(repr(name) for name in strange)
        have = ", ".join(repr(p.name) for p in self.inputs) or "none"
        why = f"it has no parameter {listed} to be filled; those it has: {have}"
        raise BadArgumentsError(self.step, self.task_name, why)

    def _refuse_missing(self, missing: list[str], given: Given) -> None:
        listed = ", ".join(repr(name) for name in missing)
        fix = given.hint.format(name=missing[0])
        if missing == ["context"]:
            fix = "annotate it with PipelineContext, or turn on with_context()"
        plural = "s" if len(missing) > 1 else ""
        why = f"its parameter{plural} {listed} received no value; {fix}"
        raise BadArgumentsError(self.step, self.task_name, why)


@lru_cache(maxsize=1024)
def _parameters_of(function: Callable[..., Any]) -> tuple[Parameter, ...]:
    """Read once, however often a long chain uses a function."""
    return tuple(inspect.signature(function).parameters.values())


_BY_ORDER = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
