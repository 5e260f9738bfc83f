"""The routes that only look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Query, Request, Response

from fastapi_taskflow.api.counting import count_by_queue, count_by_status
from fastapi_taskflow.api.desk import may_see
from fastapi_taskflow.api.schemas import AuditOut, AuditQuery, Metrics, QueueOut, TaskOut, Which
from fastapi_taskflow.models import TaskRecord, TaskStatus

if TYPE_CHECKING:
    from fastapi_taskflow.api.desk import Desk

SAMPLED = 200
"""Of so many tasks, the newest that have succeeded, the mean duration is taken."""


class Reads:
    """Lists and single tasks, counts, queues and the audit."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._manager = desk, desk.manager

    async def list_tasks(
        self,
        request: Request,
        response: Response,
        which: Annotated[Which, Query()],
    ) -> list[TaskOut]:
        """List tasks, newest first, one page at a time.

        The header `X-Next-Cursor` is there while there are more, and `Link` names the next page: a
        page may be shorter than asked for, even empty, and others follow it all the same.
        """
        page = await self._manager.store.alist(
            which.status,
            cursor=which.cursor,
            limit=which.limit,
            full=which.full,
            **which.narrowing(),
        )
        if page.cursor is not None:
            following = request.url.include_query_params(cursor=page.cursor)
            response.headers["X-Next-Cursor"] = page.cursor
            response.headers["Link"] = f'<{following}>; rel="next"'
        return [
            self._shown(record)
            for record in page.tasks
            if which.takes(record) and may_see(request, record)
        ]

    async def get_task(self, task_id: str, request: Request) -> TaskOut:
        """Show one task with its log."""
        return self._shown(await self._desk.task(request, task_id))

    async def metrics(self) -> Metrics:
        """Count the tasks that are kept, and what came of them."""
        counts = await count_by_status(self._manager)
        ended = sum(number for status, number in counts.items() if status.is_final)
        done = counts[TaskStatus.SUCCESS]
        newest = await self._manager.store.alist(TaskStatus.SUCCESS, limit=SAMPLED, full=False)
        durations = [task.duration for task in newest.tasks if task.duration is not None]
        return Metrics(
            total=sum(counts.values()),
            success_rate=round(100 * done / ended, 2) if ended else None,
            avg_duration_seconds=sum(durations) / len(durations) if durations else None,
            **{status.value: number for status, number in counts.items()},
        )

    async def queues(self) -> list[QueueOut]:
        """Show the queues with their bounds, and what waits and runs of them everywhere."""
        return [queue_out(stats) for stats in await count_by_queue(self._manager)]

    async def audit(
        self, response: Response, which: Annotated[AuditQuery, Query()]
    ) -> list[AuditOut]:
        """Show what was done through these routes and the dashboard, newest first."""
        operations = await self._desk.operations()
        page = await operations.audit(limit=which.limit, cursor=which.cursor)
        if page.cursor is not None:
            response.headers["X-Next-Cursor"] = page.cursor
        return [AuditOut.of(entry) for entry in page.entries]

    def _shown(self, record: TaskRecord) -> TaskOut:
        return TaskOut.of(record, with_arguments=self._desk.display_func_args)


def queue_out(stats: dict[str, Any]) -> QueueOut:
    """The stats of a queue as they are answered."""
    return QueueOut.model_validate(stats)
