"""A tracking storage in the memory of this process."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime, timedelta

from taskiq_flow.stores import paging
from taskiq_flow.tracking.models import PipelineStatus
from taskiq_flow.tracking.query import HistoryQuery, checked_days, page_of, place, record_key
from taskiq_flow.tracking.storage import TrackingStorage


class InMemoryPipelineStorage(TrackingStorage):
    """Keeps the records of ``max_records`` runs; those not used for longest go first.

    Not shared with other processes, and gone with this one.
    """

    def __init__(self, max_records: int = 1000) -> None:
        self.max_records = paging.checked_limit(max_records, name="max_records")
        self._records: OrderedDict[str, PipelineStatus] = OrderedDict()

    async def save_status(self, status: PipelineStatus) -> None:
        key = record_key(status)
        known = self._records.get(key)
        if known is not None and known.is_finished() and not status.is_finished():
            return  # read before the end, and on its way for longer
        self._records[key] = status.model_copy(deep=True)
        self._records.move_to_end(key)
        while len(self._records) > self.max_records:
            self._records.popitem(last=False)

    async def get_status(self, pipeline_id: str) -> PipelineStatus | None:
        key = self._find(pipeline_id)
        if key is None:
            return None
        self._records.move_to_end(key)
        return self._records[key].model_copy(deep=True)

    async def list_pipelines(
        self, status_filter: str | None = None, limit: int = 100
    ) -> list[PipelineStatus]:
        query, limit = HistoryQuery.of(status=status_filter), paging.checked_limit(limit)
        found = page_of(self._records.values(), query, limit=limit, cursor=None)
        return [status.model_copy(deep=True) for status in found]

    async def delete_pipeline(self, pipeline_id: str) -> bool:
        key = self._find(pipeline_id)
        if key is not None:
            del self._records[key]
        return key is not None

    async def cleanup_older_than(self, days: float) -> int:
        before = datetime.now(UTC) - timedelta(days=checked_days(days))
        old = [
            key
            for key, status in self._records.items()
            if status.completed_at is not None and status.completed_at < before
        ]
        for key in old:
            del self._records[key]
        return len(old)

    def _find(self, pipeline_id: str) -> str | None:
        if pipeline_id in self._records:
            return pipeline_id
        named = [one for one in self._records.values() if one.pipeline_id == pipeline_id]
        return record_key(max(named, key=place)) if named else None
