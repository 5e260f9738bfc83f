"""Finds what ``module:name`` means: a pipeline, a broker, or a function that makes a pipeline."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from taskiq import AsyncBroker, InMemoryBroker, async_shared_broker

from taskiq_flow.exceptions import TargetError
from taskiq_flow.pipeline.base import BasePipeline


def load_pipeline(target: str, broker: AsyncBroker | None = None) -> BasePipeline:
    """Load a pipeline; a function in its place is called, with a broker if it takes one.

    Without a name the only pipeline of the module is taken.

    Raises:
        TargetError: There is no such thing, or it is no pipeline.
    """
    module, name = _load(target)
    found = _only_pipeline(module, target) if name is None else _member(module, name, target)
    if isinstance(found, BasePipeline):
        return found
    if not callable(found):
        raise TargetError(target, f"it is a {type(found).__name__}, no pipeline", _NAME_ONE)
    made = _call(found, target, broker)
    if not isinstance(made, BasePipeline):
        why = f"calling it gave a {type(made).__name__}, no pipeline"
        raise TargetError(target, why, "Let it return a Pipeline or DataflowPipeline.")
    return made


def load_broker(target: str) -> AsyncBroker:
    """Load a broker, or call the function that makes it.

    Raises:
        TargetError: There is no such thing, or it is no broker.
    """
    module, name = _load(target)
    if name is None:
        raise TargetError(target, "no broker is named", "Write module:broker.")
    found = _member(module, name, target)
    if callable(found) and not isinstance(found, AsyncBroker):
        found = _call(found, target, None)
    if not isinstance(found, AsyncBroker):
        raise TargetError(
            target, f"it is a {type(found).__name__}, no broker", "Name a Taskiq broker."
        )
    return found


_NAME_ONE = "Name a Pipeline or DataflowPipeline, or a function that returns one."


def _load(target: str) -> tuple[ModuleType, str | None]:
    path, _, name = target.partition(":")
    directory, module = Path.cwd(), path
    if path.endswith(".py"):
        file = Path(path)
        if not file.is_file():
            raise TargetError(target, f"there is no file {path}", "Look at the path.")
        directory, module = file.resolve().parent, file.stem
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    if not module:
        raise TargetError(target, "no module is named", "Write module:pipeline.")
    try:
        return import_module(module), name or None
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module == missing or module.startswith(f"{missing}."):
            fix = f"Looked in {directory} and in Python's path; start in the project's directory."
            raise TargetError(target, f"there is no module {missing!r}", fix) from error
        fix = "Install it, or use the Python of your project."
        raise TargetError(target, f"it imports {missing!r}, which is not here", fix) from error
    except Exception as error:  # the user's code may raise anything
        why = f"importing it raised {type(error).__name__}: {error}"
        raise TargetError(target, why, "--debug shows where.") from error


def _member(module: ModuleType, name: str, target: str) -> Any:
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            there = ", ".join(_pipelines(module)) or "none"
            raise TargetError(
                target, f"{module.__name__} has no {name!r}", f"Its pipelines are: {there}."
            ) from error
    return found


def _only_pipeline(module: ModuleType, target: str) -> Any:
    names = _pipelines(module)
    if len(names) != 1:
        there = ", ".join(f"{module.__name__}:{name}" for name in names)
        fix = f"Name one of them: {there}." if names else _NAME_ONE
        raise TargetError(target, f"it has {len(names) or 'no'} pipelines", fix)
    return getattr(module, names[0])


def _pipelines(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, BasePipeline)]


def _call(function: Any, target: str, broker: AsyncBroker | None) -> Any:
    """Call it with a broker for its one parameter that has no default, or with nothing."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise TargetError(target, "it cannot be called", _NAME_ONE) from error
    needed = [
        p
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if len(needed) > 1:
        names = ", ".join(p.name for p in needed)
        raise TargetError(
            target, f"it needs {names}", "Let the function need nothing, or the broker alone."
        )
    arguments: list[Any] = []
    if needed:
        arguments.append(_given_or_new(broker))
    try:
        return function(*arguments)
    except Exception as error:  # as above
        why = f"calling it raised {type(error).__name__}: {error}"
        raise TargetError(target, why, "--debug shows where.") from error


def _given_or_new(broker: AsyncBroker | None) -> AsyncBroker:
    """The broker of ``--broker``; else one in memory, which shared tasks go to."""
    if broker is None:
        broker = InMemoryBroker()
        async_shared_broker.default_broker(broker)
    return broker
