"""Values that can be made again, in memory or Redis, made by one at a time."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from taskiq_flow.cache.base import BaseCacheAdapter, CacheStats
from taskiq_flow.cache.memory import InMemoryCacheAdapter

if TYPE_CHECKING:
    from taskiq_flow.cache.redis import RedisCacheAdapter

__all__ = ["BaseCacheAdapter", "CacheStats", "InMemoryCacheAdapter", "RedisCacheAdapter"]


def __getattr__(name: str) -> Any:
    if name == "RedisCacheAdapter":
        return import_module("taskiq_flow.cache.redis").RedisCacheAdapter
    raise AttributeError(f"module 'taskiq_flow.cache' has no attribute {name!r}")
