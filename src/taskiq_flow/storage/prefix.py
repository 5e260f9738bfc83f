"""A part of a storage that has its keys for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from taskiq_flow.storage.base import BaseStorageAdapter
from taskiq_flow.storage.entry import StorageEntry
from taskiq_flow.storage.rules import escape_pattern, key_bytes, parse_pattern


class PrefixedStorageAdapter(BaseStorageAdapter):
    """Puts a prefix before every key of another adapter; patterns never leave it.

    `cleanup` is that of the whole adapter. `close` closes it.
    """

    def __init__(self, storage: BaseStorageAdapter, prefix: str) -> None:
        key_bytes(prefix)
        self.storage, self.prefix = storage, prefix

    async def get(self, key: str) -> Any | None:
        return await self.storage.get(self._name(key))

    async def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        found = await self.storage.get_many([self._name(key) for key in keys])
        return {name[len(self.prefix) :]: value for name, value in found.items()}

    async def set(self, key: str, value: Any, ttl_seconds: float | None = None) -> None:
        await self.storage.set(self._name(key), value, ttl_seconds)

    async def add(self, key: str, value: Any, ttl_seconds: float | None = None) -> bool:
        return await self.storage.add(self._name(key), value, ttl_seconds)

    async def delete(self, key: str) -> bool:
        return await self.storage.delete(self._name(key))

    async def exists(self, key: str) -> bool:
        return await self.storage.exists(self._name(key))

    async def keys(self, pattern: str = "*") -> list[str]:
        parse_pattern(pattern)  # the pattern itself, before the prefix is in it
        found = await self.storage.keys(escape_pattern(self.prefix) + pattern)
        return [key[len(self.prefix) :] for key in found if len(key) > len(self.prefix)]

    async def cleanup(self, ttl_seconds: int = 3600) -> int:
        return await self.storage.cleanup(ttl_seconds)

    async def get_entry(self, key: str) -> StorageEntry | None:
        entry = await self.storage.get_entry(self._name(key))
        return None if entry is None else replace(entry, key=key)

    async def replace(self, key: str, expected: Any, value: Any) -> bool:
        return await self.storage.replace(self._name(key), expected, value)

    async def close(self) -> None:
        await self.storage.close()

    def _name(self, key: str) -> str:
        key_bytes(key)
        return self.prefix + key
