"""The pipelines that an application has made known to its API, by ids of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from taskiq import AsyncBroker

from taskiq_flow.engine.client import RunClient
from taskiq_flow.exceptions import OperationError, RunNotFoundError, TaskNotFoundError
from taskiq_flow.operations import Operations, RunQuery
from taskiq_flow.pipeline import DataflowPipeline, Pipeline
from taskiq_flow.task import PipelineTask
from taskiq_flow.visualization import DAGVisualizer, GraphView

ID_MOST = 200


class Known(Protocol):
    """What can be made known: every kind of pipeline."""

    def to_view(self) -> GraphView: ...

    async def kiq(self, *args: Any, **kwargs: Any) -> PipelineTask[Any]: ...


class UnknownPipelineError(RunNotFoundError):
    """No pipeline of this id is known to the API."""

    def __init__(self, pipeline_id: str) -> None:
        super().__init__(pipeline_id)
        self.message = (
            f"No pipeline {pipeline_id[:ID_MOST]!r} is known here, and no run has this id or name; "
            f"make it known with add_pipeline()."
        )


@dataclass(slots=True)
class Pipelines:
    """Pipelines by id."""

    broker: AsyncBroker
    known: dict[str, Known] = field(default_factory=dict[str, Known])
    last_runs: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, pipeline_id: str, pipeline: Known) -> None:
        """Make a pipeline known; an earlier one of the id is replaced.

        Raises:
            OperationError: The id cannot stand in an address.
        """
        if not pipeline_id or len(pipeline_id) > ID_MOST or "/" in pipeline_id:
            raise OperationError(
                f"{pipeline_id[:ID_MOST]!r} cannot be the id of a pipeline: 1 to {ID_MOST} "
                f"characters, no slash."
            )
        self.known[pipeline_id] = pipeline

    def get(self, pipeline_id: str) -> Known:
        """A pipeline that is known.

        Raises:
            UnknownPipelineError: It is not.
        """
        pipeline = self.known.get(pipeline_id)
        if pipeline is None:
            raise UnknownPipelineError(pipeline_id)
        return pipeline

    def of_tasks(self, names: list[str]) -> Pipeline[Any]:
        """A chain of tasks of the broker, by their names.

        Raises:
            TaskNotFoundError: The broker has no such task.
            OperationError: No task is named.
        """
        if not names:
            raise OperationError("A pipeline needs tasks; send a list of their names.")
        pipeline: Pipeline[Any] = Pipeline(self.broker)
        for name in names:
            task = self.broker.find_task(name)
            if task is None:
                raise TaskNotFoundError(name)
            pipeline = pipeline.call_next(task)
        return pipeline

    def listed(self) -> list[dict[str, Any]]:
        """All of them, as the API lists them."""
        return [
            {
                "id": pipeline_id,
                "pipeline_id": pipeline_id,
                "type": kind_of(pipeline),
                "steps": len(pipeline.to_view().nodes),
                "has_dag": True,
                "last_run_id": self.last_runs.get(pipeline_id),
            }
            for pipeline_id, pipeline in self.known.items()
        ]

    async def start(
        self, pipeline_id: str, args: list[Any], kwargs: dict[str, Any]
    ) -> PipelineTask[Any]:
        """Start a run of a pipeline that is known."""
        task = await self.get(pipeline_id).kiq(*args, **kwargs)
        self.last_runs[pipeline_id] = task.run_id
        return task

    async def latest_run(self, pipeline_id: str, operations: Operations) -> str | None:
        """The newest run of a pipeline: started here, or by its name or id anywhere."""
        started = self.last_runs.get(pipeline_id)
        if started is not None:
            return started
        try:
            return await operations.resolve(pipeline_id)
        except RunNotFoundError:
            pass
        for name in dict.fromkeys((pipeline_id, self._name_of(pipeline_id))):
            page = await operations.runs(RunQuery(name=name), limit=1) if name else None
            if page is not None and page.runs:
                return page.runs[0].run_id
        return None

    async def status(self, pipeline_id: str, operations: Operations) -> dict[str, Any]:
        """The status of the newest run; ``registered`` where there is none yet.

        Raises:
            UnknownPipelineError: Neither a pipeline nor a run of this id is known.
        """
        run_id = await self.latest_run(pipeline_id, operations)
        if run_id is None:
            self.get(pipeline_id)
            return {"pipeline_id": pipeline_id, "status": "registered", "run_id": None, "steps": []}
        found = await RunClient.of(self.broker).status(run_id, values=False)
        return {**found.model_dump(mode="json"), "pipeline_id": pipeline_id}

    async def view(self, pipeline_id: str, operations: Operations) -> GraphView:
        """The graph of a pipeline that is known, else that of a run.

        Raises:
            UnknownPipelineError: Neither is known.
        """
        pipeline = self.known.get(pipeline_id)
        if pipeline is not None:
            return pipeline.to_view()
        run_id = await self.latest_run(pipeline_id, operations)
        if run_id is None:
            raise UnknownPipelineError(pipeline_id)
        return (await operations.graph(run_id)).to_view()

    def _name_of(self, pipeline_id: str) -> str:
        pipeline = self.known.get(pipeline_id)
        return "" if pipeline is None else pipeline.to_view().title


def kind_of(pipeline: Known) -> str:
    """The word for a kind of pipeline, as runs have it."""
    return "dataflow" if isinstance(pipeline, DataflowPipeline) else "sequential"


def dag_json(view: GraphView) -> dict[str, Any]:
    """A graph as JSON, with both names that ends of edges go by."""
    found = DAGVisualizer(view).to_json()
    for edge in found.get("edges", []):
        edge.setdefault("from", edge.get("source"))
        edge.setdefault("to", edge.get("target"))
    return found
