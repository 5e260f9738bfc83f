"""Compiles a graph: each step takes what others, or the start of the run, give by name."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from taskiq_flow.compile.arguments import Given, bind_call
from taskiq_flow.compile.builder import PlanBuilder, item_spec, step_name
from taskiq_flow.compile.builtin import StepOption
from taskiq_flow.compile.compiled import (
    Compiled,
    InputSlot,
    encode_items,
    list_of,
    optional,
    record_of,
    returned_type,
)
from taskiq_flow.compile.policies import Policies
from taskiq_flow.compile.reduction import Reduction, add_reduction
from taskiq_flow.compile.uses import Routing, TaskUse
from taskiq_flow.dataflow import DAG, DAGNode, InputBinding, TaskInfo
from taskiq_flow.dataflow.signature import MISSING
from taskiq_flow.exceptions import BadArgumentsError
from taskiq_flow.model.records import OnFailure
from taskiq_flow.plan import Binding, DictOf, Item, Source, input_key

USE = "taskiq_flow.use"
"""Key of a node's metadata: its `GraphUse`, where the graph was built by a pipeline."""


@dataclass(frozen=True, slots=True)
class MapOver:
    """A task that is run for each item: of a datum by name, or of those given here, encoded."""

    items: str | Sequence[bytes]
    max_parallel: int | None = None
    skip_errors: bool = False
    spread: tuple[str, ...] = ()
    """Parameters that are taken out of the item, which is then a dict of them."""

    @classmethod
    def sweep(
        cls, step: str, values: Mapping[str, Sequence[Any]], max_parallel: int | None = None
    ) -> MapOver:
        """Run a task for every combination of these values; the last parameter varies fastest."""
        combinations = (
            dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())
        )
        return cls(encode_items(step, combinations), max_parallel, spread=tuple(values))


@dataclass(frozen=True, slots=True)
class ReduceOver:
    """A task that makes one value of the list that a datum is."""

    items: str
    how: Reduction = field(default_factory=Reduction)


@dataclass(frozen=True, slots=True)
class GraphUse:
    """One task of a graph, with the name of its output where it is not the declared one."""

    use: TaskUse
    output: str | None = None
    over: MapOver | ReduceOver | None = None


Inputs: TypeAlias = Collection[str]


def build_graph(uses: Sequence[GraphUse], *, context_by_name: bool = False) -> DAG:
    """Link the tasks of a pipeline by the names of their data.

    Raises:
        DuplicateOutputError: Two of them write one name.
        CycleError: Tasks need each other's outputs.
        BadArgumentsError: A map or reduce task has no parameter for its items.
    """
    dag = DAG()
    for each in uses:
        info = _node_info(each, context_by_name=context_by_name)
        dag.add_node(DAGNode(each.use.task, info=info, metadata={USE: each}))
    dag.compute_levels()
    return dag


def compile_graph(
    dag: DAG,
    given: Inputs | None,
    policies: Policies,
    routing: Routing,
    *,
    uses: Mapping[DAGNode, TaskUse] | None = None,
    result: str | None = None,
    kind: str = "dataflow",
    name: str = "",
) -> Compiled:
    """Compile a graph for starts with these inputs; None stands for those that it must have.

    ``uses`` says how nodes are run that no pipeline made. A run returns the dict of all outputs,
    or the one called ``result``.

    Raises:
        CycleError: Tasks need each other's outputs.
        BadArgumentsError: A task cannot be called with what it would receive.
    """
    on_failure = policies.on_failure(going_on=OnFailure.SKIP)
    graph = _Graph(PlanBuilder(policies, routing, on_failure), dag, _chosen(dag, given))
    for node in dag.topological_sort():
        graph.add(node, (uses or {}).get(node))
    sources = graph.sources
    if result is None:
        binding: Binding = DictOf(tuple(sources.items()))
        returns = record_of(graph.types)
    else:
        binding, returns = sources[result], graph.types[result]
    inputs = [slot.name for slot in graph.slots if slot.items_of is None]
    return Compiled(
        plan=graph.builder.plan(kind, binding, inputs, name),
        slots=tuple(graph.slots),
        returns=returns,
        bound_items=graph.bound_items,
    )


