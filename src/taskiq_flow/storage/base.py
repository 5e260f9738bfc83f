"""What every key-value storage can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

from taskiq_flow.storage.entry import StorageEntry


class BaseStorageAdapter(ABC):
    """Keeps values under keys, some of them for a time.

    An adapter of your own writes the six abstract methods; `taskiq_flow.testing` has their
    contract as a class of tests. The adapters here take any text up to 1,024 bytes of UTF-8 as a
    key, and every value that steps may take and return (``docs/reference/values``), which comes
    back as what it was. All else is refused before anything is stored.
    """

    @abstractmethod
    async def get(self, key: str) -> Any | None:
        """Read a value; None if there is none, or its time is over."""

    @abstractmethod
    async def set(self, key: str, value: Any, ttl_seconds: float | None = None) -> None:
        """Write a value, with a new time to live; without one, that of the adapter, if any."""

    @abstractmethod
    async def delete(self, key: str) -> bool:
        """Remove a value; False if there was none."""

    @abstractmethod
    async def exists(self, key: str) -> bool:
        """Say whether there is a value; None may be one."""

    @abstractmethod
    async def keys(self, pattern: str = "*") -> list[str]:
        """List keys that match a glob, in order; `escape_pattern` makes text match itself."""

    @abstractmethod
    async def cleanup(self, ttl_seconds: int = 3600) -> int:
        """Remove what has expired and still takes room; returns how many that were.

        ``ttl_seconds`` has no effect in the adapters here: what is to expire says so when it is
        written, and what never expires is never removed by age. Redis removes by itself, so
        there it is always 0.
        """

    async def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        """Read values, those that there are; one question to the database in the adapters here.

        An adapter that does not override this asks for each, and takes None for missing.
        """
        values = [(key, await self.get(key)) for key in keys]
        return {key: value for key, value in values if value is not None}

    async def get_entry(self, key: str) -> StorageEntry | None:
        """Read a value with its times; None only if there is none.

        An adapter that does not override this knows no times, and takes None for missing.
        """
        value = await self.get(key)
        return None if value is None else StorageEntry(key, value)

    async def add(self, key: str, value: Any, ttl_seconds: float | None = None) -> bool:
        """Write a value if there is none; False if there was one, which stays.

        One atomic step in the adapters here. An adapter that does not override this reads and
        writes in two.
        """
        if await self.exists(key):
            return False
        await self.set(key, value, ttl_seconds)
        return True

    async def replace(self, key: str, expected: Any, value: Any) -> bool:
        """Write a value if the present one, as stored, is the expected one; its expiry stays.

        One atomic step in the adapters here. An adapter that does not override this reads and
        writes in two.
        """
        entry = await self.get_entry(key)
        if entry is None or entry.value != expected:
            return False
        ttl_seconds = entry.remaining_ttl()
        if ttl_seconds == 0.0:
            return False
        await self.set(key, value, ttl_seconds=ttl_seconds)
        return True

    async def close(self) -> None:
        """Let go of connections; a second call does nothing."""
        return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
