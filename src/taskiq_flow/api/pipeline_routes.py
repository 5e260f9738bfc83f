"""Routes of pipelines by their ids: pictures, the status of the newest run, starting one."""

# Without postponed annotations: FastAPI has to see the dependencies of each API.

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Response
from pydantic import BaseModel, Field

from taskiq_flow.api.context import ApiContext
from taskiq_flow.api.door import Caller, door
from taskiq_flow.api.errors import FlowRoute
from taskiq_flow.api.pipelines import Pipelines, UnknownPipelineError, dag_json
from taskiq_flow.api.run_routes import MEDIA, Picture
from taskiq_flow.exceptions import NotAllowedError
from taskiq_flow.operations import Preview
from taskiq_flow.security import Access, Role
from taskiq_flow.visualization import DAGVisualizer, get_renderer_registry


class StartBody(BaseModel):
    """What a pipeline is started with."""

    args: list[Any] = Field(default_factory=list[Any], max_length=100)
    kwargs: dict[str, Any] = Field(default_factory=dict[str, Any])


def pipeline_router(context: ApiContext, pipelines: Pipelines) -> APIRouter:
    """Make the routes of pipelines of one API."""
    router = APIRouter(route_class=FlowRoute, tags=["pipelines"])
    _add_reads(router, context, pipelines)
    _add_actions(router, context, pipelines)
    return router


def dag_routes(context: ApiContext, pipelines: Pipelines) -> APIRouter:
    """Make the routes of graphs of one API: ``/dag/{id}`` and what can be read off it."""
    router = APIRouter(route_class=FlowRoute, tags=["graphs"])
    viewer = Depends(door(context, Role.VIEWER))

    @router.get("/dag/{pipeline_id}", response_model=None)
    async def dag(
        caller: Annotated[Caller, viewer],
        pipeline_id: str,
        format: str = "json",  # noqa: A002 - the documented name
    ) -> Any:
        """A graph: json, cytoscape, graphviz (dot), mermaid, svg or ascii."""
        await _check(caller, pipelines, pipeline_id)
        view = await pipelines.view(pipeline_id, caller.operations)
        if format == "json":
            return dag_json(view)
        if format == "cytoscape":
            return DAGVisualizer(view).to_cytoscape_json()
        kind = "dot" if format == "graphviz" else format
        picture = get_renderer_registry().render(kind, view)
        return Response(picture, media_type=MEDIA.get(kind, "text/plain"))

    @router.get("/dag/{pipeline_id}/critical-path", response_model=None)
    async def critical_path(caller: Annotated[Caller, viewer], pipeline_id: str) -> Any:
        """The longest way through a graph."""
        await _check(caller, pipelines, pipeline_id)
        view = await pipelines.view(pipeline_id, caller.operations)
        return {"critical_path": DAGVisualizer(view).detect_critical_path()}

    @router.get("/dag/{pipeline_id}/parallel-groups", response_model=None)
    async def parallel_groups(caller: Annotated[Caller, viewer], pipeline_id: str) -> Any:
        """Which steps can run at once."""
        await _check(caller, pipelines, pipeline_id)
        view = await pipelines.view(pipeline_id, caller.operations)
        return {"parallel_groups": DAGVisualizer(view).find_parallelizable_groups()}

    return router


