"""Storages that show the engine's own records, so that tracking writes nothing."""

from __future__ import annotations

import time
from importlib import import_module
from typing import TYPE_CHECKING

from taskiq_flow.stores.paging import checked_limit
from taskiq_flow.tracking.memory import InMemoryPipelineStorage
from taskiq_flow.tracking.models import PipelineStatus, StatusPage
from taskiq_flow.tracking.query import HistoryQuery, checked_days
from taskiq_flow.tracking.source import RunSource
from taskiq_flow.tracking.storage import TrackingStorage

if TYPE_CHECKING:
    from collections.abc import Callable

PURGED_TOGETHER = 1000

_VIEWS = {
    "memory": ("taskiq_flow.tracking.view", "InMemoryRunView"),
    "redis": ("taskiq_flow.tracking.redis", "RedisRunView"),
    "rediss": ("taskiq_flow.tracking.redis", "RedisRunView"),
    "unix": ("taskiq_flow.tracking.redis", "RedisRunView"),
    "sqlite": ("taskiq_flow.tracking.sql", "SQLRunView"),
    "postgres": ("taskiq_flow.tracking.sql", "SQLRunView"),
    "postgresql": ("taskiq_flow.tracking.sql", "SQLRunView"),
}


class RunView(TrackingStorage):
    """The runs of a broker's store as a tracking storage.

    A run that is still going is not deleted, and a listing has no steps: ask `get_status` for one.
    """

    def __init__(self, source: RunSource) -> None:
        self._source = source

    async def save_status(self, status: PipelineStatus) -> None:
        """Do nothing: the engine has stored this already."""

    async def get_status(self, pipeline_id: str) -> PipelineStatus | None:
        return await self._source.status(pipeline_id)

    async def list_pipelines(
        self, status_filter: str | None = None, limit: int = 100
    ) -> list[PipelineStatus]:
        return await self.get_history(HistoryQuery.of(status=status_filter), limit=limit)

    async def get_history(
        self, query: HistoryQuery, *, limit: int = 100, cursor: str | None = None
    ) -> StatusPage:
        return await self._source.page(query.as_filter(), cursor=cursor, limit=checked_limit(limit))

    async def delete_pipeline(self, pipeline_id: str) -> bool:
        return await self._source.delete(pipeline_id)

    async def cleanup_older_than(self, days: float) -> int:
        before = time.time() - checked_days(days) * 24 * 3600
        removed = 0
        while True:
            count = await self._source.purge(before=before, limit=PURGED_TOGETHER)
            removed += count
            if count < PURGED_TOGETHER:
                return removed


class InMemoryRunView(RunView, InMemoryPipelineStorage):
    """The runs of a store in memory."""


def view_of(source: RunSource) -> RunView:
    """The view that fits a store; each kind is imported only when there is such a store."""
    module, name = _VIEWS.get(source.scheme, ("taskiq_flow.tracking.view", "RunView"))
    # The names come from the closed table above.
    make: Callable[[RunSource], RunView] = getattr(import_module(module), name)
    return make(source)
