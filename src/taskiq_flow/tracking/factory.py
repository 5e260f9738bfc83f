"""Makes tracking storages by what they are, or by what fits a broker."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from taskiq import AsyncBroker

from taskiq_flow.tracking.memory import InMemoryPipelineStorage
from taskiq_flow.tracking.source import source_of
from taskiq_flow.tracking.storage import TrackingStorage
from taskiq_flow.tracking.view import view_of


class TrackingStorageFactory:
    """Makes tracking storages; each kind is imported only when it is asked for."""

    @staticmethod
    def create(
        broker: AsyncBroker, redis_url: str | None = None, ttl_seconds: int | None = None
    ) -> TrackingStorage:
        """A storage for a broker: a Redis of its own if a URL is given, else a view of its runs."""
        if redis_url is None:
            return view_of(source_of(broker))
        given = {} if ttl_seconds is None else {"ttl_seconds": ttl_seconds}
        return TrackingStorageFactory.create_redis_storage(redis_url, **given)

    @staticmethod
    def create_memory_storage(max_records: int = 1000) -> InMemoryPipelineStorage:
        """A storage in this process."""
        return InMemoryPipelineStorage(max_records)

    @staticmethod
    def create_redis_storage(redis_url: str, **options: Any) -> TrackingStorage:
        """A storage in Redis; options as of `RedisPipelineStorage`.

        Raises:
            MissingExtraError: The extra ``redis`` is not installed.
        """
        return import_module("taskiq_flow.tracking.redis").RedisPipelineStorage(
            redis_url, **options
        )

    @staticmethod
    def create_sql_storage(url: str, **options: Any) -> TrackingStorage:
        """A storage in a database; options as of `SQLPipelineStorage`.

        Raises:
            MissingExtraError: The extra ``sql`` is not installed.
        """
        return import_module("taskiq_flow.tracking.sql").SQLPipelineStorage(url, **options)
