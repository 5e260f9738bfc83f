"""Reads what a task manager is given: where its tasks live, and for how long."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field

from taskiq import AsyncBroker

from fastapi_taskflow.backends.base import StoreBackend
from fastapi_taskflow.models import QueueConfig
from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.engine.host import check_broker
from taskiq_flow.engine.runtime import runtimes
from taskiq_flow.exceptions import ConfigurationError
from taskiq_flow.middleware import PipelineMiddleware
from taskiq_flow.model.numbers import LONGEST_SECONDS, is_number
from taskiq_flow.stores.base import RunStore
from taskiq_flow.stores.factory import make_store, store_options

logger = logging.getLogger("fastapi_taskflow")

DAY_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class CoreOptions:
    """What a manager was made with, as far as running tasks goes."""

    config: TaskiqFlowConfig
    queues: dict[str, QueueConfig] = field(default_factory=dict[str, QueueConfig])
    max_concurrent_tasks: int | None = None
    max_sync_threads: int | None = None
    max_process_workers: int | None = None
    process_shutdown_timeout: float = 30.0
    shutdown_timeout: float = 5.0


def manager_config(retention_days: float | None) -> TaskiqFlowConfig:
    """The settings of the environment, with how long ended tasks are kept.

    Raises:
        ConfigurationError: They cannot be kept for no time or less.
    """
    if retention_days is None:
        return TaskiqFlowConfig()
    if not is_number(retention_days) or not 0 < retention_days * DAY_SECONDS <= LONGEST_SECONDS:
        raise ConfigurationError(
            f"retention_days={retention_days!r} must be above 0, at most a hundred years, or None."
        )
    return TaskiqFlowConfig(retention_seconds=retention_days * DAY_SECONDS)


def store_of(
    snapshot_db: str | os.PathLike[str] | None,
    backend: StoreBackend | None,
    config: TaskiqFlowConfig,
    broker: AsyncBroker | None,
) -> RunStore:
    """The store that was asked for: by file, URL, backend, broker or environment; else memory.

    Raises:
        ConfigurationError: Two places were named.
        NoStoreError: The broker has workers elsewhere, and no store is configured.
        StoreUrlError: The URL names no kind of store.
    """
    if snapshot_db is not None and backend is not None:
        raise ConfigurationError(
            "snapshot_db= and snapshot_backend= name two places for the same tasks; give one."
        )
    options = store_options(config)
    url = None if snapshot_db is None else url_of(snapshot_db)
    if backend is not None:
        url = backend.url
        if backend.namespace is not None:
            config = config.model_copy(update={"namespace": backend.namespace})
            options = store_options(config)
    if broker is not None:
        check_broker(broker)
        if broker not in runtimes:
            broker.add_middlewares(PipelineMiddleware(url, config=config))
        return runtimes[broker].store
    url = url or config.store_url
    if url is None:
        logger.warning(
            "Background tasks are kept in memory and end with this process; "
            "TaskManager(snapshot_db='tasks.db') keeps them."
        )
        url = "memory://"
    return make_store(url, options)


def url_of(place: str | os.PathLike[str]) -> str:
    """The URL of a store that is given as one, or as the path of a SQLite file."""
    text = os.fspath(place)
    return text if "://" in text else f"sqlite:///{text}"
