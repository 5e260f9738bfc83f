"""The routes that change something, each noted in the audit."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import Query, Request

from fastapi_taskflow.api.counting import count_by_queue
from fastapi_taskflow.api.deletion import delete_ended
from fastapi_taskflow.api.desk import actor_of, may_see
from fastapi_taskflow.api.reads import queue_out
from fastapi_taskflow.api.schemas import (
    BulkResult,
    BulkResults,
    BulkRetry,
    Deleted,
    QueueChange,
    QueueOut,
    TaskAction,
    TaskOut,
)
from fastapi_taskflow.exceptions import UnknownQueueError, WindowError
from fastapi_taskflow.models import TaskRecord, TaskStatus
from taskiq_flow.exceptions import TaskiqFlowError

if TYPE_CHECKING:
    from fastapi_taskflow.api.desk import Desk

MOST_AT_ONCE = 1000
"""So many tasks are run again by one call."""

REPLAYED = (TaskStatus.FAILED, TaskStatus.REJECTED)
"""Interrupted ones are not: each may have done its work, so somebody decides for each of them."""

_UNITS = {"min": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
_WINDOW = re.compile(r"(?P<number>\d{1,6})(?P<unit>[hd])")

Since = Annotated[str, Query(description="How far back: `12h`, `7d` or `all`.")]


class Actions:
    """Retry, cancel, delete, change a queue."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._manager = desk, desk.manager

    async def retry(self, task_id: str, request: Request) -> TaskAction:
        """Run a task again that did not succeed, with the same function, arguments and options."""
        async with self._desk.audited(request, "retry", task_id) as details:
            await self._desk.task(request, task_id)
            record = await self._manager.retry(task_id)
            details["new_task_id"] = record.task_id
        return self._done(record)

    async def cancel(self, task_id: str, request: Request) -> TaskAction:
        """Cancel a task; one that has not begun never runs."""
        async with self._desk.audited(request, "cancel", task_id):
            await self._desk.task(request, task_id)
            record = await self._manager.cancel(task_id, f"cancelled by {actor_of(request)}")
        return self._done(record)

    async def bulk_retry(self, which: BulkRetry, request: Request) -> BulkResults:
        """Run several tasks again; one that cannot be does not keep the others from it."""
        async with self._desk.audited(request, "bulk_retry", "*") as details:
            answer = await self._retry_all(request, which.task_ids)
            details |= {"dispatched": answer.dispatched, "skipped": answer.skipped}
        return answer

    async def retry_failed(
        self, request: Request, since: Since = "24h", func_name: str | None = None
    ) -> BulkResults:
        """Run again what has failed or was rejected in a stretch of time up to now."""
        target = func_name or "*"
        async with self._desk.audited(request, "retry_failed", target, since=since) as details:
            begin = window_start(since, datetime.now(UTC))
            found: list[str] = []
            for status in REPLAYED:
                page = await self._manager.store.alist(
                    status, limit=MOST_AT_ONCE + 1, full=False, name=func_name, since=begin
                )
                found.extend(task.task_id for task in page.tasks if may_see(request, task))
            answer = await self._retry_all(request, found[:MOST_AT_ONCE])
            answer.more = len(found) > MOST_AT_ONCE
            details["dispatched"] = answer.dispatched
        return answer

    async def delete_history(
        self,
        request: Request,
        value: Annotated[int, Query(ge=0, le=1_000_000)],
        unit: Literal["min", "hour", "day"] = "day",
    ) -> Deleted:
        """Delete tasks that ended longer ago than this."""
        before = datetime.now(UTC).timestamp() - value * _UNITS[unit].total_seconds()
        age = f"{value} {unit}"
        async with self._desk.audited(request, "delete_history", "*", older_than=age):
            deleted = await delete_ended(self._manager, before)
        durable = not self._manager.run_store.url.startswith("memory:")
        return Deleted(
            deleted=deleted, store=0 if durable else deleted, backend=deleted if durable else 0
        )

    async def change_queue(self, name: str, change: QueueChange, request: Request) -> QueueOut:
        """Change the bounds of a queue, for all instances, now and after a restart."""
        changes = change.model_dump(exclude_unset=True)
        async with self._desk.audited(request, "change_queue", name, **changes):
            known = [str(stats["name"]) for stats in self._manager.queue_stats()]
            if name not in known:
                raise UnknownQueueError(name, ", ".join(known))
            # It stores the change, and waits for that.
            await asyncio.to_thread(self._manager.update_queue_config, name, **changes)
        all_stats = await count_by_queue(self._manager)
        return queue_out(next(stats for stats in all_stats if stats["name"] == name))

    async def _retry_all(self, request: Request, task_ids: Sequence[str]) -> BulkResults:
        results: list[BulkResult] = []
        for task_id in dict.fromkeys(task_ids):
            try:
                await self._desk.task(request, task_id)
                made = (await self._manager.retry(task_id)).task_id
                results.append(BulkResult(original_task_id=task_id, new_task_id=made))
            except TaskiqFlowError as error:
                results.append(
                    BulkResult(original_task_id=task_id, new_task_id=None, error=str(error))
                )
        dispatched = sum(result.new_task_id is not None for result in results)
        return BulkResults(
            dispatched=dispatched, skipped=len(results) - dispatched, results=results
        )

    def _done(self, record: TaskRecord) -> TaskAction:
        shown = TaskOut.of(record, with_arguments=self._desk.display_func_args)
        return TaskAction(task_id=record.task_id, task=shown)


def window_start(since: str, now: datetime) -> float | None:
    """When a window like ``12h``, ``7d`` or ``all`` (None) begins.

    Raises:
        WindowError: It says no such thing.
    """
    if since == "all":
        return None
    found = _WINDOW.fullmatch(since)
    if found is None:
        raise WindowError(since)
    unit = "hour" if found["unit"] == "h" else "day"
    try:
        return (now - int(found["number"]) * _UNITS[unit]).timestamp()
    except OverflowError:
        return None
