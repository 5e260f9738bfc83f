"""A cache in this process."""

from __future__ import annotations

from taskiq_flow.cache.stored import StoredCacheAdapter
from taskiq_flow.storage.memory import InMemoryStorageAdapter


class InMemoryCacheAdapter(StoredCacheAdapter):
    """Keeps values in this process; what has expired is removed when it is asked for."""

    def __init__(self, default_ttl: float = 3600) -> None:
        super().__init__(InMemoryStorageAdapter(), default_ttl)
