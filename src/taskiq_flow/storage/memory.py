"""Values in this process, gone with it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

from taskiq_flow.codec import DEFAULT_LIMIT
from taskiq_flow.storage.base import BaseStorageAdapter
from taskiq_flow.storage.entry import StorageEntry
from taskiq_flow.storage.rules import check_ttl, key_bytes, parse_pattern
from taskiq_flow.storage.written import read_value, write_value


class _Kept(NamedTuple):
    body: bytes
    created_at: float
    expires_at: float | None

    @property
    def is_over(self) -> bool:
        return self.expires_at is not None and self.expires_at <= time.time()


class InMemoryStorageAdapter(BaseStorageAdapter):
    """Keeps values in a dict, in the same written form as the others: what you get is a copy.

    No method awaits anything, so each is one atomic step for all coroutines of a loop. What has
    expired is removed when it is asked for, or by `cleanup`.
    """

    def __init__(
        self, ttl_seconds: float | None = None, *, max_value_bytes: int = DEFAULT_LIMIT
    ) -> None:
        self.ttl_seconds = check_ttl("ttl_seconds", ttl_seconds)
        self._limit = max_value_bytes
        self._kept: dict[str, _Kept] = {}

    async def get(self, key: str) -> Any | None:
        kept = self._find(key)
        return None if kept is None else read_value(kept.body)

    async def set(self, key: str, value: Any, ttl_seconds: float | None = None) -> None:
        key_bytes(key)
        ttl = check_ttl("ttl_seconds", ttl_seconds) or self.ttl_seconds
        body, now = write_value(key, value, self._limit), time.time()
        self._kept[key] = _Kept(body, now, None if ttl is None else now + ttl)

    async def add(self, key: str, value: Any, ttl_seconds: float | None = None) -> bool:
        if self._find(key) is not None:
            return False
        await self.set(key, value, ttl_seconds)
        return True

    async def delete(self, key: str) -> bool:
        return self._find(key) is not None and self._kept.pop(key, None) is not None

    async def exists(self, key: str) -> bool:
        return self._find(key) is not None

    async def keys(self, pattern: str = "*") -> list[str]:
        wanted = parse_pattern(pattern)
        return sorted(
            key for key, kept in self._kept.items() if not kept.is_over and wanted.matches(key)
        )

    async def cleanup(self, ttl_seconds: int = 3600) -> int:  # noqa: ARG002 - see the base
        over = [key for key, kept in self._kept.items() if kept.is_over]
        for key in over:
            del self._kept[key]
        return len(over)

    async def get_entry(self, key: str) -> StorageEntry | None:
        kept = self._find(key)
        if kept is None:
            return None
        expires_at = kept.expires_at
        return StorageEntry(
            key,
            read_value(kept.body),
            datetime.fromtimestamp(kept.created_at, UTC),
            None if expires_at is None else datetime.fromtimestamp(expires_at, UTC),
        )

    async def replace(self, key: str, expected: Any, value: Any) -> bool:
        body, kept = write_value(key, value, self._limit), self._find(key)
        if kept is None or kept.body != write_value(key, expected, None):
            return False
        self._kept[key] = kept._replace(body=body)
        return True

    def _find(self, key: str) -> _Kept | None:
        key_bytes(key)
        kept = self._kept.get(key)
        if kept is not None and kept.is_over:
            del self._kept[key]
            return None
        return kept
