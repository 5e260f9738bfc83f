"""What ``@pipeline_task`` says about a task: a frozen record, kept on its function."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from taskiq_flow.dataflow.caching import CachePolicy
from taskiq_flow.dataflow.signature import AnyTask, decorated_task
from taskiq_flow.exceptions import InvalidTaskOptionError, NotATaskError
from taskiq_flow.model.numbers import LONGEST_SECONDS, check_count, check_seconds, is_number
from taskiq_flow.model.records import Limit

Outputs: TypeAlias = Sequence[str] | Mapping[str, Any]
"""Several outputs: their names in the order of a tuple, or a name and its type each."""

Inputs: TypeAlias = Sequence[str] | Mapping[str, str]
"""The data that a task consumes by name, or which parameter takes which."""

_DECLARATION = "__taskiq_flow__"
_RESOURCES = "__taskiq_flow_resources__"

# Weak: it lets `get_all_pipeline_outputs()` find what is alive, and keeps nothing alive.
_declared: weakref.WeakKeyDictionary[Callable[..., Any], None] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """How one task is run. Times are in seconds.

    ``retries`` is None where nothing was said, so that the policy of the pipeline applies. ``rate``
    is how often the task may start in a second, wherever it is used.
    """

    retries: int | None = None
    retry_delay: float = 1.0
    retry_backoff: float = 2.0
    retry_jitter: bool = True
    max_retry_time: float = 300.0
    retry_on: tuple[type[BaseException], ...] = ()
    no_retry_on: tuple[type[BaseException], ...] = ()
    timeout: float | None = None
    cache: CachePolicy | None = None
    limits: tuple[Limit, ...] = ()
    rate: float | None = None
    resources: Mapping[str, Any] = field(default_factory=dict[str, Any])
    description: str | None = None

    def __post_init__(self) -> None:
        delay, backoff = self.retry_delay, self.retry_backoff
        check_count("retries", self.retries, least=0)
        good = is_number(delay) and 0 <= delay <= LONGEST_SECONDS
        _require("retry_delay", delay, good, "must be non-negative, a number of seconds")
        good = is_number(backoff) and backoff >= 1
        _require("retry_backoff", backoff, good, "must be 1 or more")
        check_seconds("max_retry_time", self.max_retry_time)
        check_seconds("timeout", self.timeout)
        for option in ("retry_on", "no_retry_on"):
            types = getattr(self, option)
            good = all(isinstance(t, type) and issubclass(t, BaseException) for t in types)
            _require(option, types, good, "must be exception types")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDeclaration:
    """The arguments of one ``@pipeline_task``; no ``outputs`` means the function's name."""

    outputs: tuple[str, ...] = ()
    output_types: Mapping[str, Any] = field(default_factory=dict[str, Any])
    multiple_outputs: bool = False
    inputs: Inputs | None = None
    options: TaskOptions = field(default_factory=TaskOptions)


def read_outputs(output: str | None, outputs: Outputs | None) -> TaskDeclaration:
    """Check the two ways to name outputs, and return a declaration that has them.

    Raises:
        InvalidTaskOptionError: Both were given, or a name is empty, repeated or not text.
    """
    if output is not None:
        _require("outputs", outputs, outputs is None, "must not be given beside output")
        _require("output", output, _is_name(output), "must be a non-empty name")
        return TaskDeclaration(outputs=(output,))
    if outputs is None:
        return TaskDeclaration()
    names = () if isinstance(outputs, str) else tuple(outputs)
    good = bool(names) and all(_is_name(n) for n in names) and len(set(names)) == len(names)
    _require("outputs", outputs, good, "must be a list of different, non-empty names")
    types = dict(outputs) if isinstance(outputs, Mapping) else {}
    return TaskDeclaration(outputs=names, output_types=types, multiple_outputs=True)


def check_inputs(inputs: Inputs | None) -> Inputs | None:
    """Return a private copy of declared inputs.

    Raises:
        InvalidTaskOptionError: They are not a list of names, nor a mapping of names to names.
    """
    if inputs is None:
        return None
    names = () if isinstance(inputs, str) else tuple(inputs)
    values = tuple(inputs.values()) if isinstance(inputs, Mapping) else ()
    good = not isinstance(inputs, str) and all(_is_name(n) for n in (*names, *values))
    _require("inputs", inputs, good, "must be a list of names, or name the data per parameter")
    return dict(inputs) if isinstance(inputs, Mapping) else names


def declaration_of(task: AnyTask) -> TaskDeclaration | None:
    """Return what was declared on a task, in whichever order its decorators stand."""
    for holder in _holders(task):
        found = getattr(holder, _DECLARATION, None)
        if isinstance(found, TaskDeclaration):
            return replace(found, options=_with_resources(found.options, task))
    return None


def options_of(task: AnyTask) -> TaskOptions:
    """Return the options of a task, which may have resources without a declaration."""
    declaration = declaration_of(task)
    return declaration.options if declaration else _with_resources(_DEFAULTS, task)


def declare(task: AnyTask, declaration: TaskDeclaration) -> None:
    """Keep a declaration on a task, and on its function, where the other order looks."""
    for holder in _writable_holders(task):
        setattr(holder, _DECLARATION, declaration)
    _declared[_writable_holders(task)[-1]] = None


def add_resource(task: AnyTask, name: str, amount: float) -> None:
    """Keep one number of a resource profile; a second profile of that name replaces it."""
    _require(name, amount, is_number(amount) and amount > 0, "must be positive")
    for holder in _writable_holders(task):
        setattr(holder, _RESOURCES, {**getattr(holder, _RESOURCES, {}), name: amount})


def live_declarations() -> list[Callable[..., Any]]:
    """Return the functions of this process that carry a declaration, oldest first."""
    return list(_declared)


def _holders(task: AnyTask) -> tuple[AnyTask, ...]:
    decorated = decorated_task(task)
    original = getattr(decorated, "original_func", None)
    return (decorated,) if original is None else (decorated, original)


def _writable_holders(task: AnyTask) -> tuple[AnyTask, ...]:
    if not callable(task) or isinstance(task, type):
        raise NotATaskError(task)
    return _holders(task)


def _with_resources(options: TaskOptions, task: AnyTask) -> TaskOptions:
    for holder in _holders(task):
        profile = getattr(holder, _RESOURCES, None)
        if profile:
            return replace(options, resources={**options.resources, **profile})
    return options


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _require(option: str, value: object, good: bool, rule: str) -> None:
    if not good:
        raise InvalidTaskOptionError(option, value, rule)


_DEFAULTS = TaskOptions()
