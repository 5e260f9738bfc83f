"""Compiles one call of a task to a plan of one step."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from taskiq import AsyncBroker

from taskiq_flow.compile import Next, Policies, Routing, Shape, compile_chain, use_task
from taskiq_flow.engine.routing import queue_key, route_of
from taskiq_flow.model.retry import RetryPolicy
from taskiq_flow.plan import Plan, input_key


def compile_call(
    broker: AsyncBroker,
    task: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    kind: str,
    name: str,
    retry: RetryPolicy | None = None,
    labels: Mapping[str, Any] | None = None,
) -> tuple[Plan, dict[int, bytes]]:
    """The plan of a call, and its encoded arguments by key; ``labels`` go over the task's own.

    Raises:
        BadArgumentsError: The task cannot be called so.
        UnserializableValueError: An argument cannot be stored.
    """
    use = use_task(task)
    use = replace(use, labels={**use.labels, **(labels or {})})
    routing = Routing(functools.partial(queue_key, broker), route_of)
    shape = Shape(len(args), tuple(kwargs))
    compiled = compile_chain([Next(use)], shape, Policies(retry=retry), routing, name=name)
    inputs, _ = compiled.encode([*args, *kwargs.values()])
    plan = replace(compiled.plan, kind=kind)
    return plan, {input_key(number): value for number, value in enumerate(inputs)}
