"""Registered tasks and the data between them, from which a graph is built."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from taskiq_flow.dataflow.dag import DAG
from taskiq_flow.dataflow.node import DAGNode, DataNode
from taskiq_flow.dataflow.options import Inputs, Outputs
from taskiq_flow.dataflow.signature import AnyTask
from taskiq_flow.dataflow.task_info import TaskInfo, read_task
from taskiq_flow.exceptions import DuplicateOutputError, TaskNotFoundError


class _Entry(NamedTuple):
    task: AnyTask
    info: TaskInfo
    metadata: Mapping[str, Any]


class DataflowRegistry:
    """Tasks in the order of their registration, and who writes and reads what.

    Answers are about this registry only; nothing is shared between two of them. Of a task that
    is registered twice, `get_task_metadata` and `get_data_dependencies` know the first use.
    """

    def __init__(self, *, context_by_name: bool = False) -> None:
        self._context_by_name = context_by_name
        self._entries: list[_Entry] = []
        self._by_task: dict[int, _Entry] = {}
        self._writers: dict[str, _Entry] = {}
        self._readers: dict[str, list[_Entry]] = {}

    def register_task(
        self,
        task: AnyTask,
        output: str | None = None,
        inputs: Inputs | None = None,
        *,
        outputs: Outputs | None = None,
        **metadata: Any,
    ) -> None:
        """Register a task; what is not said here is read from its decorator and signature.

        Raises:
            NotATaskError: This is neither a task nor a function.
            DuplicateOutputError: A registered task writes one of its outputs.
            InputBindingError: Declared inputs fit no parameter.
        """
        info = read_task(
            task,
            output=output,
            outputs=outputs,
            inputs=inputs,
            context_by_name=self._context_by_name,
        )
        for name in info.outputs:
            if name in self._writers:
                raise DuplicateOutputError(name, self._writers[name].info.name, info.name)
        entry = _Entry(task, info, MappingProxyType(metadata))
        self._entries.append(entry)
        self._by_task.setdefault(id(task), entry)
        for name in info.outputs:
            self._writers[name] = entry
        for name in dict.fromkeys((*info.inputs, *info.optional_inputs)):
            self._readers.setdefault(name, []).append(entry)

    def register_task_from_object(self, task: AnyTask) -> None:
        """Register a task with what its decorator and signature say."""
        self.register_task(task)

    @property
    def tasks(self) -> list[AnyTask]:
        return [entry.task for entry in self._entries]

    @property
    def data_producers(self) -> dict[str, AnyTask]:
        return {name: entry.task for name, entry in self._writers.items()}

    @property
    def data_nodes(self) -> dict[str, DataNode]:
        """Every datum that a registered task writes or reads, by name."""
        names = dict.fromkeys((*self._writers, *self._readers))
        return {
            name: DataNode(name, self.get_producer(name), tuple(self.get_consumers(name)))
            for name in names
        }

    def get_tasks(self) -> list[AnyTask]:
        return self.tasks

    def get_outputs(self) -> list[str]:
        """Return the name of every datum that a task writes."""
        return list(self._writers)

    def get_external_inputs(self) -> list[str]:
        """Return the data that no task writes and some task needs."""
        needed = dict.fromkeys(name for entry in self._entries for name in entry.info.inputs)
        return [name for name in needed if name not in self._writers]

    def get_producer(self, name: str) -> AnyTask | None:
        """Return the task that writes this datum; None if it comes from outside."""
        entry = self._writers.get(name)
        return None if entry is None else entry.task

    def get_consumers(self, name: str) -> list[AnyTask]:
        """Return the tasks that take this datum, also those that could do without."""
        return [entry.task for entry in self._readers.get(name, ())]

    def get_data_dependencies(self, task: AnyTask) -> list[str]:
        """Return the data that a task needs, whether a task writes them or not.

        Raises:
            TaskNotFoundError: The task is not registered.
        """
        return list(self._entry(task).info.inputs)

    def get_task_metadata(self, task: AnyTask) -> dict[str, Any]:
        """Return what is known of a task, the keywords of its registration included.

        Raises:
            TaskNotFoundError: The task is not registered.
        """
        entry = self._entry(task)
        return {
            **entry.metadata,
            "output": entry.info.outputs[0],
            "outputs": list(entry.info.outputs),
            "inputs": list(entry.info.inputs),
            "retries": entry.info.options.retries or 0,
            "description": entry.info.description,
        }

    def build_dag(self) -> DAG:
        """Build a new graph of everything registered so far.

        An input that no task writes becomes an external input; unconnected parts are allowed.

        Raises:
            CycleError: Tasks need each other's outputs.
        """
        dag = DAG(DAGNode(e.task, metadata=e.metadata, info=e.info) for e in self._entries)
        dag.compute_levels()
        return dag

    def _entry(self, task: AnyTask) -> _Entry:
        try:
            return self._by_task[id(task)]
        except KeyError:
            raise TaskNotFoundError(str(getattr(task, "task_name", task))) from None
