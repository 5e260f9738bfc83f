"""A step as the worker runs it: its blob parsed once, its arguments bound from stored values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, get_type_hints

from taskiq_flow.codec import decode, encode
from taskiq_flow.codec.facts import read_facts
from taskiq_flow.compile.builtin import StepOption
from taskiq_flow.exceptions import UndecodableValueError
from taskiq_flow.model.records import NONE_VALUE, ItemMark, Value
from taskiq_flow.plan import (
    Binding,
    Const,
    DictOf,
    Item,
    ListOf,
    PlanStep,
    Source,
    sources_of,
    step_from_json,
)


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A parsed blob: the step, its place in the plan, and the order of its granted values."""

    step: PlanStep
    index: int
    plan_kind: str
    plan_name: str
    sources: tuple[int, ...]

    @property
    def items_source(self) -> int | None:
        """The key of the value that is split into items, if a step's or an input's is."""
        spec = self.step.map
        return None if spec is None or spec.items is None else spec.items.key


@lru_cache(maxsize=4096)
def load_program(blob: bytes) -> Program:
    """Parse what a grant carries; equal blobs, as in all runs of one plan, are parsed once."""
    data = read_facts(blob)
    step = step_from_json(data)
    bindings = (*step.args, *(binding for _, binding in step.kwargs))
    sources = dict.fromkeys(key for binding in bindings for key in sources_of(binding))
    if step.map is not None and step.map.items is not None:
        sources = dict.fromkeys((step.map.items.key, *sources))
    return Program(
        step=step,
        index=data["index"],
        plan_kind=data["plan"]["kind"],
        plan_name=data["plan"]["name"],
        sources=tuple(sources),
    )


@lru_cache(maxsize=4096)
def parameter_annotations(function: Callable[..., Any]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The names of a function's positional parameters, and all parameters' annotations."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return (), {}
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - a user's annotation may name anything; then there is none
        hints = {}
    positional = tuple(
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    )
    return positional, {name: hints[name] for name in signature.parameters if name in hints}


Loaded = Value | Sequence[bytes]
"""A granted value; one that is stored item by item has been read whole."""


class Body(NamedTuple):
    """A function as the body of a step: what is the same for all its calls, found out once.

    ``args`` and ``kwargs`` say with each binding by which annotation its value is decoded.
    ``returns`` is what errors call its result.
    """

    function: Callable[..., Any]
    is_stream: bool
    args: tuple[tuple[Binding, Any], ...]
    kwargs: tuple[tuple[str, Binding, Any], ...]
    spread: tuple[tuple[str, Any], ...]
    returns: str

    def bind(
        self, values: Mapping[int, Loaded], item: bytes | None = None
    ) -> tuple[list[Any], dict[str, Any]]:
        """The positional and keyword arguments; ``item`` is a map's element without its mark."""
        args = [evaluate(binding, values, wanted, item) for binding, wanted in self.args]
        kwargs: dict[str, Any] = {}
        for name, binding, wanted in self.kwargs:
            kwargs[name] = evaluate(binding, values, wanted, item)
        if self.spread and item is not None:
            parts = decode(item)
            kwargs.update((name, _refit(parts[name], wanted)) for name, wanted in self.spread)
        return args, kwargs


@lru_cache(maxsize=4096)
def body_of(program: Program, function: Callable[..., Any]) -> Body:
    """Prepare a function to be called as a step."""
    step = program.step
    positional, annotations = parameter_annotations(function)
    by_place = dict(enumerate(annotations.get(name, Any) for name in positional))
    return Body(
        function=function,
        is_stream=inspect.isasyncgenfunction(function),
        args=tuple((binding, by_place.get(at, Any)) for at, binding in enumerate(step.args)),
        kwargs=tuple((name, it, annotations.get(name, Any)) for name, it in step.kwargs),
        spread=tuple((n, annotations.get(n, Any)) for n in step.options.get(StepOption.SPREAD, ())),
        returns=f"result of step {step.name!r}",
    )


def evaluate(
    binding: Binding,
    values: Mapping[int, Loaded],
    annotation: Any = None,
    item: bytes | None = None,
) -> Any:
    """The Python value of a binding. Fresh on every call: a step may change what it was given."""
    wanted = Any if annotation is None else annotation
    match binding:
        case Source(key=key, part=part):
            return _load(values[key], part, wanted)
        case Const(text=text):
            return _fit(text.encode(), wanted)
        case Item():
            return None if item is None else _fit(item, wanted)
        case ListOf(parts=parts):
            return [evaluate(part, values, _element(wanted), item) for part in parts]
        case DictOf(parts=parts):
            # A TypedDict says of each value what it is.
            fields: Mapping[str, Any] = getattr(annotation, "__annotations__", {})
            return {name: evaluate(part, values, fields.get(name), item) for name, part in parts}


def _load(value: Loaded, part: str | int | None, annotation: Any) -> Any:
    if not isinstance(value, bytes):
        element = _element(annotation) if part is None else Any
        loaded = [
            None if entry[:1] == ItemMark.FAILED else _fit(entry[1:], element)
            for entry in value
            if isinstance(entry, bytes) and entry[:1] != ItemMark.DROPPED
        ]
        return loaded if part is None else loaded[int(part)]
    if part is None:
        return _fit(value, annotation)
    whole = decode(value)
    # The annotation belongs to the part, so it is applied to the part alone.
    chosen = whole[part]
    return chosen if annotation is Any else _refit(chosen, annotation)


def _refit(value: Any, annotation: Any) -> Any:
    return _fit(encode(value, where="one of several outputs", limit=None), annotation)


def _fit(data: bytes, annotation: Any) -> Any:
    """Decode by the annotation; a value that does not fit is passed on as it is.

    So does Taskiq, which logs it: the annotation may be wrong, and the code may work all the same.
    """
    if annotation is Any or data == NONE_VALUE:
        return decode(data)
    try:
        return decode(data, annotation)
    except UndecodableValueError:
        return decode(data)


def _element(annotation: Any) -> Any:
    """The annotation of one element, where a list's, tuple's or iterable's says so."""
    arguments = getattr(annotation, "__args__", ())
    origin = getattr(annotation, "__origin__", None)
    if isinstance(origin, type) and arguments and not issubclass(origin, dict):
        return arguments[0]
    return Any
