"""Starts a compiled pipeline: the few steps that every builder's ``kiq`` has in common."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskiq import AsyncBroker
from taskiq.brokers.shared_broker import AsyncSharedBroker

from taskiq_flow.compile import Compiled, Routing, TaskUse, use_task
from taskiq_flow.engine.client import RunClient
from taskiq_flow.engine.routing import queue_key, route_of
from taskiq_flow.exceptions import FanOutError, ForeignTaskError
from taskiq_flow.middleware import PipelineMiddleware
from taskiq_flow.task import PipelineTask


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What one start says beside its values; ``key`` is the name that the run is given."""

    key: str | None = None
    tags: tuple[str, ...] = ()
    timeout_seconds: float | None = None
    max_parallel: int | None = None


def routing_of(broker: AsyncBroker) -> Routing:
    """How a broker routes steps by their labels."""
    return Routing(functools.partial(queue_key, broker), route_of)


def use_on(
    broker: AsyncBroker,
    task: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    param_name: str | None = None,
) -> TaskUse:
    """Take a task as a step of a pipeline on this broker.

    Raises:
        NotATaskError: It is neither a task nor a kicker.
        ForeignTaskError: It belongs to another broker.
        UnserializableValueError: A bound argument cannot be stored.
    """
    use = use_task(task, args, kwargs, param_name=param_name)
    owners = {getattr(task, "broker", None), getattr(use.task, "broker", None)}
    if broker not in owners and not any(isinstance(o, AsyncSharedBroker) for o in owners):
        raise ForeignTaskError(use.task_name)
    return use


async def launch(
    broker: AsyncBroker, compiled: Compiled, values: Sequence[Any], options: RunOptions
) -> PipelineTask[Any]:
    """Store a run with these values and send what is ready.

    Raises:
        UnserializableValueError: A value cannot be stored; nothing was.
        DuplicatePipelineError: A run of this name is still going.
        StoreUnavailableError: The store does not answer; nothing was stored.
    """
    inputs, items = compiled.encode(values)
    client = client_of(broker)
    most = client.runtime.config.max_fan_out
    for step, entries in items.items():
        if len(entries) > most:
            raise FanOutError(compiled.plan.steps[step].name, len(entries), most)
    run_id = await client.start(
        compiled.plan,
        inputs=inputs,
        items=items or None,
        key=options.key,
        tags=options.tags,
        timeout_seconds=options.timeout_seconds,
        max_parallel=options.max_parallel,
    )
    return PipelineTask(run_id, client, plan=compiled.plan, return_annotation=compiled.returns)


def client_of(broker: AsyncBroker) -> RunClient:
    """The client of a broker, which gets a middleware where it has none."""
    assert PipelineMiddleware, "importing it is what lets a client add one"
    return RunClient.of(broker)
