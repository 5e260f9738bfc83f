"""The bounds of queues as they were changed while the application ran: stored, and shared."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

from fastapi_taskflow.bridge import is_running
from fastapi_taskflow.models import QueueConfig
from taskiq_flow.engine.outage import Outage
from taskiq_flow.exceptions import StorageUnavailableError, TaskiqFlowError
from taskiq_flow.storage.base import BaseStorageAdapter
from taskiq_flow.storage.beside import adapter_beside

if TYPE_CHECKING:
    from fastapi_taskflow.core import TaskCore

logger = logging.getLogger("fastapi_taskflow.queues")

KEEP: Final = object()
"""Stands for a bound that stays as it is."""

LOOK_SECONDS = 2.0
"""How often the bounds that other instances have set are looked for."""


class QueueSettings:
    """Keeps the bounds of queues beside the tasks, and follows what others set there."""

    def __init__(self, core: TaskCore) -> None:
        self._core = core
        self._storage: BaseStorageAdapter | None = None
        self._watching: asyncio.Task[None] | None = None
        self._unsaved: dict[str, QueueConfig] = {}
        self._saving: asyncio.Lock = asyncio.Lock()
        self._outage = Outage(
            logger,
            "The bounds of queues are neither stored nor read meanwhile: %s",
            "The bounds of queues are stored and read again.",
        )

    def update(self, name: str, concurrency: Any, max_size: Any) -> dict[str, Any]:
        """Change bounds now, in any thread, and store them soon."""
        queues = self._core.queues
        lane = queues.lanes.get(name)
        known = QueueConfig() if lane is None else lane.config
        config = QueueConfig(
            known.concurrency if concurrency is KEEP else concurrency,
            known.max_size if max_size is KEEP else max_size,
        )
        queues.check(name, config)
        self._unsaved[name] = config
        loop = self._core.loop
        if loop is None or loop.is_closed():
            queues.lanes[name].config = config
        elif is_running(loop):
            self._apply(name, config)
        else:
            loop.call_soon_threadsafe(self._apply, name, config)
            queues.lanes[name].config = config
        return next(each for each in queues.stats() if each["name"] == name)

    def _apply(self, name: str, config: QueueConfig) -> None:
        self._core.queues.configure(name, config)
        self._core.endings.background(self._save())

    async def open(self) -> None:
        """Take over what is stored, store what was changed before, and follow the rest."""
        if self._storage is not None:
            return
        self._saving = asyncio.Lock()
        self._storage = adapter_beside(self._core.store, purpose="queues")
        await self._save()
        await self._load()
        if self._core.store.shared:
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.wait([watching])
        await self._save()
        storage, self._storage = self._storage, None
        if storage is not None:
            with contextlib.suppress(StorageUnavailableError):
                await storage.close()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._load()

    async def _save(self) -> None:
        async with self._saving:
            unsaved, self._unsaved = self._unsaved, {}
            if not unsaved or self._storage is None:
                self._unsaved = {**unsaved, **self._unsaved}
                return
            try:
                for name, config in unsaved.items():
                    bounds = {"concurrency": config.concurrency, "max_size": config.max_size}
                    await self._storage.set(name, bounds)
            except TaskiqFlowError as error:
                self._unsaved = {**unsaved, **self._unsaved}
                self._outage.begin(error)

    async def _load(self) -> None:
        assert self._storage is not None
        if self._unsaved:
            await self._save()
        try:
            for name in await self._storage.keys():
                bounds = await self._storage.get(name)
                lane = self._core.queues.lanes.get(name)
                if bounds is None or lane is None or name in self._unsaved:
                    continue
                config = QueueConfig(bounds.get("concurrency"), bounds.get("max_size"))
                if config != lane.config:
                    self._core.queues.configure(name, config)
        except TaskiqFlowError as error:
            self._outage.begin(error)
        else:
            self._outage.end()
