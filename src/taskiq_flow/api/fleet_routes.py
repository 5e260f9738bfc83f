"""Routes of everything together: the overview, workers, schedules, dead letters, the audit."""

# Without postponed annotations: FastAPI has to see the dependencies of each API.

from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AwareDatetime, BaseModel, Field

from taskiq_flow.api.context import ApiContext
from taskiq_flow.api.door import Caller, door
from taskiq_flow.api.errors import FlowRoute
from taskiq_flow.operations import (
    ActionResult,
    AuditPage,
    LetterPage,
    LetterQuery,
    Overview,
    QueueView,
    ReplayResult,
    ScheduleView,
    TaskView,
    WorkerView,
)
from taskiq_flow.security import Access, Role

Limit = Annotated[int, Query(ge=1, le=1000)]


class LetterParameters(BaseModel):
    """Which dead letters are meant; times with a zone."""

    name: str | None = None
    kind: str | None = None
    tag: str | None = None
    task: str | None = None
    error: str | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    include_retried: bool = False
    include_children: bool = False


class ReplayBody(LetterParameters):
    """Which dead letters are replayed: those named, else those that the filters find."""

    run_ids: list[str] | None = Field(default=None, max_length=10_000)
    most: int = Field(default=1000, ge=1, le=10_000)


class PurgeBody(BaseModel):
    """Runs that ended before this are removed; with a zone."""

    before: AwareDatetime


def fleet_router(context: ApiContext) -> APIRouter:
    """Make these routes of one API."""
    router = APIRouter(route_class=FlowRoute)
    _add_looks(router, context)
    _add_schedules(router, context)
    _add_letters(router, context)
    _add_admin(router, context)
    return router


def _add_looks(router: APIRouter, context: ApiContext) -> None:
    viewer = Depends(door(context, Role.VIEWER))

    @router.get("/health", tags=["health"])
    async def health() -> Mapping[str, str]:
        """That this process answers; needs nobody, and says nothing else."""
        return {"status": "ok"}

    @router.get("/store", tags=["health"])
    async def store(caller: Annotated[Caller, viewer]) -> Mapping[str, Any]:
        """Facts of the store: kind, version, durability, latency."""
        caller.sees_all()
        return await caller.operations.health()

    @router.get("/whoami", tags=["health"])
    async def whoami(caller: Annotated[Caller, viewer]) -> Mapping[str, Any]:
        """Who asks, as this API sees it."""
        who = caller.identity
        return {"name": who.name, "role": who.role, "pipelines": who.pipelines, "via": who.via}

    @router.get("/overview", tags=["overview"])
    async def overview(
        caller: Annotated[Caller, viewer],
        hours: Annotated[float, Query(gt=0, le=24 * 366)] = 24.0,
        buckets: Annotated[int, Query(ge=1, le=200)] = 24,
    ) -> Overview:
        """What goes on, what is wrong, and how the last hours were."""
        caller.sees_all()
        return await caller.operations.overview(hours=hours, buckets=buckets)

    @router.get("/workers", tags=["overview"])
    async def workers(caller: Annotated[Caller, viewer]) -> tuple[WorkerView, ...]:
        """Worker processes that are alive."""
        caller.sees_all()
        return await caller.operations.workers()

    @router.get("/queues", tags=["overview"])
    async def queues(caller: Annotated[Caller, viewer]) -> tuple[QueueView, ...]:
        """Queues: who serves them, what runs and waits there."""
        caller.sees_all()
        return await caller.operations.queues()

    @router.get("/tasks", tags=["overview"])
    async def tasks(caller: Annotated[Caller, viewer]) -> tuple[TaskView, ...]:
        """Tasks of live workers, and those that ran lately."""
        caller.sees_all()
        return await caller.operations.tasks()

    @router.get("/metrics", tags=["overview"], response_class=Response)
    async def metrics(caller: Annotated[Caller, viewer]) -> Response:
        """Numbers of this process for Prometheus."""
        caller.sees_all()
        exporter = import_module("taskiq_flow.metrics.exporters.prometheus")
        return Response(exporter.metrics_text(), media_type=exporter.CONTENT_TYPE)


