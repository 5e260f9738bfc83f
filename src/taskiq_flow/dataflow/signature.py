"""Which parameters of a task the graph fills, and what the task returns."""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias, Union, cast, get_args, get_origin

from taskiq_flow.exceptions import NotATaskError

AnyTask: TypeAlias = Any
"""A decorated Taskiq task, a kicker of one, or a plain function; told apart by their attributes."""

MISSING: Final = inspect.Parameter.empty
"""Stands where there is no annotation or no default."""


@dataclass(frozen=True, slots=True)
class InputParameter:
    """One parameter that a run fills, from another step or from its own inputs."""

    name: str
    annotation: Any = MISSING
    default: Any = MISSING
    positional_only: bool = False

    @property
    def is_required(self) -> bool:
        return self.default is MISSING


@dataclass(frozen=True, slots=True)
class TaskSignature:
    """The parameters of one function, sorted by who fills them.

    ``context`` names those that receive a ``PipelineContext``; those that Taskiq's dependency
    injection fills are left out altogether.
    """

    inputs: tuple[InputParameter, ...] = ()
    context: tuple[str, ...] = ()
    takes_keywords: bool = False
    returns: Any = MISSING


def read_signature(function: Callable[..., Any], *, context_by_name: bool = False) -> TaskSignature:
    """Read a function as a node of a graph; annotations that cannot be resolved stay text.

    ``context_by_name`` is the switch of ``with_context``: a parameter named ``context`` that has
    neither annotation nor default then receives the context too.
    """
    hints = _resolve_hints(function)
    inputs: list[InputParameter] = []
    context: list[str] = []
    takes_keywords = False
    for position, parameter in enumerate(inspect.signature(function).parameters.values()):
        annotation = hints.get(parameter.name, parameter.annotation)
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            takes_keywords = True
        elif (
            parameter.kind is inspect.Parameter.VAR_POSITIONAL
            or (position == 0 and parameter.name in {"self", "cls"})
            or _is_injected(annotation, parameter.default)
        ):
            continue
        elif _names_class(annotation, "PipelineContext", "taskiq_flow") or (
            context_by_name
            and parameter.name == "context"
            and annotation is MISSING
            and parameter.default is MISSING
        ):
            context.append(parameter.name)
        else:
            inputs.append(
                InputParameter(
                    parameter.name,
                    annotation,
                    parameter.default,
                    parameter.kind is inspect.Parameter.POSITIONAL_ONLY,
                )
            )
    returns = hints.get("return", MISSING)
    return TaskSignature(tuple(inputs), tuple(context), takes_keywords, returns)


def task_function(task: AnyTask) -> Callable[..., Any] | None:
    """Return the function behind a task; None for a kicker whose task this process has not.

    Raises:
        NotATaskError: This is neither a task nor anything that can be called.
    """
    decorated = decorated_task(task)
    original = getattr(decorated, "original_func", None)
    if callable(original) or decorated is not task:
        return original
    if not callable(task) or isinstance(task, type):
        raise NotATaskError(cast("object", task))
    return task


def decorated_task(task: AnyTask) -> AnyTask | None:
    """Return the task itself, or the one that a kicker knows by name and its broker has."""
    if hasattr(task, "original_func") or not hasattr(task, "broker"):
        return task
    return task.broker.find_task(task.task_name)


def task_name(task: AnyTask) -> str:
    """Return the name by which brokers know a task; a plain function has its qualified one."""
    name = getattr(task, "task_name", None)
    if isinstance(name, str):
        return name
    function = task_function(task)
    return f"{getattr(function, '__module__', '')}:{function_name(task)}"


def function_name(task: AnyTask) -> str:
    """Return the name by which people know a task: that of its function."""
    function = task_function(task)
    if function is None:
        return re.split(r"[:.]", task.task_name)[-1] or task.task_name
    while isinstance(function, functools.partial):
        function = cast("Callable[..., Any]", function.func)
    name = getattr(function, "__name__", None) or type(function).__name__
    # Taskiq renames the functions it decorates, so that process pools can import them.
    return name.removesuffix("__taskiq_original")


def _resolve_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return evaluated annotations; one that cannot be evaluated does not spoil the others."""
    while isinstance(function, functools.partial):
        function = cast("Callable[..., Any]", function.func)
    if not inspect.isroutine(function):
        function = type(function).__call__
    try:
        return typing.get_type_hints(function, include_extras=True)
    except _ANNOTATION_ERRORS:
        pass
    names = getattr(inspect.unwrap(function), "__globals__", {})
    hints: dict[str, Any] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            hints.update(typing.get_type_hints(holder, names, include_extras=True))
        except _ANNOTATION_ERRORS:
            hints[name] = annotation
    return hints


# What evaluating somebody's annotation text can end in; most often a name under TYPE_CHECKING.
_ANNOTATION_ERRORS = (NameError, AttributeError, TypeError, ValueError, SyntaxError, LookupError)


def _is_injected(annotation: Any, default: Any) -> bool:
    """Say whether Taskiq fills this parameter; its types are known by name, never imported."""
    if _is_dependency(default) or _names_class(annotation, "Context", "taskiq"):
        return True
    return get_origin(annotation) is Annotated and any(
        _is_dependency(extra) for extra in annotation.__metadata__
    )


def _is_dependency(value: Any) -> bool:
    return any(
        cls.__name__ == "Dependency" and _is_within(cls, "taskiq_dependencies")
        for cls in type(value).__mro__
    )


def _names_class(annotation: Any, name: str, package: str) -> bool:
    """Say whether an annotation is, or has as one of its alternatives, this class."""
    for part in _alternatives(annotation):
        text = part.__forward_arg__ if isinstance(part, typing.ForwardRef) else part
        if isinstance(text, str):
            # Unresolved text: only our own class has a name that nobody else's would have.
            if name == "PipelineContext" and re.search(rf"\b{name}\b", text):
                return True
        elif isinstance(part, type) and any(
            cls.__name__ == name and _is_within(cls, package) for cls in part.__mro__
        ):
            return True
    return False


def _alternatives(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(annotation.__origin__)
    elif origin is Union or origin is types.UnionType:
        for part in get_args(annotation):
            yield from _alternatives(part)
    else:
        yield annotation


def _is_within(cls: type, package: str) -> bool:
    return cls.__module__.partition(".")[0] == package
