"""Shortcuts from tasks to a graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from taskiq_flow.dataflow.dag import DAG
from taskiq_flow.dataflow.options import Inputs, Outputs
from taskiq_flow.dataflow.registry import DataflowRegistry
from taskiq_flow.dataflow.signature import AnyTask
from taskiq_flow.dataflow.task_info import read_task
from taskiq_flow.exceptions import InputConflictError


class DAGBuilder:
    """Builds a graph task by task; the static methods build one from a list."""

    def __init__(self) -> None:
        self._registry = DataflowRegistry()

    def add_task(
        self,
        task: AnyTask,
        output: str | None = None,
        inputs: Inputs | None = None,
        *,
        outputs: Outputs | None = None,
        **metadata: Any,
    ) -> DAGBuilder:
        """Add a task, as `DataflowRegistry.register_task` does, and return the builder."""
        self._registry.register_task(task, output, inputs, outputs=outputs, **metadata)
        return self

    def node(
        self,
        task: AnyTask,
        output: str | None = None,
        inputs: Inputs | None = None,
        *,
        outputs: Outputs | None = None,
        **metadata: Any,
    ) -> DAGBuilder:
        """Add a task; another name of `add_task` for chains of calls."""
        return self.add_task(task, output, inputs, outputs=outputs, **metadata)

    def build(self) -> DAG:
        """Build a graph of the tasks added so far, and check it.

        Raises:
            EmptyGraphError: No task was added.
            CycleError: Tasks need each other's outputs.
        """
        dag = self._registry.build_dag()
        dag.validate()
        return dag

    @staticmethod
    def from_tasks(
        tasks: Iterable[AnyTask],
        external_inputs: Iterable[str] = (),
        *,
        context_by_name: bool = False,
    ) -> DAG:
        """Build a graph from decorated tasks; their order does not matter to the edges.

        ``external_inputs`` documents what a run is given: a task must not write one of them.

        Raises:
            InputConflictError: A task writes one of the external inputs.
            DuplicateOutputError: Two tasks write one name.
            CycleError: Tasks need each other's outputs.
        """
        registry = DataflowRegistry(context_by_name=context_by_name)
        for task in tasks:
            registry.register_task(task)
        dag = registry.build_dag()
        for name in external_inputs:
            producer = dag.producer_of(name)
            if producer is not None:
                raise InputConflictError(name, producer.name)
        return dag

    @staticmethod
    def from_callable_tasks(tasks: Iterable[AnyTask]) -> DAG:
        """Build a graph from plain functions, to look at or to test it without a broker."""
        return DAGBuilder.from_tasks(tasks)

    @staticmethod
    def validate_dag(dag: DAG) -> None:
        """Check that a graph can run; see `DAG.validate`."""
        dag.validate()

    @staticmethod
    def analyze_missing_dependencies(
        tasks: Iterable[AnyTask], registry: DataflowRegistry | None = None
    ) -> dict[str, list[str]]:
        """Map the name of each task to those of its inputs that no task here writes.

        Tasks of the registry count as writers. What is missing has to be given to a run.
        """
        infos = [read_task(task) for task in tasks]
        written = {name for info in infos for name in info.outputs}
        written.update(registry.get_outputs() if registry else ())
        missing = {
            info.task_name: [name for name in info.inputs if name not in written] for info in infos
        }
        return {task: names for task, names in missing.items() if names}
