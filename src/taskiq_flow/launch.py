"""Starts a compiled pipeline: the few steps that every builder's ``kiq`` has in common."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskiq import AsyncBroker
from taskiq.brokers.shared_broker import AsyncSharedBroker

from taskiq_flow import dataflow
from taskiq_flow.compile import Compiled, Routing, TaskUse, use_task
from taskiq_flow.config import TaskiqFlowConfig, TypeCheck
from taskiq_flow.engine.client import RunClient
from taskiq_flow.engine.defaults import default_retries
from taskiq_flow.engine.routing import queue_key, route_of
from taskiq_flow.engine.runtime import runtimes
from taskiq_flow.exceptions import FanOutError, ForeignTaskError, TypeMismatchError
from taskiq_flow.model.numbers import check_count, check_seconds
from taskiq_flow.model.retry import NO_RETRY
from taskiq_flow.task import PipelineTask

logger = logging.getLogger("taskiq_flow.client")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What one start says beside its values; ``key`` is the name that the run is given."""

    key: str | None = None
    tags: tuple[str, ...] = ()
    timeout_seconds: float | None = None
    max_parallel: int | None = None

    def __post_init__(self) -> None:
        check_count("max_parallel", self.max_parallel)
        check_seconds("timeout", self.timeout_seconds)


def routing_of(broker: AsyncBroker) -> Routing:
    """How a broker routes steps by their labels."""
    retry = default_retries.get(broker, NO_RETRY)
    return Routing(functools.partial(queue_key, broker), route_of, retry)


def task_of_function(broker: AsyncBroker, given: Any) -> Any:
    """The task of a broker that was made of a function; anything else is given back as it is."""
    if isinstance(given, str) or hasattr(given, "task_name"):
        return given
    tasks = broker.get_all_tasks().values()
    return next((task for task in tasks if task.original_func is given), given)


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
    client = RunClient.of(broker)
    most = client.home.config.max_fan_out
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


def check_graph(broker: AsyncBroker, dag: dataflow.DAG) -> None:
    """Compare what the tasks of a graph return with what those after them take.

    Raises:
        TypeMismatchError: They cannot fit together; the setting ``type_check`` may say that this
            is only logged, or not looked at.
    """
    runtime = runtimes.get(broker)
    config = TaskiqFlowConfig() if runtime is None else runtime.config
    if config.type_check is TypeCheck.OFF:
        return
    found = dataflow.check_types(dag)
    if found and config.type_check is TypeCheck.ERROR:
        raise TypeMismatchError([str(mismatch) for mismatch in found])
    for mismatch in found:
        logger.warning("%s", mismatch)
