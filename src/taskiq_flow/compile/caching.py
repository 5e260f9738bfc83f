"""What a plan says of results that are kept beyond their runs."""

from __future__ import annotations

import inspect
from typing import Any

from taskiq_flow.compile.builtin import StepOption
from taskiq_flow.dataflow import TaskInfo
from taskiq_flow.exceptions import InvalidTaskOptionError


def cache_option(info: TaskInfo) -> dict[str, Any]:
    """The option of a step whose task has a cache, nothing for others.

    Raises:
        InvalidTaskOptionError: Its results come one by one, or its key names no parameter.
    """
    policy = info.options.cache
    if policy is None:
        return {}
    if info.func is not None and inspect.isasyncgenfunction(info.func):
        rule = "needs a task that returns its result; this one yields it item by item"
        raise InvalidTaskOptionError("cache", info.name, rule)
    key = policy.key
    if key is not None and not callable(key):
        for name in key:
            if name not in info.parameters:
                known = ", ".join(info.parameters) or "none"
                rule = f"must name parameters of {info.name} (it has: {known})"
                raise InvalidTaskOptionError("cache key", name, rule)
    said = {
        "ttl": policy.ttl,
        "version": policy.version,
        "key": True if callable(key) else key and list(key),
    }
    return {StepOption.CACHE: {name: value for name, value in said.items() if value is not None}}
