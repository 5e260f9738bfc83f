"""Calls a function in a thread or process on behalf of a coroutine."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def call_for_coroutine(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that a coroutine waits for through a future.

    A future takes no `StopIteration` before Python 3.12, so whoever waits for a function with a
    ``next()`` too many would wait for ever; and `GeneratorExit` would end the coroutine itself.
    They come out as Python lets them come out of a coroutine.

    Raises:
        RuntimeError: The function raised one of these.
    """
    try:
        return call(*args, **kwargs)
    except (StopIteration, GeneratorExit) as error:
        raise RuntimeError(f"the function raised {type(error).__name__}") from error
