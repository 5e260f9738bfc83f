"""Routes of runs: lists, all that is known of one, and what can be done with it."""

# Without postponed annotations: FastAPI has to see the dependencies of each API.

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Query, Response
from pydantic import AwareDatetime, BaseModel, Field

from taskiq_flow.api.context import ApiContext
from taskiq_flow.api.door import Caller, door
from taskiq_flow.api.errors import FlowRoute
from taskiq_flow.model.records import RunStatus
from taskiq_flow.operations import (
    ActionResult,
    EventPage,
    Heat,
    ItemPage,
    LogPage,
    Preview,
    RunDetail,
    RunGraph,
    RunPage,
    RunQuery,
    RunSummary,
    Timeline,
)
from taskiq_flow.security import Access, Role
from taskiq_flow.visualization import get_renderer_registry

MEDIA = {
    "svg": "image/svg+xml",
    "mermaid": "text/plain",
    "dot": "text/plain",
    "ascii": "text/plain",
}
Picture = Literal["json", "svg", "mermaid", "dot", "ascii"]
Limit = Annotated[int, Query(ge=1, le=1000)]
Position = Annotated[int, Query(ge=0, le=2**53)]


class CancelBody(BaseModel):
    """Why a run is cancelled."""

    reason: str | None = Field(default=None, max_length=1000)


class RetryBody(BaseModel):
    """Whether all of a run is run again, or what did not complete."""

    from_start: bool = False


class ForkBody(BaseModel):
    """What a fork does differently."""

    from_step: str | None = None
    inputs: dict[str, Any] = Field(default_factory=dict[str, Any])
    outputs: dict[str, Any] = Field(default_factory=dict[str, Any])
    pipeline_id: str | None = Field(default=None, max_length=200)


class EventBody(BaseModel):
    """An event for a run."""

    name: str = Field(min_length=1, max_length=200)
    payload: Any = None


def run_router(context: ApiContext) -> APIRouter:
    """Make the routes of runs of one API."""
    router = APIRouter(route_class=FlowRoute, tags=["runs"])
    _add_reads(router, context)
    _add_parts(router, context)
    _add_actions(router, context)
    return router


