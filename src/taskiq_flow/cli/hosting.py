"""Brings a pipeline to where it is to run: into this process, or to the workers of a broker."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.util import find_spec

from taskiq import AsyncBroker, InMemoryBroker

from taskiq_flow.cli.common import LOCAL_FILE
from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.engine.client import RunClient
from taskiq_flow.engine.host import local_store
from taskiq_flow.engine.routing import stand_ins
from taskiq_flow.engine.runtime import Runtime, runtimes
from taskiq_flow.engine.sender import STEP_TASK
from taskiq_flow.exceptions import BrokerUnavailableError, TaskiqFlowError
from taskiq_flow.middleware import PipelineMiddleware
from taskiq_flow.stores.factory import make_store

UNKNOWN_TASK_SECONDS = 7 * 24 * 3600
"""Processes on one file may run different pipelines: a step of another's is left to it."""

SOON_SECONDS = "2"
"""Lease, and when a message counts as lost, in the local file: how soon a run is taken over."""


def prepare_local() -> None:
    """Let what this process runs be kept in a file of this directory, unless a store is named.

    Called before the pipeline is imported, because its middleware reads the settings.
    """
    os.environ.setdefault("TASKIQ_FLOW_UNKNOWN_TASK_SECONDS", str(UNKNOWN_TASK_SECONDS))
    if TaskiqFlowConfig().store_url is None and find_spec("aiosqlite") and find_spec("sqlalchemy"):
        local_store.append(f"sqlite:///{LOCAL_FILE}")
        for name in ("TASKIQ_FLOW_LEASE_SECONDS", "TASKIQ_FLOW_KICK_SECONDS"):
            os.environ.setdefault(name, SOON_SECONDS)


def embed(broker: AsyncBroker, store: str | None) -> InMemoryBroker:
    """Make this process run the steps of a broker's pipelines, without that broker.

    A broker in memory does so anyway. For any other one in memory stands in, with its tasks, its
    state, its start-up functions and its middlewares; what steps send to the broker itself goes
    there.
    """
    if isinstance(broker, InMemoryBroker):
        runtime = runtime_of(broker)
        if store is None or runtime.store.url == make_store(store).url:
            return broker
    local = InMemoryBroker()
    local.local_task_registry.update(
        (name, task) for name, task in broker.get_all_tasks().items() if name != STEP_TASK
    )
    local.state, local.event_handlers = broker.state, broker.event_handlers
    local.custom_dependency_context = broker.custom_dependency_context
    others = [m for m in broker.middlewares if not isinstance(m, PipelineMiddleware)]
    local.add_middlewares(*others, PipelineMiddleware(store))
    take_over(broker, local)
    return local


def take_over(broker: AsyncBroker, by: AsyncBroker) -> None:
    """Send the steps of pipelines of one broker to the workers of another."""
    runtimes[broker] = runtime_of(by)
    stand_ins[broker] = by


def runtime_of(broker: AsyncBroker) -> Runtime:
    """The engine of a broker, which gets a middleware where it has none."""
    return RunClient.of(broker).runtime


@asynccontextmanager
async def start_broker(broker: AsyncBroker) -> AsyncGenerator[None]:
    """Use a broker in the block.

    Raises:
        BrokerUnavailableError: Its server does not answer.
    """
    try:
        await broker.startup()
    except TaskiqFlowError:
        raise
    except Exception as error:  # whatever its client raises
        why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise BrokerUnavailableError(type(broker).__name__, why) from error
    try:
        yield
    finally:
        await broker.shutdown()
