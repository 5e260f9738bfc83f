"""Makes the storage that the settings, or a broker, ask for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from taskiq import AsyncBroker, InMemoryBroker, TaskiqMiddleware

from taskiq_flow.config import StorageType, TaskiqFlowConfig
from taskiq_flow.exceptions import StorageUseError
from taskiq_flow.storage.base import BaseStorageAdapter
from taskiq_flow.storage.memory import InMemoryStorageAdapter

if TYPE_CHECKING:
    from taskiq_flow.cache.base import BaseCacheAdapter

LOCAL_REDIS = "redis://localhost:6379"


class StorageAdapterFactory:
    """Makes storages, caches and their middlewares; each kind is imported only when it is made.

    What is passed goes before ``config``, and that before the broker. Without a config it is read
    from the variables ``TASKIQ_FLOW_STORAGE_…`` and ``TASKIQ_FLOW_CACHE_…``.
    """

    @staticmethod
    def create_storage_adapter(
        config: TaskiqFlowConfig | None = None,
        broker: AsyncBroker | None = None,
        redis_url: str | None = None,
        ttl_seconds: float | None = None,
        *,
        type: str | None = None,  # noqa: A002 - the documented name
    ) -> BaseStorageAdapter:
        """Make the storage of a ``type``, else of the config's ``storage_type``.

        ``auto``: Redis if there is a URL of one, or a broker of Redis; else SQL if there is a
        ``storage_db_url``; else memory. A kind that was asked for by name is the one that is made.

        Raises:
            StorageUseError: There is no such type.
            MissingExtraError: Its packages are not installed.
        """
        config = config or TaskiqFlowConfig()
        kind = config.storage_type if type is None else _kind(type)
        url = redis_url or config.storage_redis_url or _redis_of(broker)
        if kind is StorageType.AUTO:
            kind = _detect(url, config.storage_db_url)
        ttl = config.storage_ttl_seconds if ttl_seconds is None else ttl_seconds
        options: dict[str, Any] = {} if ttl is None else {"ttl_seconds": ttl}
        match kind:
            case StorageType.REDIS:
                make = import_module("taskiq_flow.storage.redis").RedisStorageAdapter
                return make(url or LOCAL_REDIS, **options)
            case StorageType.SQLITE | StorageType.SQLALCHEMY:
                sql = import_module("taskiq_flow.storage.sql")
                return sql.SQLiteStorageAdapter(config.storage_db_url or sql.DEFAULT_URL, **options)
            case _:
                return InMemoryStorageAdapter(**options)

    @staticmethod
    def create_cache_adapter(
        config: TaskiqFlowConfig | None = None,
        redis_url: str | None = None,
        default_ttl: float = 3600,
        lock_timeout: float = 10,
    ) -> BaseCacheAdapter:
        """Make a cache: in Redis if its URL is known, or ``cache_type`` says so, else in memory.

        Raises:
            StorageUseError: ``cache_type`` is a kind that caches have not got.
            MissingExtraError: The extra ``redis`` is not installed.
        """
        config = config or TaskiqFlowConfig()
        url = redis_url or config.cache_redis_url
        kind = config.cache_type
        if kind is StorageType.AUTO:
            kind = StorageType.REDIS if url else StorageType.MEMORY
        cache = import_module("taskiq_flow.cache")
        match kind:
            case StorageType.REDIS:
                return cache.RedisCacheAdapter(
                    url or LOCAL_REDIS, default_ttl=default_ttl, lock_timeout=lock_timeout
                )
            case StorageType.MEMORY | StorageType.INMEMORY:
                return cache.InMemoryCacheAdapter(default_ttl=default_ttl)
            case _:
                raise StorageUseError("cache_type", kind.value, "is none of: auto, memory, redis")

    @staticmethod
    def create_default_middlewares(
        config: TaskiqFlowConfig | None = None, broker: AsyncBroker | None = None
    ) -> dict[str, TaskiqMiddleware]:
        """Make both middlewares, as ``storage`` and ``cache``, to be added to a broker."""
        config = config or TaskiqFlowConfig()
        middlewares = import_module("taskiq_flow.middlewares")
        storage = StorageAdapterFactory.create_storage_adapter(config, broker)
        redis_url = None if config.cache_redis_url else _redis_of(broker)
        cache = StorageAdapterFactory.create_cache_adapter(config, redis_url)
        return {
            "storage": middlewares.StorageMiddleware(storage=storage),
            "cache": middlewares.CacheMiddleware(cache=cache),
        }


def _kind(name: str) -> StorageType:
    try:
        return StorageType(name)
    except ValueError as error:
        known = ", ".join(kind.value for kind in StorageType)
        raise StorageUseError("type", name, f"is none of: {known}") from error


def _detect(redis_url: str | None, db_url: str | None) -> StorageType:
    if redis_url:
        return StorageType.REDIS
    return StorageType.SQLITE if db_url else StorageType.MEMORY


def _redis_of(broker: AsyncBroker | None) -> str | None:
    """The URL of a broker's Redis, if that is what it uses."""
    if broker is None or isinstance(broker, InMemoryBroker):
        return None
    # The engine knows brokers; it lies above, so it is asked by name.
    return import_module("taskiq_flow.engine.host").store_url_of(broker)
