"""The key of a step's result: what it was made of, as text that is the same in every process."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import CodeType
from typing import Any, cast

from taskiq_flow.codec import encode
from taskiq_flow.dataflow.options import options_of
from taskiq_flow.exceptions import InvalidTaskOptionError


def result_key(
    task: str,
    function: Callable[..., Any],
    policy: Mapping[str, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> str:
    """The key under which a call's result is kept; ``policy`` is what the plan says of it.

    Raises:
        InvalidTaskOptionError: The function that makes the key is not here, or makes no text.
    """
    version = policy.get("version")
    code = code_version(function) if version is None else f"version {version}"
    counted = _counted(task, function, policy.get("key"), args, kwargs)
    facts = json.dumps([task, code, counted], sort_keys=True, separators=(",", ":"))
    return f"cache:{hashlib.sha256(facts.encode()).hexdigest()}"


@lru_cache(maxsize=1024)
def code_version(function: Callable[..., Any]) -> str:
    """What changes with the function: its source, or its bytecode where there is no source.

    What the function calls is not looked at.
    """
    try:
        text = inspect.getsource(function).encode()
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        defaults = (
            getattr(function, "__defaults__", None),
            getattr(function, "__kwdefaults__", None),
        )
        text = repr((_words(code) if isinstance(code, CodeType) else "", defaults)).encode()
    return hashlib.sha256(text).hexdigest()


def _words(code: CodeType) -> list[Any]:
    """The parts of a code object that say what it does; its addresses and line numbers do not."""
    constants = [_words(c) if isinstance(c, CodeType) else _steady(c) for c in code.co_consts]
    return [code.co_code.hex(), constants, code.co_names, code.co_varnames, code.co_freevars]


def _steady(constant: Any) -> str:
    """A constant as text; the order of a set differs from process to process."""
    if isinstance(constant, frozenset):
        return repr(sorted(map(repr, constant)))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return repr(constant)


def _counted(
    task: str,
    function: Callable[..., Any],
    key: Sequence[str] | bool | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    """The part of the arguments that tells one result from another."""
    bound = inspect.signature(function).bind_partial(*args, **kwargs)
    if key is True:
        return _made(task, function, bound)
    named: dict[str, Any] = dict(bound.arguments)
    if key is not None and key is not False:
        named = {name: named[name] for name in key if name in named}
    return json.loads(encode(named, where=f"arguments of task {task!r}", limit=None))


def _made(task: str, function: Callable[..., Any], bound: inspect.BoundArguments) -> str:
    policy = options_of(function).cache
    make = None if policy is None else policy.key
    if not callable(make):
        raise InvalidTaskOptionError("cache key", task, "was a function when this run was started")
    made = cast("object", make(*bound.args, **bound.kwargs))
    if not isinstance(made, str):
        raise InvalidTaskOptionError("cache key", made, f"of task {task!r} must be text")
    return made