class _Graph:
    """A graph as far as it is compiled: where each datum comes from, and its type."""

    def __init__(self, builder: PlanBuilder, dag: DAG, names: Sequence[str]) -> None:
        self.builder, self.dag = builder, dag
        self.names = names
        self.split = {name for name in names if self._is_only_mapped(name)}
        inputs = [name for name in names if name not in self.split]
        self.numbers = {name: number for number, name in enumerate(inputs)}
        self.slots = [InputSlot(name) for name in inputs]
        self.sources: dict[str, Source] = {}
        self.types: dict[str, Any] = {}
        self.bound_items: dict[int, Sequence[bytes]] = {}
        self.places: dict[DAGNode, int] = {}

    def add(self, node: DAGNode, use: TaskUse | None) -> None:
        graph_use = node.metadata.get(USE)
        each = graph_use if isinstance(graph_use, GraphUse) else GraphUse(_required(use))
        name = self.builder.name(step_name(node.info))
        match each.over:
            case MapOver():
                index = self._map(node, each.use, each.over, name)
            case ReduceOver():
                index = self._reduce(node, each.use, each.over, name)
            case None:
                index = self._task(node, each.use, name)
        self.places[node] = index
        may_fail = self.builder.on_failure is not OnFailure.STOP
        for output in node.info.outputs:
            part = output if node.info.multiple_outputs else None
            self.sources[output] = Source(index, part)
            annotation = Any if part is not None else returned_type(node.info)
            self.types[output] = optional(annotation) if may_fail else annotation

    def _task(self, node: DAGNode, use: TaskUse, name: str) -> int:
        call = bind_call(name, use, node.info, Given(named=self._bound(node), hint=_HINT))
        return self.builder.add_task(name, use, node.info, call, after=self._before(node))

    def _map(self, node: DAGNode, use: TaskUse, over: MapOver, name: str) -> int:
        bound = self._bound(node)
        bound.update(dict.fromkeys(_item_parameters(use, over, node.info), Item()))
        items = self._source(over.items) if isinstance(over.items, str) else None
        call = bind_call(name, use, node.info, Given(named=bound, hint=_HINT))
        if over.spread:
            call = replace(call, kwargs=tuple(x for x in call.kwargs if x[0] not in over.spread))
        index = self.builder.add_task(
            name,
            use,
            node.info,
            call,
            after=self._before(node),
            spec=item_spec(items, max_parallel=over.max_parallel, skip_errors=over.skip_errors),
            options={StepOption.SPREAD: list(over.spread)} if over.spread else None,
        )
        if not isinstance(over.items, str):
            self.bound_items[index] = over.items
        elif items is None:
            self.slots.append(InputSlot(over.items, items_of=index))
        return index

    def _reduce(self, node: DAGNode, use: TaskUse, over: ReduceOver, name: str) -> int:
        values = self._source(over.items)
        assert values is not None, "an input is taken apart only where maps alone take it"
        bound = self._bound(node)
        (parameter,) = _item_parameters(use, over, node.info)
        bound.pop(parameter, None)
        use = replace(use, param_name=parameter)
        how = over.how
        if how.length is None:
            how = replace(how, length=self._length(over.items))
        return add_reduction(self.builder, name, use, node.info, values, how, named=bound)

    def _length(self, datum: str) -> int | None:
        """How many elements a datum has, where the definition alone says so."""
        producer = self.dag.producer_of(datum)
        each = None if producer is None else producer.metadata.get(USE)
        over = each.over if isinstance(each, GraphUse) else None
        if not isinstance(over, MapOver) or over.skip_errors:
            return None
        return None if isinstance(over.items, str) else len(over.items)

    def _bound(self, node: DAGNode) -> dict[str, Binding]:
        bound: dict[str, Binding] = {}
        for parameter, data, _ in node.info.bindings:
            source = self._source(data)
            if source is not None:
                bound[parameter] = source
        return bound

    def _source(self, datum: str) -> Source | None:
        """Where a datum comes from; None if it is not given, or given as the items of maps."""
        known = self.sources.get(datum)
        if known is not None:
            return known
        number = self.numbers.get(datum)
        return None if number is None else Source(input_key(number))

    def _before(self, node: DAGNode) -> list[int]:
        return [self.places[each] for each in node.dependencies]

    def _is_only_mapped(self, datum: str) -> bool:
        """Say whether an input is nothing but the items of one map, so is stored as those."""
        readers = self.dag.consumers_of(datum)
        if len(readers) != 1:
            return False
        each = readers[0].metadata.get(USE)
        if not isinstance(each, GraphUse) or not isinstance(each.over, MapOver):
            return False
        uses = [b for b in readers[0].info.bindings if b.data == datum]
        return each.over.items == datum and len(uses) == 1


def _node_info(each: GraphUse, *, context_by_name: bool) -> TaskInfo:
    """What a node takes and gives: of a map or reduce task, the whole lists."""
    info = each.use.read(context_by_name=context_by_name)
    if each.output is not None:
        info = replace(info, outputs=(each.output,), multiple_outputs=False, output_types={})
    fixed = set(each.use.kwargs)
    bindings = [b for b in info.bindings if b.parameter not in fixed]
    if each.over is None:
        return replace(info, bindings=tuple(bindings))
    taken = _item_parameters(each.use, each.over, info)
    bindings = [b for b in bindings if b.parameter not in taken]
    if isinstance(each.over.items, str):
        bindings.insert(0, InputBinding(taken[0], each.over.items, is_required=True))
    if isinstance(each.over, ReduceOver):
        return replace(info, bindings=tuple(bindings))
    parameters = dict(info.parameters)
    for name in set(taken).intersection(parameters):
        # The annotation is that of one item.
        parameters[name] = replace(parameters[name], annotation=MISSING)
    if info.multiple_outputs:
        info = replace(info, outputs=(info.name,), multiple_outputs=False, output_types={})
    returns = list_of(returned_type(info))
    return replace(info, bindings=tuple(bindings), parameters=parameters, return_annotation=returns)


def _item_parameters(use: TaskUse, over: MapOver | ReduceOver, info: TaskInfo) -> tuple[str, ...]:
    """The parameters that receive an item or its parts, or the list to be reduced."""
    if isinstance(over, MapOver) and over.spread:
        return over.spread
    if use.param_name is not None:
        return (use.param_name,)
    free = [name for name in info.parameters if name not in use.kwargs]
    if not free:
        why = "it has no free parameter for the items; name one, param_name=..."
        raise BadArgumentsError(info.name, use.task_name, why)
    return (free[0],)


def _chosen(dag: DAG, given: Inputs | None) -> list[str]:
    required = dag.external_inputs
    if given is None:
        return required
    return [*required, *(name for name in dag.optional_inputs if name in given)]


def _required(use: TaskUse | None) -> TaskUse:
    assert use is not None, "a node of a graph that no pipeline made comes with its use"
    return use


_HINT = "pass {name}= when the run is started"
