"""Which store a URL means; each kind is imported only when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.exceptions import StoreUrlError
from taskiq_flow.stores.base import RunStore, StoreOptions
from taskiq_flow.stores.memory import MemoryRunStore

if TYPE_CHECKING:
    from collections.abc import Callable

_KINDS = {
    "redis": ("taskiq_flow.stores.redis", "RedisRunStore"),
    "rediss": ("taskiq_flow.stores.redis", "RedisRunStore"),
    "unix": ("taskiq_flow.stores.redis", "RedisRunStore"),
    "sqlite": ("taskiq_flow.stores.sql", "SqlRunStore"),
    "sqlite+aiosqlite": ("taskiq_flow.stores.sql", "SqlRunStore"),
    "postgres": ("taskiq_flow.stores.sql", "SqlRunStore"),
    "postgresql": ("taskiq_flow.stores.sql", "SqlRunStore"),
    "postgresql+asyncpg": ("taskiq_flow.stores.sql", "SqlRunStore"),
}


def store_options(config: TaskiqFlowConfig, *, sends: bool = True) -> StoreOptions:
    """The part of the settings that a store needs.

    Where no messages can be sent, none is waited for: what becomes ready is due at once, and the
    workers find it at their next look.
    """
    return StoreOptions(
        namespace=config.namespace,
        lease_seconds=config.lease_seconds,
        kick_seconds=config.kick_seconds if sends else 0.0,
        retention_seconds=config.retention_seconds,
        retained_runs=config.retained_runs,
    )


def make_store(url: str, options: StoreOptions | None = None) -> RunStore:
    """Make the store of a URL, not yet connected.

    Raises:
        StoreUrlError: The URL names no kind of store.
        MissingExtraError: The packages of that kind are not installed.
    """
    scheme = url.partition("://")[0].lower() if isinstance(url, str) else ""  # pyright: ignore[reportUnnecessaryIsInstance]
    if scheme == "memory":
        return MemoryRunStore(options)
    if scheme not in _KINDS or "://" not in url:
        raise StoreUrlError(url)
    module, name = _KINDS[scheme]
    # The names come from the closed table above, never from stored data.
    make: Callable[[str, StoreOptions | None], RunStore] = getattr(import_module(module), name)
    return make(url, options)
