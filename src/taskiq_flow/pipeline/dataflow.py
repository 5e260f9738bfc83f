"""Pipelines whose steps find each other by the names of what they take and give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from taskiq import AsyncBroker, TaskiqResult

from taskiq_flow import visualization
from taskiq_flow.compile import (
    ChildPlan,
    ChildUse,
    Compiled,
    Reduction,
    Shape,
    constant,
    encode_items,
)
from taskiq_flow.compile.graph import GraphUse, MapOver, ReduceOver, build_graph, compile_graph
from taskiq_flow.compile.inputs import ExternalInputs
from taskiq_flow.compile.view import plan_view
from taskiq_flow.dataflow import DAG
from taskiq_flow.dataflow.signature import MISSING
from taskiq_flow.exceptions import NoDagError
from taskiq_flow.launch import check_graph, launch, use_on
from taskiq_flow.model.numbers import check_count
from taskiq_flow.pipeline.base import BasePipeline
from taskiq_flow.pipeline.map_reduce import as_map_reduce
from taskiq_flow.task import PipelineTask


class DataflowResult(dict[str, Any]):
    """The outputs of a run that has ended, in plan order, with the run that they are of."""

    def __init__(self, outputs: Mapping[str, Any], task: PipelineTask[dict[str, Any]]) -> None:
        super().__init__(outputs)
        self.task = task

    @property
    def task_id(self) -> str:
        return self.task.task_id

    @property
    def pipeline_id(self) -> str:
        return self.task.pipeline_id

    @property
    def return_value(self) -> dict[str, Any]:
        """The outputs themselves, for code that treats this as a Taskiq result."""
        return dict(self)

    async def wait_result(self) -> TaskiqResult[dict[str, Any]]:
        """Return the result of the run again; it has ended, so this does not wait."""
        return await self.task.wait_result(raise_on_error=False)


@dataclass(slots=True)
class _Built:
    """A graph, and what was compiled of it for starts with different optional inputs."""

    dag: DAG
    inputs: ExternalInputs
    compiled: dict[frozenset[str], Compiled]


class DataflowPipeline(BasePipeline):
    """A graph of tasks: a parameter receives the output that has its name.

    What no task gives is an external input of the run. Each step starts as soon as what it needs
    is there.
    """

    def __init__(
        self,
        broker: AsyncBroker,
        tasks: Iterable[Any] | None = None,
        *,
        max_parallel: int | None = None,
        timeout: float | None = None,
        pipeline_id: str | None = None,
    ) -> None:
        """Begin a graph on a broker, with these tasks; arguments as for `Pipeline`."""
        super().__init__(
            broker, max_parallel=max_parallel, timeout=timeout, pipeline_id=pipeline_id
        )
        self._uses: list[GraphUse] = []
        self._built: _Built | None = None
        for task in tasks or ():
            self.add_dataflow_task(task)
        if self._uses:
            self.build_dag()

    @classmethod
    def from_tasks(cls, broker: AsyncBroker, tasks: Iterable[Any], **kwargs: Any) -> Self:
        """Make a pipeline of these tasks; their order does not matter.

        Raises:
            NotATaskError: One of them is not a Taskiq task.
            DuplicateOutputError: Two of them give one name.
            CycleError: They need each other's outputs.
            TypeMismatchError: One cannot take what another returns, by their annotations.
        """
        return cls(broker, tasks, **kwargs)

    # -- tasks

    def add_dataflow_task(self, task: Any) -> Self:
        """Add a task; its ``@pipeline_task`` and its signature say what it takes and gives."""
        return self._add(GraphUse(use_on(self.broker, task)))

    def add_task(self, task: Any) -> Self:
        """Add a task; another name of `add_dataflow_task`."""
        return self.add_dataflow_task(task)

    def map(
        self,
        task: Any,
        items: str | Iterable[Any] | None = None,
        output: str | None = None,
        *,
        max_parallel: int | None = None,
        param_name: str | None = None,
        skip_errors: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Add a task that is called for each item; its output is the list of results, in order.

        ``items`` are given here, or are the name of an output or an external input (``"items"``
        where nothing is said). They go to the first parameter, or to ``param_name``; the others
        receive the data of their names, or what ``kwargs`` bind to them.
        """
        check_count("max_parallel", max_parallel)
        use = use_on(self.broker, task, (), kwargs, param_name=param_name)
        named = "items" if items is None else items
        taken = named if isinstance(named, str) else encode_items(use.name, named)
        return self._add(GraphUse(use, output, MapOver(taken, max_parallel, skip_errors)))

    def reduce(
        self,
        task: Any,
        input_name: str,
        output: str | None = None,
        *,
        chunk_size: int | None = None,
        initial: Any = MISSING,
        max_parallel: int | None = None,
        param_name: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Add a task that makes one value of the list called ``input_name``.

        It is called with the whole list. With ``chunk_size`` it is called with so many elements
        at a time, then with their results, as a tree: it must be associative. ``initial`` is put
        before the first element.
        """
        use = use_on(self.broker, task, (), kwargs, param_name=param_name)
        first = None if initial is MISSING else constant(initial, "the initial value", use.name)
        how = Reduction(chunk_size, first, max_parallel=max_parallel)
        return self._add(GraphUse(use, output, ReduceOver(input_name, how)))

    def build_dag(self) -> DAG:
        """Return the graph as it is now.

        Raises:
            NoDagError: There are no tasks.
            DuplicateOutputError: Two of them give one name.
            CycleError: They need each other's outputs.
        """
        return self._build().dag

    def to_view(self) -> visualization.GraphView:
        return plan_view(self._compile(self._build(), None).plan)

    # -- starting

    async def kiq(self, *args: Any, **inputs: Any) -> PipelineTask[dict[str, Any]]:
        """Start a run with its external inputs, and return a handle on it.

        A single value without a name is the only input that there is, or a dict of inputs. The
        result of the run is the dict of all outputs, in plan order.

        Raises:
            NoDagError: There are no tasks.
            MissingInputError: A task would not get one of its inputs.
            UnknownInputError: No task takes one of these.
            PositionalInputError: There is no single place for a value without a name.
            DuplicatePipelineError: A run of this pipeline's name is still going.
        """
        built = self._build()
        given = built.inputs.bind(args, inputs)
        compiled = self._compile(built, frozenset(given))
        return await self._launch(compiled, given)

    async def kiq_dataflow(self, *args: Any, **inputs: Any) -> DataflowResult:
        """Start a run as `kiq` does, wait for its end, and return its outputs.

        Raises:
            PipelineError: The run failed or was cancelled.
        """
        task = await self.kiq(*args, **inputs)
        result = await task.wait_result()
        return DataflowResult(result.return_value, task)

    async def kiq_map_reduce(
        self,
        *,
        items: Iterable[Any] | None = None,
        map_output: str | None = None,
        reduce_output: str | None = None,
        **inputs: Any,
    ) -> Any:
        """Run a map and its reduction, and return the final value.

        The pipeline has them by `map` and `reduce`, or consists of two tasks. ``items`` replace
        those of the map, and the names those of its output and of the final one.

        Raises:
            MapReduceShapeError: There is no map, or nothing that it could be.
            PipelineError: The run failed or was cancelled.
        """
        uses, final = as_map_reduce(
            self._uses, items=items, map_output=map_output, reduce_output=reduce_output
        )
        return await self._run_to(uses, final, inputs)

    async def kiq_map_reduce_advanced(  # noqa: PLR0913 - each of them is a documented option
        self,
        map_task: Any,
        reduce_task: Any,
        items: Iterable[Any],
        map_output: str = "mapped",
        reduce_output: str = "reduced",
        *,
        map_param_name: str | None = None,
        max_parallel: int | None = None,
        reduce_chunk_size: int | None = None,
        initial: Any = MISSING,
        **kwargs: Any,
    ) -> Any:
        """Map one task over items, reduce with another, and return the final value.

        The tasks of this pipeline play no part; its policies do. ``kwargs`` are bound to the map.
        """
        scratch = DataflowPipeline(self.broker)
        scratch.map(
            map_task,
            list(items),
            map_output,
            max_parallel=max_parallel,
            param_name=map_param_name,
            **kwargs,
        )
        scratch.reduce(
            reduce_task, map_output, reduce_output, chunk_size=reduce_chunk_size, initial=initial
        )
        return await self._run_to(scratch._uses, reduce_output, {})

    async def kiq_map_sweep(
        self,
        task: Any,
        param_values: Mapping[str, Sequence[Any]],
        output: str = "swept",
        *,
        max_parallel: int | None = None,
        **kwargs: Any,
    ) -> list[Any]:
        """Call a task with every combination of parameter values; the last one varies fastest."""
        check_count("max_parallel", max_parallel)
        use = use_on(self.broker, task, (), kwargs)
        over = MapOver.sweep(use.name, param_values, max_parallel)
        return await self._run_to([GraphUse(use, output, over)], output, {})

    # -- inside

    async def _run_to(self, uses: Sequence[GraphUse], final: str, inputs: Mapping[str, Any]) -> Any:
        dag = build_graph(uses, context_by_name=self._policies.context_by_name)
        check_graph(self.broker, dag)
        given = ExternalInputs.of(dag).bind((), inputs)
        compiled = compile_graph(
            dag,
            given,
            self._policies,
            self._routing,
            result=final,
            kind="map_reduce",
            name=self._name,
        )
        task = await self._launch(compiled, given)
        return (await task.wait_result()).return_value

    async def _launch(self, compiled: Compiled, given: Mapping[str, Any]) -> PipelineTask[Any]:
        values = [given[slot.name] for slot in compiled.slots]
        task = await launch(self.broker, compiled, values, self._options)
        self._started(task)
        return task

    def _build(self) -> _Built:
        if self._built is None:
            if not self._uses:
                raise NoDagError
            dag = build_graph(self._uses, context_by_name=self._policies.context_by_name)
            check_graph(self.broker, dag)
            self._built = _Built(dag, ExternalInputs.of(dag), {})
        return self._built

    def as_child(self) -> ChildUse:
        """This graph as it is now, to be a step of another pipeline.

        A single value goes to its only input, or is a dict of its inputs.
        """
        built, policies, name = self._build(), self._policies, self._name
        routing, known = self._routing, built.inputs

        def prepare(shape: Shape | None) -> ChildPlan:
            by_name = shape == Shape(1) and len(known.required) > 1
            if shape is None or by_name:
                given: dict[str, Any] = {at: place for place, at in enumerate(known.required)}
            else:
                places = range(shape.positional, shape.positional + len(shape.named))
                by_place = dict(zip(shape.named, places, strict=True))
                given = known.bind(range(shape.positional), by_place)
            compiled = compile_graph(built.dag, frozenset(given), policies, routing, name=name)
            order = tuple(given[slot.name] for slot in compiled.slots)
            return ChildPlan(compiled, None if by_name else order)

        options = self._options
        return ChildUse(
            name or "dataflow",
            prepare,
            policies.labels,
            options.timeout_seconds,
            options.max_parallel,
            options.tags,
        )

    def _compile(self, built: _Built, given: frozenset[str] | None) -> Compiled:
        chosen = frozenset(built.inputs.required) if given is None else given
        compiled = built.compiled.get(chosen)
        if compiled is None:
            compiled = built.compiled[chosen] = compile_graph(
                built.dag, chosen, self._policies, self._routing, name=self._name
            )
        return compiled

    def _changed(self) -> None:
        self._built = None

    def _add(self, use: GraphUse) -> Self:
        self._uses.append(use)
        self._changed()
        return self
