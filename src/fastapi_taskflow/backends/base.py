"""Where the tasks of a manager live, as the documented backends say it: a store by its URL."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from fastapi_taskflow.bridge import Bridge
from fastapi_taskflow.store import TaskStore
from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.not_shipped import refusing
from taskiq_flow.stores.base import RunStore
from taskiq_flow.stores.factory import make_store, store_options

__getattr__ = refusing("fastapi_taskflow.backends")


class StoreBackend:
    """Names a run store for ``TaskManager(snapshot_backend=…)``; the manager opens and closes it.

    ``namespace`` is that of the settings when it is None: tasks of different ones never meet.
    """

    def __init__(self, url: str, *, namespace: str | None = None) -> None:
        self.url, self.namespace = url, namespace

    def make_store(self, config: TaskiqFlowConfig | None = None) -> RunStore:
        """The store, not yet connected.

        Raises:
            StoreUrlError: The URL names no kind of store.
            MissingExtraError: The packages of that kind are not installed.
        """
        options = store_options(config or TaskiqFlowConfig())
        if self.namespace is not None:
            options = replace(options, namespace=self.namespace)
        return make_store(self.url, options)

    def query(
        self, status: str | None = None, func_name: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """The newest stored tasks as dicts, also while no manager runs.

        Opens the store for this one look, and waits for it: async code calls it in a thread.
        """
        # In a thread of its own: the caller's may have an event loop that runs.
        with ThreadPoolExecutor(1) as thread:
            looking = thread.submit(asyncio.run, self._query(status, func_name, limit))
            return looking.result()

    async def _query(
        self, status: str | None, func_name: str | None, limit: int
    ) -> list[dict[str, Any]]:
        store = self.make_store()
        await store.open()
        try:
            bridge = Bridge(store)
            bridge.use(store)
            tasks = TaskStore(bridge, None, lambda _: None)
            page = await tasks.alist(status, limit=limit, name=func_name)
        finally:
            await store.close()
        return [record.to_dict() for record in page.tasks]

    async def close(self) -> None:
        """Do nothing: the manager closes the store that it opened."""
