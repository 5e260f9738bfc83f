"""Deletes tasks that ended long ago, and nothing else that lives in the same store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi_taskflow.plans import KIND
from taskiq_flow.model.records import RunFilter, RunStatus

if TYPE_CHECKING:
    from fastapi_taskflow.manager import TaskManager

PAGE = 200


async def delete_ended(manager: TaskManager, before: float) -> int:
    """Delete the tasks that ended before a time (seconds since 1970); returns how many."""
    store = await manager.store.bridge.opened()
    deleted = 0
    for status in (status for status in RunStatus if status.is_final):
        where = RunFilter(status=status, kind=KIND, ended_until=before)
        while True:
            page = await store.list_runs(where, limit=PAGE)
            gone = await asyncio.gather(*(store.delete(run.run_id) for run in page.runs))
            deleted += sum(gone)
            # Each look begins at the newest again: those before are gone. One that deletes
            # nothing would never end.
            if page.cursor is None or not any(gone):
                break
    return deleted