def _add_reads(router: APIRouter, context: ApiContext, pipelines: Pipelines) -> None:
    viewer = Depends(door(context, Role.VIEWER))

    @router.get("/pipelines")
    async def all_pipelines(caller: Annotated[Caller, viewer]) -> list[Mapping[str, Any]]:
        """The pipelines that are known here."""
        return [one for one in pipelines.listed() if caller.may(Access.READ, one["id"])]

    @router.get("/pipelines/{pipeline_id}/status")
    async def status(caller: Annotated[Caller, viewer], pipeline_id: str) -> Mapping[str, Any]:
        """The status of the newest run of a pipeline, or of a run by its id or name."""
        await _check(caller, pipelines, pipeline_id)
        return await pipelines.status(pipeline_id, caller.operations)

    @router.get("/pipelines/{pipeline_id}/dag")
    async def dag(caller: Annotated[Caller, viewer], pipeline_id: str) -> Mapping[str, Any]:
        """Nodes, edges and levels."""
        await _check(caller, pipelines, pipeline_id)
        return dag_json(await pipelines.view(pipeline_id, caller.operations))

    @router.get("/pipelines/{pipeline_id}/dag/dot", response_class=Response)
    async def dot(caller: Annotated[Caller, viewer], pipeline_id: str) -> Response:
        """The graph in Graphviz's language."""
        await _check(caller, pipelines, pipeline_id)
        view = await pipelines.view(pipeline_id, caller.operations)
        return Response(DAGVisualizer(view).to_dot(), media_type="text/plain")

    @router.get("/pipelines/{pipeline_id}/visualize", response_model=None)
    async def visualize(
        caller: Annotated[Caller, viewer],
        pipeline_id: str,
        format: Picture = "svg",  # noqa: A002 - the documented name
    ) -> Any:
        """The graph as a picture."""
        await _check(caller, pipelines, pipeline_id)
        view = await pipelines.view(pipeline_id, caller.operations)
        if format == "json":
            return dag_json(view)
        return Response(get_renderer_registry().render(format, view), media_type=MEDIA[format])

    @router.get("/pipelines/{pipeline_id}/result")
    async def result(caller: Annotated[Caller, viewer], pipeline_id: str) -> Preview:
        """The result of the newest run, redacted and cut like all values."""
        await _check(caller, pipelines, pipeline_id)
        run_id = await pipelines.latest_run(pipeline_id, caller.operations)
        if run_id is None:
            raise UnknownPipelineError(pipeline_id)
        run = await caller.run(run_id)
        return await caller.operations.output(run.run_id, "result")


def _add_actions(router: APIRouter, context: ApiContext, pipelines: Pipelines) -> None:
    operator = Depends(door(context, Role.OPERATOR))

    @router.post("/pipelines/{pipeline_id}", status_code=201)
    async def register(
        caller: Annotated[Caller, operator],
        pipeline_id: str,
        tasks: Annotated[list[str], Body(max_length=1000)],
    ) -> Mapping[str, Any]:
        """Make a chain of tasks, by their names, known under an id."""
        await _check(caller, pipelines, pipeline_id, Access.EXECUTE)
        pipelines.add(pipeline_id, pipelines.of_tasks(tasks))
        await caller.operations.record(
            caller.actor, "register pipeline", pipeline_id, details={"tasks": tasks}
        )
        return {"pipeline_id": pipeline_id, "status": "registered", "tasks": tasks}

    @router.post("/pipelines/{pipeline_id}/execute", status_code=202)
    async def execute(
        caller: Annotated[Caller, operator],
        pipeline_id: str,
        body: Annotated[StartBody | None, Body()] = None,
    ) -> Mapping[str, Any]:
        """Start a run; ``task_id`` is its id."""
        await _check(caller, pipelines, pipeline_id, Access.EXECUTE)
        given = body or StartBody()
        task = await pipelines.start(pipeline_id, given.args, given.kwargs)
        details = {"run_id": task.run_id}
        await caller.operations.record(caller.actor, "start", pipeline_id, details=details)
        return {
            "task_id": task.task_id,
            "run_id": task.run_id,
            "pipeline_id": pipeline_id,
            "status": "PENDING",
        }


async def _check(
    caller: Caller, pipelines: Pipelines, pipeline_id: str, access: Access = Access.READ
) -> None:
    """Refuse what somebody may not do with a pipeline, or with the run that an id means.

    Raises:
        RunNotFoundError: It is not there for them.
        NotAllowedError: They may see it, and not do this.
    """
    if pipeline_id not in pipelines.known and access is Access.READ:
        run_id = await pipelines.latest_run(pipeline_id, caller.operations)
        if run_id is None:
            raise UnknownPipelineError(pipeline_id)
        await caller.run(run_id)
        return
    if caller.may(access, pipeline_id):
        return
    if not caller.may(Access.READ, pipeline_id):
        raise UnknownPipelineError(pipeline_id)
    why = "their role or pipelines do not include it"
    raise NotAllowedError(caller.identity.name, f"{access} {pipeline_id[:100]!r}", why)
