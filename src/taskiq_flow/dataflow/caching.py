"""What ``@pipeline_task(cache=...)`` means: how long a result counts, and what it depends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from taskiq_flow.exceptions import InvalidTaskOptionError
from taskiq_flow.model.numbers import check_seconds, is_number

CacheKey: TypeAlias = Sequence[str] | Callable[..., str]
"""Names of the parameters that count, or a function of the step's arguments."""


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How the results of a task are kept, for all runs and workers of a namespace.

    A result counts for ``ttl`` seconds, and never longer than ended runs are kept. It belongs to
    the task's name, to its code (``version``; without one, the source of the function) and to its
    arguments: all of them, those that ``key`` names, or the text that ``key`` makes of them.

    Raises:
        InvalidTaskOptionError: A field has a value that cannot work.
    """

    ttl: float | None = None
    key: CacheKey | None = None
    version: str | int | None = None

    def __post_init__(self) -> None:
        ttl, key, version = self.ttl, self.key, self.version
        check_seconds("cache ttl", ttl)
        if not callable(key) and key is not None:
            object.__setattr__(self, "key", (key,) if isinstance(key, str) else tuple(key))
        good = callable(key) or key is None or _are_names(self.key)
        _require("cache key", key, good, "must be names of parameters, or a function of them")
        _require("cache version", version, _is_version(version), "must be text or a whole number")


Caching: TypeAlias = bool | float | CachePolicy | None
"""What a decorator takes: True, a number of seconds, a policy; False or None for no cache."""


def read_caching(given: Caching) -> CachePolicy | None:
    """The policy that was meant.

    Raises:
        InvalidTaskOptionError: It is none of those.
    """
    if given is None or given is False:
        return None
    if given is True:
        return CachePolicy()
    if isinstance(given, CachePolicy):
        return given
    _require("cache", given, is_number(given), "must be True, seconds, or a CachePolicy")
    return CachePolicy(ttl=given)


def _are_names(key: object) -> bool:
    names = cast("tuple[object, ...]", key)
    return bool(names) and all(isinstance(name, str) and name for name in names)


def _is_version(value: object) -> bool:
    return value is None or (isinstance(value, (str, int)) and not isinstance(value, bool))


def _require(option: str, value: object, good: bool, rule: str) -> None:
    if not good:
        raise InvalidTaskOptionError(option, value, rule)
