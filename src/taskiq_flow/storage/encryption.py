"""Values that nobody can read who has the database and not the key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from taskiq_flow.exceptions import MissingExtraError, StorageDecryptionError, StorageUseError
from taskiq_flow.storage.base import BaseStorageAdapter
from taskiq_flow.storage.entry import StorageEntry
from taskiq_flow.storage.written import read_value, write_value

try:
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet
except ImportError as error:
    raise MissingExtraError("EncryptedStorageAdapter", "encryption", "cryptography") from error

EncryptionKey = str | bytes


class EncryptedStorageAdapter(BaseStorageAdapter):
    """Encrypts what another adapter stores, with Fernet (AES-128-CBC and HMAC-SHA256).

    ``keys`` are one or several of ``Fernet.generate_key()``: the first one encrypts, all of them
    decrypt. To change the key, put the new one first, deploy that everywhere, call `rotate`, and
    take the old one away. Storage keys, times and sizes are not hidden; a value that was moved
    to another storage key is refused like a forged one.
    """

    def __init__(
        self, storage: BaseStorageAdapter, keys: EncryptionKey | Iterable[EncryptionKey]
    ) -> None:
        self.storage = storage
        given = [keys] if isinstance(keys, (str, bytes)) else list(keys)
        if not given:
            raise StorageUseError("keys", given, "is empty; Fernet.generate_key() makes one")
        try:
            self._fernet = MultiFernet([Fernet(key) for key in given])
        except (ValueError, TypeError) as error:
            # The cause would show the key.
            rule = "is no key of 32 bytes in URL-safe base64; Fernet.generate_key() makes one"
            raise StorageUseError("keys", "…", rule) from error

    async def get(self, key: str) -> Any | None:
        token = await self.storage.get(key)
        return None if token is None else self._open(key, token)

    async def set(self, key: str, value: Any, ttl_seconds: float | None = None) -> None:
        await self.storage.set(key, self._seal(key, value), ttl_seconds)

    async def add(self, key: str, value: Any, ttl_seconds: float | None = None) -> bool:
        return await self.storage.add(key, self._seal(key, value), ttl_seconds)

    async def delete(self, key: str) -> bool:
        return await self.storage.delete(key)

    async def exists(self, key: str) -> bool:
        return await self.storage.exists(key)

    async def keys(self, pattern: str = "*") -> list[str]:
        return await self.storage.keys(pattern)

    async def cleanup(self, ttl_seconds: int = 3600) -> int:
        return await self.storage.cleanup(ttl_seconds)

    async def get_entry(self, key: str) -> StorageEntry | None:
        entry = await self.storage.get_entry(key)
        return None if entry is None else replace(entry, value=self._open(key, entry.value))

    async def replace(self, key: str, expected: Any, value: Any) -> bool:
        new, token = self._seal(key, value), await self.storage.get(key)
        if token is None:
            return False
        if write_value(key, self._open(key, token), None) != write_value(key, expected, None):
            return False
        return await self.storage.replace(key, token, new)

    async def rotate(self, pattern: str = "*") -> int:
        """Encrypt with the first key what another one encrypted; returns how many values.

        May run beside readers and writers: what is written meanwhile is never lost. May be
        stopped and called again.

        Raises:
            StorageDecryptionError: A value was not encrypted with any of the keys.
        """
        done = 0
        for key in await self.storage.keys(pattern):
            while (token := await self.storage.get(key)) is not None:
                try:
                    fresh = self._fernet.rotate(_bytes(token)).decode()
                except InvalidToken as error:
                    raise StorageDecryptionError(key) from error
                if await self.storage.replace(key, token, fresh):
                    done += 1
                    break
        return done

    async def close(self) -> None:
        await self.storage.close()

    def _seal(self, key: str, value: Any) -> str:
        # The key is inside: Fernet has no place for it beside the value.
        return self._fernet.encrypt(write_value(key, [key, value], None)).decode()

    def _open(self, key: str, token: Any) -> Any:
        try:
            owner, value = read_value(self._fernet.decrypt(_bytes(token)))
        except InvalidToken as error:
            raise StorageDecryptionError(key) from error
        if owner != key:
            raise StorageDecryptionError(key)
        return value


def _bytes(token: Any) -> bytes:
    if not isinstance(token, str):
        raise InvalidToken
    return token.encode("utf-8", "replace")
