"""The functions of a task manager: what each is called in the store, and how it is run."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import MethodType, ModuleType
from typing import Any, get_type_hints

from fastapi_taskflow.checks import check_function, check_task
from fastapi_taskflow.exceptions import TaskOptionError, UnnamedTaskError
from fastapi_taskflow.models import Executor, TaskConfig

logger = logging.getLogger("fastapi_taskflow")

UNNAMED = "fastapi_taskflow:unnamed"
"""Stands in the store for what no other process could find: lambdas, closures, objects."""


@dataclass(frozen=True, slots=True, eq=False)
class RegisteredTask:
    """A function with its options. ``identity`` is ``module:qualified.name``, in every process."""

    identity: str
    func: Callable[..., Any]
    config: TaskConfig
    executor: Executor
    signature: inspect.Signature | None
    annotations: dict[str, Any] = field(default_factory=dict[str, Any])
    name: str = field(init=False)
    """What logs and lists show."""

    is_unnamed: bool = field(init=False)
    plain: dict[str, Any] | None = field(init=False)
    """The annotations of its parameters, in order, where each may be given by its place; else
    None."""

    def __post_init__(self) -> None:
        found = {
            "name": self.config.name or name_of(self.func),
            "is_unnamed": self.identity == UNNAMED,
            "plain": self._plain_parameters(),
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)

    def _plain_parameters(self) -> dict[str, Any] | None:
        parameters = () if self.signature is None else self.signature.parameters.values()
        if self.signature is None or any(
            each.kind is not each.POSITIONAL_OR_KEYWORD for each in parameters
        ):
            return None
        return {each.name: self.annotations.get(each.name, Any) for each in parameters}


class TaskRegistry:
    """The functions that a manager knows, by identity."""

    def __init__(self) -> None:
        self._by_identity: dict[str, RegisteredTask] = {}
        self._by_func: dict[tuple[int, ...], RegisteredTask] = {}
        self._told_of: set[str] = set()

    def register(self, func: Callable[..., Any], config: TaskConfig) -> RegisteredTask:
        """Take a function with its options; the same one again replaces its options.

        Another function of the same qualified name (of a factory that was called twice) is numbered
        in the order of registration.

        Raises:
            TaskOptionError: The executor does not fit the function.
        """
        base = identity_of(func) or f"{_module_of(func)}:{_qualified(func)}"
        identity, number = base, 1
        while identity in self._by_identity and not is_same(self._by_identity[identity].func, func):
            known = self._by_identity[identity].func
            is_reloaded = "<locals>" not in identity and _found(base) is not known
            if is_reloaded and not isinstance(known, MethodType):
                break
            number += 1
            identity = f"{base}#{number}"
        task = _make(identity, func, config)
        self._by_identity[identity] = self._by_func[_key(func)] = task
        return task

    def of(self, func: Callable[..., Any]) -> RegisteredTask:
        """The registered form of a function; one that is not registered gets the defaults."""
        known = self._by_func.get(_key(func))
        if known is not None and is_same(known.func, func):
            return known
        identity = identity_of(func)
        if identity is None:
            return _make(UNNAMED, func, TaskConfig())
        task = self._by_identity.get(identity)
        if task is None or not is_same(task.func, func):
            task = _make(identity, func, TaskConfig())
            self._by_identity[identity] = self._by_func[_key(func)] = task
        return task

    def check_named(self, task: RegisteredTask, *, outlives: bool) -> None:
        """Refuse a function that only this process has, if its task is to ``outlive`` it; else
        say once that it ends with the process.

        Raises:
            UnnamedTaskError: It does.
        """
        if outlives:
            raise UnnamedTaskError(task.name)
        if task.name not in self._told_of:
            self._told_of.add(task.name)
            why = "its function has no name by which another one could find it"
            logger.warning("Task %s ends with this process: %s.", task.name, why)

    def get(self, name: str) -> RegisteredTask | None:
        """A task by its identity, its display name or its function's name."""
        known = self._by_identity.get(name)
        if known is not None:
            return known
        return next((t for t in self if name in (t.name, name_of(t.func))), None)

    def get_config(self, func: Callable[..., Any] | str) -> TaskConfig | None:
        """The options of a function; None for one that is not registered."""
        task = self.get(func) if isinstance(func, str) else self._by_func.get(_key(func))
        return None if task is None else task.config

    def find(self, identity: str) -> RegisteredTask | None:
        """The task of an identity that stands in the store, also of one not used so far here."""
        known = self._by_identity.get(identity)
        if known is not None:
            return known
        func = _found(identity)
        return None if func is None else self.of(func)

    def __iter__(self) -> Iterator[RegisteredTask]:
        return iter(tuple(self._by_identity.values()))

    def __len__(self) -> int:
        return len(self._by_identity)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None


def name_of(func: Callable[..., Any]) -> str:
    """The short name of anything that can be called."""
    if isinstance(func, functools.partial):
        return name_of(func.func)
    return getattr(func, "__name__", type(func).__name__)


def _qualified(func: Callable[..., Any]) -> str:
    name = getattr(func, "__qualname__", None)
    return name if isinstance(name, str) else name_of(func)


def identity_of(func: Callable[..., Any]) -> str | None:
    """The name by which any process finds a function again; None when there is none."""
    name = getattr(func, "__qualname__", None)
    if not isinstance(name, str):
        return None
    identity = f"{_module_of(func)}:{name}"
    found = _found(identity)
    return identity if found is not None and is_same(found, func) else None


def is_same(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether two are one function; of a method each look makes another object."""
    return one is other or _key(one) == _key(other)


def _key(func: Callable[..., Any]) -> tuple[int, ...]:
    if isinstance(func, MethodType):
        return id(func.__self__), id(func.__func__)
    return (id(func),)


def is_async(func: Callable[..., Any]) -> bool:
    """Whether calling it makes a coroutine."""
    while isinstance(func, functools.partial):
        func = func.func
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(
        getattr(func, "__call__", None)  # noqa: B004 - the method, of an object
    )


def _found(identity: str) -> Callable[..., Any] | None:
    """What a module that is loaded has under a qualified name; nothing is imported."""
    module, _, name = identity.partition(":")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found if callable(found) else None


def _could_be_imported(func: Callable[..., Any]) -> bool:
    """Whether its module may have it under its name, now or when that is loaded."""
    name = getattr(func, "__qualname__", None)
    owner = getattr(func, "__self__", None)
    is_bound = owner is not None and not isinstance(owner, (type, ModuleType))
    return isinstance(name, str) and "<" not in name and not is_bound


def _module_of(func: Callable[..., Any]) -> str:
    return getattr(func, "__module__", None) or type(func).__module__


def _make(identity: str, func: Callable[..., Any], config: TaskConfig) -> RegisteredTask:
    check_function(func)
    check_task(name_of(func), config)
    executor: Executor = config.executor or ("async" if is_async(func) else "thread")
    if executor == "async" and not is_async(func):
        raise TaskOptionError(
            name_of(func), "executor", "async", "a plain function needs 'thread' or 'process'"
        )
    if executor == "thread" and is_async(func):
        raise TaskOptionError(
            name_of(func), "executor", "thread", "an async function needs 'async' or 'process'"
        )
    if executor == "process" and not _could_be_imported(func):
        rule = "a process imports its function, so it has to be one of a module"
        raise TaskOptionError(name_of(func), "executor", "process", rule)
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):
        signature = None
    try:
        annotations = get_type_hints(func, include_extras=True)
    except Exception:  # noqa: BLE001 - a user's annotation may name anything; then there is none
        annotations = {}
    return RegisteredTask(identity, func, config, executor, signature, annotations)
