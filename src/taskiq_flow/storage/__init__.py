"""Values under keys, in memory, Redis or a database, behind one interface."""

from typing import TYPE_CHECKING

from taskiq_flow.first_use import loading
from taskiq_flow.storage.base import BaseStorageAdapter
from taskiq_flow.storage.entry import StorageEntry
from taskiq_flow.storage.factory import StorageAdapterFactory
from taskiq_flow.storage.memory import InMemoryStorageAdapter
from taskiq_flow.storage.prefix import PrefixedStorageAdapter
from taskiq_flow.storage.rules import (
    check_ttl,
    escape_pattern,
    key_bytes,
    key_text,
    parse_pattern,
)
from taskiq_flow.storage.written import read_value, write_value

if TYPE_CHECKING:
    from taskiq_flow.storage.encryption import EncryptedStorageAdapter
    from taskiq_flow.storage.redis import RedisStorageAdapter
    from taskiq_flow.storage.sql import SQLiteStorageAdapter

__all__ = [
    "BaseStorageAdapter",
    "EncryptedStorageAdapter",
    "InMemoryStorageAdapter",
    "PrefixedStorageAdapter",
    "RedisStorageAdapter",
    "SQLiteStorageAdapter",
    "StorageAdapterFactory",
    "StorageEntry",
    "check_ttl",
    "escape_pattern",
    "key_bytes",
    "key_text",
    "parse_pattern",
    "read_value",
    "write_value",
]

if not TYPE_CHECKING:  # with a `__getattr__`, a checker would let any name pass
    __getattr__, __dir__ = loading(
        __name__,
        {
            "EncryptedStorageAdapter": "taskiq_flow.storage.encryption",
            "RedisStorageAdapter": "taskiq_flow.storage.redis",
            "SQLiteStorageAdapter": "taskiq_flow.storage.sql",
        },
    )
