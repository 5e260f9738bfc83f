"""Who works and on what: tasks, queues, workers, schedules, and the audit of what was done."""

from __future__ import annotations

from typing import Any

from taskiq_flow.dashboard.views import Load, Page, Region, View
from taskiq_flow.model.records import RunStatus
from taskiq_flow.scheduling.job import ONCE_TAG
from taskiq_flow.security import Role

AUDIT_ROWS = 100


def _named(heading: str) -> Load:
    async def frame(_: View) -> dict[str, Any]:
        return {"heading": heading}

    return frame


async def _tasks(view: View) -> dict[str, Any]:
    tasks = await view.operations.tasks()
    wanted = view.params.get("q", "").strip()[:200]
    found = [task for task in tasks if wanted.lower() in task.name.lower()]
    return {
        "tasks": found,
        "wanted": wanted,
        "slowest": max((t.mean_ms or 0 for t in found), default=0),
    }


async def _queues(view: View) -> dict[str, Any]:
    queues = await view.once("queues", view.operations.queues)
    most = max((queue.ready + queue.running + queue.retrying for queue in queues), default=0)
    return {"queues": queues, "most": max(1, most)}


async def _workers(view: View) -> dict[str, Any]:
    return {"workers": await view.operations.workers()}


async def _schedules(view: View) -> dict[str, Any]:
    found = await view.operations.schedules()
    return {
        "schedules": [s for s in found if view.desk.access.may_see(view.request, s.pipeline)],
        "once": view.url("runs", status=RunStatus.PENDING, tag=ONCE_TAG),
    }


async def _audit(view: View) -> dict[str, Any]:
    cursor = view.params.get("cursor") or None
    page = await view.operations.audit(limit=AUDIT_ROWS, cursor=cursor)
    return {
        "entries": page.entries,
        "older": view.url("audit", cursor=page.cursor) if page.cursor else None,
        "newest": view.url("audit") if cursor else None,
    }


async def _audit_frame(view: View) -> dict[str, Any]:
    return {"heading": "Audit", "may_read": view.desk.access.may(view.request, Role.ADMIN)}


TASKS = Page("tasks", "tasks", _named("Tasks"), {"tasks": Region(_tasks, "", every=15)})
QUEUES = Page(
    "queues", "queues", _named("Queues"), {"queues": Region(_queues, "runs", wait=1000, every=5)}
)
WORKERS = Page("workers", "workers", _named("Workers"), {"workers": Region(_workers, "", every=3)})
SCHEDULES = Page(
    "schedules",
    "schedules",
    _named("Schedules"),
    {"schedules": Region(_schedules, "runs", wait=2000, every=10)},
)
AUDIT = Page("audit", "audit", _audit_frame, {"audit": Region(_audit, "")})
MORE = Page("more", "more", _named("More"), {})
