"""Values that live where the runs live: schedules, settings of queues, what operators did."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final, Protocol

from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.exceptions import StoreUrlError
from taskiq_flow.storage.base import BaseStorageAdapter
from taskiq_flow.storage.memory import InMemoryStorageAdapter

TABLE: Final = "taskiq_flow_beside"


class HasNamespace(Protocol):
    """The options of a run store, as far as they matter here."""

    @property
    def namespace(self) -> str: ...


class Place(Protocol):
    """A run store, as far as it matters here (imports go down only)."""

    @property
    def url(self) -> str: ...

    @property
    def options(self) -> HasNamespace: ...


_in_memory: dict[tuple[str, str, str], InMemoryStorageAdapter] = {}
"""For URLs only: a run store in memory keeps what is beside it itself."""


def adapter_beside(
    store: Place | str, *, purpose: str, namespace: str | None = None
) -> BaseStorageAdapter:
    """Make a storage in the same place as a run store, with keys of its own.

    The namespace is that of the store, or with a URL that of the settings, unless it is given.
    Keys of other namespaces and purposes are never seen; values live until they are deleted, or
    as long as ``ttl_seconds`` says. Beside a store in memory, all of one store (or of one URL in
    this process) share their values. Whoever makes an adapter closes it.

    Raises:
        StoreUrlError: No runs could be stored there.
        MissingExtraError: The packages of that kind are not installed.
    """
    url = store if isinstance(store, str) else store.url
    if namespace is None:
        options = TaskiqFlowConfig() if isinstance(store, str) else store.options
        namespace = options.namespace
    scheme = url.partition("://")[0].lower()
    if scheme == "memory":
        kept: dict[str, Any] | None = getattr(store, "beside", None)
        if kept is not None:
            return kept.setdefault(purpose, InMemoryStorageAdapter())
        return _in_memory.setdefault((url, namespace, purpose), InMemoryStorageAdapter())
    if scheme in ("redis", "rediss", "unix"):
        made = import_module("taskiq_flow.storage.redis_indexed").IndexedRedisStorageAdapter
        # The hash tag is that of the run store's keys.
        prefix = f"{{taskiq_flow:{namespace}}}:{purpose}:"
        return made(url, ttl_seconds=None, key_prefix=prefix)
    if scheme.partition("+")[0] in ("sqlite", "postgres", "postgresql"):
        sql = import_module("taskiq_flow.storage.sql")
        adapter = sql.SQLiteStorageAdapter(sql.url_beside(url), table=TABLE)
        prefixed = import_module("taskiq_flow.storage.prefix").PrefixedStorageAdapter
        return prefixed(adapter, f"{namespace}:{purpose}:")
    raise StoreUrlError(url)
