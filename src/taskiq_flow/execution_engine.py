"""Runs a graph that was built by hand."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from taskiq import AsyncBroker

from taskiq_flow.compile import Compiled, OnError, Policies, TaskUse
from taskiq_flow.compile.graph import compile_graph
from taskiq_flow.compile.inputs import ExternalInputs
from taskiq_flow.dataflow import DAG, DAGNode
from taskiq_flow.engine.client import RunClient
from taskiq_flow.engine.program import evaluate
from taskiq_flow.errors import ErrorHandlingMode, PipelineErrorAggregator
from taskiq_flow.events import EventType
from taskiq_flow.exceptions import NoDagError
from taskiq_flow.launch import RunOptions, check_graph, launch, routing_of, use_on
from taskiq_flow.model.numbers import check_count, check_seconds
from taskiq_flow.task import PipelineTask

logger = logging.getLogger("taskiq_flow.execution_engine")

StepCallback = Callable[[str, Any], Any]
"""Is told the name and the value of an output; may be a coroutine function."""


class ExecutionEngine:
    """Runs one graph, as often as wanted; the workers advance it, as they do every run.

    ``on_step_complete`` is called in this process, for every output in the order in which they
    come. ``error_mode`` says what the failure of a task does; the three flags are other words for
    it. Parameters about resources are accepted and have no effect.
    """

    def __init__(  # noqa: PLR0913 - each of them is a documented option
        self,
        broker: AsyncBroker,
        dag: DAG,
        max_parallel: int | None = None,
        on_step_complete: StepCallback | None = None,
        *,
        error_mode: ErrorHandlingMode | str = ErrorHandlingMode.FAIL_FAST,
        fail_fast: bool = False,
        continue_on_error: bool = False,
        skip_failed: bool = False,
        timeout: float | None = None,
        **resources: Any,
    ) -> None:
        _check_resources(resources)
        check_count("max_parallel", max_parallel)
        check_seconds("timeout", timeout)
        check_graph(broker, dag)
        self.broker, self.dag = broker, dag
        self.max_parallel, self.timeout = max_parallel, timeout
        self.on_step_complete = on_step_complete
        mode = ErrorHandlingMode(error_mode)
        if fail_fast:
            mode = ErrorHandlingMode.FAIL_FAST
        elif skip_failed:
            mode = ErrorHandlingMode.SKIP_FAILED
        elif continue_on_error:
            mode = ErrorHandlingMode.CONTINUE_ON_ERROR
        self.error_mode = mode
        self.errors = PipelineErrorAggregator()
        self._task: PipelineTask[dict[str, Any]] | None = None
        self._report: dict[str, Any] = {}

    async def execute(
        self, inputs: Mapping[str, Any] | None = None, pipeline_id: str | None = None
    ) -> dict[str, Any]:
        """Run the graph with these inputs, wait for its end, and return its outputs in order.

        Inputs that no task takes are left out with a warning. Where the run went on past errors,
        None stands for what was not made.

        Raises:
            NoDagError: The graph is empty.
            MissingInputError: A task would not get one of its inputs; nothing was started.
            PipelineError: The run failed or was cancelled.
        """
        task, compiled = await self._start(inputs, pipeline_id)
        if self.on_step_complete is not None:
            async for name, value in self._outputs(task, compiled):
                answer = self.on_step_complete(name, value)
                if inspect.isawaitable(answer):
                    await answer
        return await self._finish(task)

    async def execute_async(
        self, inputs: Mapping[str, Any] | None = None, pipeline_id: str | None = None
    ) -> AsyncIterator[tuple[str, Any]]:
        """Run the graph and yield each output, by name, as soon as it is there.

        Raises:
            PipelineError: The run failed or was cancelled; what it had was yielded before.
        """
        task, compiled = await self._start(inputs, pipeline_id)
        async for output in self._outputs(task, compiled):
            yield output
        await self._finish(task)

    async def cancel(self, reason: str | None = None) -> bool:
        """End the run that was started last; False when there is none, or it had ended."""
        return self._task is not None and await self._task.cancel(reason)

    def schedule_task(self, node: DAGNode) -> Any:
        """Return what runs a node: its task, or a kicker of it with labels.

        Called for each node when a run is started. Override it to route tasks by labels, for
        example to another queue; what is ready when is the workers' business.
        """
        return node.task

    def get_execution_report(self) -> dict[str, Any]:
        """Return what became of the tasks of the last run that ended; empty before that."""
        return dict(self._report)

    async def _start(
        self, inputs: Mapping[str, Any] | None, pipeline_id: str | None
    ) -> tuple[PipelineTask[dict[str, Any]], Compiled]:
        compiled, given = self._compile(inputs or {})
        options = RunOptions(
            key=pipeline_id, timeout_seconds=self.timeout, max_parallel=self.max_parallel
        )
        values = [given[slot.name] for slot in compiled.slots]
        self._task = await launch(self.broker, compiled, values, options)
        return self._task, compiled

    def _compile(self, inputs: Mapping[str, Any]) -> tuple[Compiled, dict[str, Any]]:
        if not self.dag.nodes:
            raise NoDagError
        given, unknown = ExternalInputs.of(self.dag).keep_known(inputs)
        if unknown:
            logger.warning("No task takes the input %s; left out.", ", ".join(unknown))
        policies = Policies(on_error=_ON_ERROR[self.error_mode])
        uses: dict[DAGNode, TaskUse] = {
            node: use_on(self.broker, self.schedule_task(node)) for node in self.dag.nodes
        }
        routing = routing_of(self.broker)
        return compile_graph(self.dag, given, policies, routing, uses=uses), given

    async def _outputs(
        self, task: PipelineTask[Any], compiled: Compiled
    ) -> AsyncIterator[tuple[str, Any]]:
        client = RunClient.of(self.broker)
        async for event in task.events():
            if event.type is not EventType.STEP_COMPLETED or event.step is None:
                continue
            stored = await client.store.values(task.run_id, [event.step])
            loaded = await client.results.load(task.run_id, stored)
            for name, source in compiled.plan.outputs:
                if source.key == event.step and source.key in loaded:
                    yield name, evaluate(source, loaded)

    async def _finish(self, task: PipelineTask[Any]) -> dict[str, Any]:
        result = await task.wait_result(raise_on_error=False)
        self._report = await self._make_report(task)
        if result.error is not None:
            raise result.error
        return result.return_value

    async def _make_report(self, task: PipelineTask[Any]) -> dict[str, Any]:
        found = await task.get_report()
        self.errors = found.errors()
        return {
            "run_id": found.run_id,
            "pipeline_id": found.pipeline_id,
            "status": found.status,
            "total_tasks": found.total_steps,
            "completed_tasks": list(found.completed),
            "failed_tasks": [failure.step for failure in found.failed],
            "skipped_tasks": list(self.errors.skipped_tasks),
            "success_rate": found.success_rate,
            "errors": {failure.step: failure.error for failure in found.failed},
            "attempts": dict(found.attempts),
            "durations_ms": dict(found.durations_ms),
            "duration_ms": found.duration_ms,
        }


_ON_ERROR = {
    ErrorHandlingMode.FAIL_FAST: OnError.STOP,
    ErrorHandlingMode.CONTINUE_ON_ERROR: OnError.CONTINUE,
    ErrorHandlingMode.SKIP_FAILED: OnError.CONTINUE,
    ErrorHandlingMode.DEAD_LETTER: OnError.DEAD_LETTER,
}
_RESOURCES = frozenset({"adaptive_parallelism", "resource_aware", "resource_profiles"})


def _check_resources(given: Mapping[str, Any]) -> None:
    unknown = set(given) - _RESOURCES
    if unknown:
        listed = ", ".join(sorted(unknown))
        raise TypeError(f"ExecutionEngine() got an unexpected keyword argument: {listed}")
