"""How many tasks there are of each status, and in each queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi_taskflow.models import TaskStatus
from fastapi_taskflow.plans import KIND
from fastapi_taskflow.queues import DEFAULT, lane_tag
from fastapi_taskflow.records import run_status_of, status_of
from taskiq_flow.model.records import RunFilter, RunStatus
from taskiq_flow.stores.base import RunStore

if TYPE_CHECKING:
    from fastapi_taskflow.manager import TaskManager

PAGE = 1000
LOOKED_AT = 5 * PAGE
"""Interrupted and rejected tasks have no index: they are counted among so many of the newest."""

_PLAIN = {
    TaskStatus.PENDING: RunStatus.PENDING,
    TaskStatus.RUNNING: RunStatus.RUNNING,
    TaskStatus.SUCCESS: RunStatus.COMPLETED,
    TaskStatus.FAILED: RunStatus.FAILED,
    TaskStatus.CANCELLED: RunStatus.CANCELLED,
}


async def count_by_status(manager: TaskManager) -> dict[TaskStatus, int]:
    """Count by index; of failed and cancelled runs some stand for other statuses."""
    store = await manager.store.bridge.opened()
    counts = {
        status: await store.count_runs(RunFilter(status=run, kind=KIND))
        for status, run in _PLAIN.items()
    }
    for status, instead_of in (
        (TaskStatus.INTERRUPTED, TaskStatus.FAILED),
        (TaskStatus.REJECTED, TaskStatus.CANCELLED),
    ):
        counts[status] = 0
        if counts[instead_of]:
            counts[status] = await _count_among_newest(store, status)
            counts[instead_of] = max(0, counts[instead_of] - counts[status])
    return counts


async def count_by_queue(manager: TaskManager) -> list[dict[str, Any]]:
    """The stats of queues, with what waits and runs of them on all instances."""
    store = await manager.store.bridge.opened()
    found = manager.queue_stats()
    for which, status in (("pending", RunStatus.PENDING), ("running", RunStatus.RUNNING)):
        rest = await store.count_runs(RunFilter(status=status, kind=KIND))
        for stats in found:
            if stats["name"] != DEFAULT:
                where = RunFilter(status=status, kind=KIND, tag=lane_tag(stats["name"]))
                stats[which] = await store.count_runs(where)
                rest -= stats[which]
        next(stats for stats in found if stats["name"] == DEFAULT)[which] = max(0, rest)
    return found


async def _count_among_newest(store: RunStore, status: TaskStatus) -> int:
    where = RunFilter(status=run_status_of(status), kind=KIND)
    found, cursor = 0, None
    for _ in range(LOOKED_AT // PAGE):
        page = await store.list_runs(where, cursor=cursor, limit=PAGE)
        found += sum(status_of(run) is status for run in page.runs)
        cursor = page.cursor
        if cursor is None:
            break
    return found
