"""What every cache can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, TypedDict


class CacheStats(TypedDict):
    """What this adapter has seen, and what is kept now."""

    hits: int
    misses: int
    size: int
    keys: list[str]


class BaseCacheAdapter(ABC):
    """Keeps values that can be made again; None is a value like any other.

    Keys and values are those of storages, see `taskiq_flow.storage.BaseStorageAdapter`.
    """

    @abstractmethod
    async def get_or_create(
        self, key: str, creator: Callable[[], Awaitable[Any] | Any], ttl_seconds: float = 3600
    ) -> Any:
        """Read a value, or make it: one makes it while all others who ask for it wait.

        ``creator`` is a function, async or not. What it raises reaches its caller only; one of
        those who wait then makes the value itself, and so it does when the first one dies.
        """

    @abstractmethod
    async def get(self, key: str) -> Any | None:
        """Read a value; None if there is none, or its time is over."""

    @abstractmethod
    async def set(self, key: str, value: Any, ttl_seconds: float | None = None) -> None:
        """Write a value, for the cache's default time if none is given."""

    @abstractmethod
    async def invalidate(self, key: str) -> bool:
        """Forget a value; False if there was none."""

    @abstractmethod
    async def clear(self) -> int:
        """Forget all values; returns how many."""

    @abstractmethod
    async def get_stats(self) -> CacheStats:
        """Count hits and misses of this adapter, and list what is kept."""

    async def close(self) -> None:
        """Let go of connections; a second call does nothing."""
        return