def _add_schedules(router: APIRouter, context: ApiContext) -> None:
    viewer = Depends(door(context, Role.VIEWER))
    operator = Depends(door(context, Role.OPERATOR))
    admin = Depends(door(context, Role.ADMIN))

    @router.get("/schedules", tags=["schedules"])
    async def schedules(caller: Annotated[Caller, viewer]) -> tuple[ScheduleView, ...]:
        """What starts by itself, and when."""
        found = await caller.operations.schedules()
        return tuple(s for s in found if caller.may(Access.READ, s.pipeline, s.schedule_id))

    @router.post("/schedules/{schedule_id}/pause", tags=["schedules"])
    async def pause(caller: Annotated[Caller, operator], schedule_id: str) -> ActionResult:
        """Start nothing by this schedule from now on."""
        caller.sees_all()
        return await caller.operations.pause_schedule(schedule_id, actor=caller.actor)

    @router.post("/schedules/{schedule_id}/resume", tags=["schedules"])
    async def resume(caller: Annotated[Caller, operator], schedule_id: str) -> ActionResult:
        """Go on with a schedule."""
        caller.sees_all()
        return await caller.operations.resume_schedule(schedule_id, actor=caller.actor)

    @router.post("/schedules/{schedule_id}/run", tags=["schedules"])
    async def run(caller: Annotated[Caller, operator], schedule_id: str) -> ActionResult:
        """Start a run of a schedule at once."""
        caller.sees_all()
        return await caller.operations.run_schedule(schedule_id, actor=caller.actor)

    @router.delete("/schedules/{schedule_id}", tags=["schedules"])
    async def remove(caller: Annotated[Caller, admin], schedule_id: str) -> ActionResult:
        """Remove a schedule; its runs go on."""
        caller.sees_all()
        return await caller.operations.remove_schedule(schedule_id, actor=caller.actor)


def _add_letters(router: APIRouter, context: ApiContext) -> None:
    viewer = Depends(door(context, Role.VIEWER))
    operator = Depends(door(context, Role.OPERATOR))

    @router.get("/dead-letters", tags=["dead letters"])
    async def letters(
        caller: Annotated[Caller, viewer],
        query: Annotated[LetterParameters, Query()],
        limit: Limit = 50,
        cursor: str | None = None,
    ) -> LetterPage:
        """Runs that failed for good, newest first."""
        asked = LetterQuery(**query.model_dump())
        page = await caller.operations.dead_letters(asked, limit=limit, cursor=cursor)
        shown = tuple(
            one
            for one in page.letters
            if caller.may(Access.READ, one.name, one.pipeline_id, one.run_id)
        )
        return LetterPage(shown, page.cursor)

    @router.post("/dead-letters/replay", tags=["dead letters"])
    async def replay(caller: Annotated[Caller, operator], body: ReplayBody) -> ReplayResult:
        """Retry dead letters: those named, or those that the filters find."""
        facts = body.model_dump(exclude={"run_ids", "most"})
        if body.run_ids is None:
            caller.sees_all()
            which: Any = LetterQuery(**facts)
        else:
            which = [(await caller.run(ref, Access.EXECUTE)).run_id for ref in body.run_ids]
        return await caller.operations.replay_dead_letters(
            which, actor=caller.actor, most=body.most
        )


def _add_admin(router: APIRouter, context: ApiContext) -> None:
    admin = Depends(door(context, Role.ADMIN))

    @router.get("/audit", tags=["admin"])
    async def audit(
        caller: Annotated[Caller, admin],
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        cursor: str | None = None,
    ) -> AuditPage:
        """Who did what, newest first."""
        caller.sees_all()
        return await caller.operations.audit(limit=limit, cursor=cursor)

    @router.post("/purge", tags=["admin"])
    async def purge(caller: Annotated[Caller, admin], body: PurgeBody) -> Mapping[str, int]:
        """Remove all runs that ended before a time."""
        caller.sees_all()
        removed = await caller.operations.purge(before=body.before, actor=caller.actor)
        return {"removed": removed}
