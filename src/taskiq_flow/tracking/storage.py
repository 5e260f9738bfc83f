"""The interface of tracking storages: where records of runs are mirrored to, and read from."""

from __future__ import annotations

from abc import ABC, abstractmethod

from taskiq_flow.exceptions import TrackingStorageError
from taskiq_flow.tracking.models import PipelineStatus, StatusPage
from taskiq_flow.tracking.query import HistoryQuery, page_of

SCANNED_MOST = 10_000
"""Records that are read of a storage which cannot filter by itself."""


class TrackingStorage(ABC):
    """Keeps records of runs. Subclass it for a storage of your own; all methods are async.

    ``save_status`` is called from one place, one record at a time, whenever a run has changed; it
    may be called again with the same record. What it raises is logged, and it is called again
    later. A run never waits for it.
    """

    @abstractmethod
    async def save_status(self, status: PipelineStatus) -> None:
        """Save or replace the record of a run, known by its ``run_id``."""

    @abstractmethod
    async def get_status(self, pipeline_id: str) -> PipelineStatus | None:
        """The record of a run by its id, or of the latest one of a name."""

    @abstractmethod
    async def list_pipelines(
        self, status_filter: str | None = None, limit: int = 100
    ) -> list[PipelineStatus]:
        """Records, newest first, of one status if given."""

    @abstractmethod
    async def delete_pipeline(self, pipeline_id: str) -> bool | None:
        """Remove a record; False when there is none."""

    @abstractmethod
    async def cleanup_older_than(self, days: float) -> int:
        """Remove records of runs that ended longer ago; returns how many."""

    async def get_history(
        self, query: HistoryQuery, *, limit: int = 100, cursor: str | None = None
    ) -> StatusPage:
        """One page of the records that are asked for, newest first.

        Filters what `list_pipelines` gives; a storage that can filter by itself overrides this.
        """
        word = None if query.status is None else query.status.value
        found = await self.list_pipelines(word, limit=SCANNED_MOST)
        return page_of(found or (), query, limit=limit, cursor=cursor)

    async def close(self) -> None:
        """Give up what the storage has opened itself."""
        return


def check_storage(storage: object) -> TrackingStorage:
    """Take a storage that a user gives.

    Raises:
        TrackingStorageError: It is not one.
    """
    if not isinstance(storage, TrackingStorage):
        lacks = "the base class taskiq_flow.tracking.storage.TrackingStorage"
        raise TrackingStorageError(storage, "storage", lacks)
    return storage
