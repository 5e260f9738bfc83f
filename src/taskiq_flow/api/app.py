"""The API of an application's runs and pipelines: by itself, or as a part of another app."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from taskiq import AsyncBroker

from taskiq_flow.api.context import ApiContext
from taskiq_flow.api.door import door
from taskiq_flow.api.errors import FlowRoute
from taskiq_flow.api.fleet_routes import fleet_router
from taskiq_flow.api.pipeline_routes import dag_routes, pipeline_router
from taskiq_flow.api.pipelines import Known, Pipelines, dag_json
from taskiq_flow.api.run_routes import run_router
from taskiq_flow.api.socket_routes import socket_router
from taskiq_flow.api.stream_routes import stream_router
from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.engine.client import RunClient
from taskiq_flow.operations import Operations
from taskiq_flow.security import PipelineAuthorization, Role, Security
from taskiq_flow.visualization import get_renderer_registry

logger = logging.getLogger("taskiq_flow.api")

TITLE = "Taskiq-Flow"


class PipelineVisualizationAPI:
    """Routes for all that can be seen of runs and pipelines, and done with them.

    Its routes are added to ``app``, or to an app of its own. They ask who is there, as the settings
    (or ``security``) say; without any way to log in a token is made and written to the log. Values
    are shown redacted, see `Operations.open`.

    Raises:
        SecurityOptionError: An option of the settings cannot work.
        NoStoreError: The broker has workers elsewhere, and no store is configured.
    """

    def __init__(
        self,
        broker: AsyncBroker,
        app: FastAPI | None = None,
        config: TaskiqFlowConfig | None = None,
        *,
        security: Security | None = None,
        operations: Operations | None = None,
        redact: Callable[[str, Any], Any] | None = None,
        prefix: str = "",
    ) -> None:
        self.broker, self.config = broker, config or TaskiqFlowConfig()
        RunClient.of(broker)
        self.security = security or Security.from_config(self.config)
        if self.security.is_token_made:
            logger.warning(
                "The API asks for this token (Authorization: Bearer …); set "
                "TASKIQ_FLOW_SECURITY_TOKEN to choose it: %s",
                self.security.token,
            )
        self._context = ApiContext(
            broker=broker,
            config=self.config,
            security=self.security,
            authorization=PipelineAuthorization(pipeline_acls=self.config.pipeline_acls),
            redact=redact,
            given=operations,
        )
        self._pipelines = Pipelines(broker)
        self.router = self._make_router()
        self._app = app or FastAPI(title=TITLE, docs_url=None, redoc_url=None, openapi_url=None)
        self._app.include_router(self.router, prefix=prefix)

    # -- pipelines

    @property
    def pipelines(self) -> Mapping[str, Known]:
        """The pipelines that are known, by id."""
        return self._pipelines.known

    def add_pipeline(self, pipeline_id: str, pipeline: Known) -> None:
        """Make a pipeline known: it is listed, drawn, and can be started.

        Raises:
            OperationError: The id cannot stand in an address.
        """
        self._pipelines.add(pipeline_id, pipeline)

    def list_pipelines(self) -> list[dict[str, Any]]:
        """What ``GET /pipelines`` answers."""
        return self._pipelines.listed()

    def get_dag(self, pipeline_id: str) -> dict[str, Any]:
        """Nodes, edges and levels of a pipeline that is known.

        Raises:
            UnknownPipelineError: It is not.
        """
        return dag_json(self._pipelines.get(pipeline_id).to_view())

    async def get_status(self, pipeline_id: str) -> dict[str, Any]:
        """The status of the newest run of a pipeline; ``registered`` where there is none yet.

        Raises:
            UnknownPipelineError: Neither a pipeline nor a run of this id is known.
        """
        return await self._pipelines.status(pipeline_id, await self._context.operations())

    def visualize(self, pipeline_id: str, format: str = "svg") -> Any:  # noqa: A002 - documented
        """A picture of a pipeline that is known: svg, mermaid, dot, ascii or json.

        Raises:
            UnknownPipelineError: It is not.
        """
        view = self._pipelines.get(pipeline_id).to_view()
        return get_renderer_registry().render(format, view)

    # -- the app

    def get_app(self) -> FastAPI:
        """The app that has the routes."""
        return self._app

    @property
    def dag_router(self) -> APIRouter:
        """Only the routes of graphs, to be included elsewhere; they ask who is there as well."""
        return dag_routes(self._context, self._pipelines)

    @property
    def websocket_router(self) -> APIRouter:
        """Only the WebSockets, to be included elsewhere; they ask who is there as well."""
        return socket_router(self._context)

    async def close(self) -> None:
        """Let go of the store; the app does so when it ends."""
        await self._context.close()

    def _make_router(self) -> APIRouter:
        @asynccontextmanager
        async def lifespan(_app: Any) -> AsyncGenerator[None]:
            yield
            await self._context.close()

        router = APIRouter(lifespan=lifespan)
        context, pipelines = self._context, self._pipelines
        for part in (
            fleet_router(context),
            stream_router(context),
            run_router(context),
            pipeline_router(context, pipelines),
            dag_routes(context, pipelines),
            socket_router(context),
        ):
            router.include_router(part)
        described = APIRouter(route_class=FlowRoute)
        viewer = Depends(door(context, Role.VIEWER))

        @described.get("/openapi.json", dependencies=[viewer], include_in_schema=False)
        async def openapi() -> dict[str, Any]:
            """What can be asked here, for those who may ask."""
            return self._app.openapi()

        router.include_router(described)
        return router


def create_visualization_api(
    broker: AsyncBroker,
    app: FastAPI | None = None,
    config: TaskiqFlowConfig | None = None,
    **options: Any,
) -> FastAPI:
    """Add the API to an app, or make one; ``options`` are those of `PipelineVisualizationAPI`.

    The API itself is ``app.state.taskiq_flow``, to make pipelines known with.
    """
    api = PipelineVisualizationAPI(broker, app, config, **options)
    made = api.get_app()
    made.state.taskiq_flow = api
    return made
