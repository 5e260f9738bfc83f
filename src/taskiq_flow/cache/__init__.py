"""Values that can be made again, in memory or Redis, made by one at a time."""

from typing import TYPE_CHECKING

from taskiq_flow.cache.base import BaseCacheAdapter, CacheStats
from taskiq_flow.cache.memory import InMemoryCacheAdapter
from taskiq_flow.first_use import loading

if TYPE_CHECKING:
    from taskiq_flow.cache.redis import RedisCacheAdapter

__all__ = ["BaseCacheAdapter", "CacheStats", "InMemoryCacheAdapter", "RedisCacheAdapter"]

if not TYPE_CHECKING:  # with a `__getattr__`, a checker would let any name pass
    __getattr__, __dir__ = loading(__name__, {"RedisCacheAdapter": "taskiq_flow.cache.redis"})