def _add_reads(router: APIRouter, context: ApiContext) -> None:
    viewer = Depends(door(context, Role.VIEWER))

    @router.get("/runs")
    async def runs(
        caller: Annotated[Caller, viewer],
        query: Annotated[RunQueryParameters, Query()],
        limit: Limit = 50,
        cursor: str | None = None,
        count: bool = False,
    ) -> RunPage:
        """Runs, newest first; ``cursor`` of a page asks for the next one."""
        asked = RunQuery(**query.model_dump())
        return await visible_runs(caller, asked, limit=limit, cursor=cursor, count=count)

    @router.get("/runs/{ref}")
    async def run(caller: Annotated[Caller, viewer], ref: str) -> RunDetail:
        """A run by id, the last characters of one, or name: steps, values, error, relations."""
        return await caller.operations.run((await caller.run(ref)).run_id)

    @router.get("/runs/{ref}/summary")
    async def summary(caller: Annotated[Caller, viewer], ref: str) -> RunSummary:
        """A run as a row of the list; the cheapest question."""
        return await caller.run(ref)

    @router.get("/runs/{ref}/children")
    async def children(
        caller: Annotated[Caller, viewer],
        ref: str,
        limit: Limit = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """Runs that steps of this one have started."""
        run = await caller.run(ref)
        return await caller.operations.children(run.run_id, limit=limit, cursor=cursor)

    @router.get("/runs/{ref}/graph", response_model=RunGraph)
    async def graph(
        caller: Annotated[Caller, viewer],
        ref: str,
        format: Picture = "json",  # noqa: A002 - the documented name
    ) -> Any:
        """The graph with the state of each step, as JSON or as a picture."""
        run = await caller.run(ref)
        found = await caller.operations.graph(run.run_id)
        if format == "json":
            return found
        return Response(get_renderer_registry().render(format, found), media_type=MEDIA[format])

    @router.get("/runs/{ref}/timeline")
    async def timeline(caller: Annotated[Caller, viewer], ref: str) -> Timeline:
        """What happened when: attempts, pauses, lost leases."""
        return await caller.operations.timeline((await caller.run(ref)).run_id)


def _add_parts(router: APIRouter, context: ApiContext) -> None:
    viewer = Depends(door(context, Role.VIEWER))

    @router.get("/runs/{ref}/items")
    async def items(
        caller: Annotated[Caller, viewer],
        ref: str,
        step: str,
        start: Position = 0,
        stop: Position = 50,
    ) -> ItemPage:
        """Items of a map, at most 500 at once."""
        run = await caller.run(ref)
        return await caller.operations.items(run.run_id, step, start, stop)

    @router.get("/runs/{ref}/heat")
    async def heat(
        caller: Annotated[Caller, viewer],
        ref: str,
        step: str,
        cells: Annotated[int, Query(ge=1, le=1000)] = 228,
    ) -> Heat:
        """All items of a map, counted in so many cells."""
        run = await caller.run(ref)
        return await caller.operations.heat(run.run_id, step, cells=cells)

    @router.get("/runs/{ref}/value")
    async def value(caller: Annotated[Caller, viewer], ref: str, name: str = "result") -> Preview:
        """More of one value: an output by name, ``result``, or ``input:<name>``."""
        run = await caller.run(ref)
        return await caller.operations.output(run.run_id, name)

    @router.get("/runs/{ref}/logs")
    async def logs(
        caller: Annotated[Caller, viewer],
        ref: str,
        after: Position = 0,
        limit: Limit = 500,
        step: str | None = None,
    ) -> LogPage:
        """Lines that steps wrote, from a position on."""
        run = await caller.run(ref)
        return await caller.operations.logs(run.run_id, after=after, limit=limit, step=step)

    @router.get("/runs/{ref}/events")
    async def events(
        caller: Annotated[Caller, viewer], ref: str, after: Position = 0, limit: Limit = 500
    ) -> EventPage:
        """What happened to a run, from a number on."""
        run = await caller.run(ref)
        return await caller.operations.events(run.run_id, after=after, limit=limit)


def _add_actions(router: APIRouter, context: ApiContext) -> None:
    operator = Depends(door(context, Role.OPERATOR))
    admin = Depends(door(context, Role.ADMIN))

    @router.post("/runs/{ref}/cancel")
    async def cancel(
        caller: Annotated[Caller, operator],
        ref: str,
        body: Annotated[CancelBody | None, Body()] = None,
    ) -> ActionResult:
        """End a run, and all that it has started."""
        run = await caller.run(ref, Access.EXECUTE)
        reason = None if body is None else body.reason
        return await caller.operations.cancel(run.run_id, actor=caller.actor, reason=reason)

    @router.post("/runs/{ref}/retry")
    async def retry(
        caller: Annotated[Caller, operator],
        ref: str,
        body: Annotated[RetryBody | None, Body()] = None,
    ) -> ActionResult:
        """Run again what did not complete, or everything, in a new run."""
        run = await caller.run(ref, Access.EXECUTE)
        from_start = body is not None and body.from_start
        return await caller.operations.retry(run.run_id, actor=caller.actor, from_start=from_start)

    @router.post("/runs/{ref}/resume")
    async def resume(caller: Annotated[Caller, operator], ref: str) -> ActionResult:
        """Go on from the failed steps, keeping what is done."""
        run = await caller.run(ref, Access.EXECUTE)
        return await caller.operations.resume(run.run_id, actor=caller.actor)

    @router.post("/runs/{ref}/fork")
    async def fork(caller: Annotated[Caller, operator], ref: str, body: ForkBody) -> ActionResult:
        """Make a new run that runs again from a step on, or with other values."""
        run = await caller.run(ref, Access.EXECUTE)
        changes: Mapping[str, Any] = body.model_dump()
        return await caller.operations.fork(run.run_id, actor=caller.actor, **changes)

    @router.post("/runs/{ref}/events")
    async def send_event(
        caller: Annotated[Caller, operator], ref: str, body: EventBody
    ) -> ActionResult:
        """Deliver an event to a run that waits for it, or will."""
        run = await caller.run(ref, Access.EXECUTE)
        return await caller.operations.send_event(
            run.run_id, body.name, body.payload, actor=caller.actor
        )

    @router.delete("/runs/{ref}")
    async def delete(caller: Annotated[Caller, admin], ref: str) -> ActionResult:
        """Remove an ended run with all that belongs to it."""
        run = await caller.run(ref, Access.ADMIN)
        return await caller.operations.delete(run.run_id, actor=caller.actor)


class RunQueryParameters(BaseModel):
    """Which runs are listed; times with a zone."""

    status: RunStatus | None = None
    name: str | None = None
    search: str | None = Field(default=None, max_length=200)
    kind: str | None = None
    tag: str | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    ended_since: AwareDatetime | None = None
    ended_until: AwareDatetime | None = None


async def visible_runs(
    caller: Caller, query: RunQuery, *, limit: int, cursor: str | None, count: bool
) -> RunPage:
    """One page of the runs that somebody may see; it may be shorter than asked for."""
    page = await caller.operations.runs(query, limit=limit, cursor=cursor, count=count)
    shown = tuple(
        run for run in page.runs if caller.may(Access.READ, run.name, run.pipeline_id, run.run_id)
    )
    is_whole = caller.identity.pipelines is None and not caller.context.authorization
    return RunPage(shown, page.cursor, page.total if is_whole else None)
