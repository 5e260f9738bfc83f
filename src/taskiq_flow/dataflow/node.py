"""The two kinds of nodes: a task with what it takes and gives, and a datum between tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taskiq_flow.dataflow.options import Inputs
from taskiq_flow.dataflow.signature import AnyTask
from taskiq_flow.dataflow.task_info import TaskInfo, read_task


@dataclass(frozen=True, slots=True)
class DataNode:
    """One named datum: who writes it (None: it comes from outside) and who reads it."""

    name: str
    producer: AnyTask | None = None
    consumers: tuple[AnyTask, ...] = ()

    @property
    def is_external(self) -> bool:
        return self.producer is None


class DAGNode:
    """One use of a task in a graph.

    The graph that it is added to fills ``dependencies`` and ``dependents`` and makes ``name``
    unique; ``level`` is up to date after `DAG.compute_levels`.
    """

    def __init__(
        self,
        task: AnyTask,
        output: str | None = None,
        inputs: Inputs | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        info: TaskInfo | None = None,
    ) -> None:
        self.task = task
        self.info = info or read_task(task, output=output, inputs=inputs)
        self.metadata: dict[str, Any] = dict(metadata or {})
        self.name = self.info.name
        self.level = 0
        self.dependencies: list[DAGNode] = []
        self.dependents: list[DAGNode] = []

    @property
    def task_name(self) -> str:
        """The name by which brokers know the task."""
        return self.info.task_name

    @property
    def output(self) -> str:
        """The only output, or the primary one of several."""
        return self.info.outputs[0]

    @property
    def outputs(self) -> list[str]:
        return list(self.info.outputs)

    @property
    def inputs(self) -> list[str]:
        """The data without which the node cannot start."""
        return list(self.info.inputs)

    @property
    def optional_inputs(self) -> list[str]:
        """The data that it takes where a task of the graph, or the run's input, provides them."""
        return list(self.info.optional_inputs)

    def __repr__(self) -> str:
        return f"DAGNode({self.name!r}, inputs={self.inputs}, outputs={self.outputs})"
