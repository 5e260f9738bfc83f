"""The graph of a dataflow: nodes that are linked by the data they exchange."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import TextIO, TypeAlias

from taskiq_flow import visualization
from taskiq_flow.dataflow.node import DAGNode
from taskiq_flow.dataflow.signature import AnyTask
from taskiq_flow.exceptions import (
    CycleError,
    DuplicateOutputError,
    EmptyGraphError,
    TaskNotFoundError,
)
from taskiq_flow.visualization.levels import Ordering, find_cycle, put_in_order
from taskiq_flow.visualization.notebook import Shown

__all__ = ["DAG", "DAGNode", "Edge", "EdgeSet"]

Edge: TypeAlias = tuple[DAGNode, DAGNode]


class EdgeSet(AbstractSet[Edge]):
    """A set of (from, to) pairs that iterates in the order in which they were added."""

    def __init__(self, edges: Iterable[Edge] = ()) -> None:
        self._edges = dict.fromkeys(edges)

    def __contains__(self, edge: object) -> bool:
        return edge in self._edges

    def __iter__(self) -> Iterator[Edge]:
        return iter(self._edges)

    def __len__(self) -> int:
        return len(self._edges)

    def __getitem__(self, index: int) -> Edge:
        return list(self._edges)[index]

    def __repr__(self) -> str:
        pairs = ", ".join(f"{source.name} → {target.name}" for source, target in self)
        return f"EdgeSet({{{pairs}}})"


class DAG(Shown):
    """A graph of tasks; adding a node links it to those that write or read its data.

    Cycles are found when an order is asked for, not before, so that nodes may come in any order.
    Every listing is deterministic: it follows the order in which nodes were added.
    """

    def __init__(self, nodes: Iterable[DAGNode] = ()) -> None:
        self._nodes: dict[DAGNode, int] = {}
        self._edges: dict[Edge, list[str]] = {}
        self._writers: dict[str, DAGNode] = {}
        self._readers: dict[str, list[DAGNode]] = {}
        self._names: set[str] = set()
        self._uses: dict[str, int] = {}
        self._ordering: Ordering | None = None
        for node in nodes:
            self.add_node(node)

    def add_node(self, node: DAGNode) -> DAGNode:
        """Add a node and link it by its data; the second of one name becomes ``name#2``.

        Raises:
            DuplicateOutputError: Another node writes one of its outputs.
        """
        for output in node.info.outputs:
            if output in self._writers:
                raise DuplicateOutputError(output, self._writers[output].name, node.name)
        node.name = self._unique(node.name)
        self._nodes[node] = len(self._nodes)
        self._ordering = None
        needed = set(node.info.inputs)
        for name in dict.fromkeys((*node.info.inputs, *node.info.optional_inputs)):
            if name in node.info.outputs and name not in needed:
                continue  # an optional input of its own output's name is no dependency
            self._readers.setdefault(name, []).append(node)
            if name in self._writers:
                self._link(self._writers[name], node, name)
        for output in node.info.outputs:
            self._writers[output] = node
            for reader in self._readers.get(output, ()):
                self._link(node, reader, output)
        return node

    def add_edge(self, source: DAGNode | AnyTask, target: DAGNode | AnyTask) -> None:
        """Make one node wait for another without taking data from it.

        Raises:
            TaskNotFoundError: One of them is not in this graph.
        """
        self._link(self.get_node(source), self.get_node(target), None)

    def get_node(self, key: DAGNode | AnyTask) -> DAGNode:
        """Return the node that is this node, has this task or name, or writes this output.

        Raises:
            TaskNotFoundError: There is none.
        """
        if isinstance(key, DAGNode) and key in self._nodes:
            return key
        if isinstance(key, str) and key in self._writers:
            return self._writers[key]
        for node in self._nodes:
            if node.task is key or (isinstance(key, str) and key in {node.name, node.task_name}):
                return node
        raise TaskNotFoundError(key if isinstance(key, str) else repr(key))

    @property
    def nodes(self) -> list[DAGNode]:
        return list(self._nodes)

    @property
    def edges(self) -> EdgeSet:
        return EdgeSet(self._edges)

    @property
    def roots(self) -> list[DAGNode]:
        return [node for node in self._nodes if not node.dependencies]

    @property
    def leaves(self) -> list[DAGNode]:
        return [node for node in self._nodes if not node.dependents]

    @property
    def levels(self) -> list[list[DAGNode]]:
        """The nodes by the longest path that leads to them; those of one level are independent."""
        return self.compute_levels()

    @property
    def outputs(self) -> list[str]:
        """Every datum that a node writes, in topological order."""
        return [output for node in self.topological_sort() for output in node.info.outputs]

    @property
    def external_inputs(self) -> list[str]:
        """The data that a run has to be given, in the order in which nodes ask for them."""
        return self._external(node.info.inputs for node in self._nodes)

    @property
    def optional_inputs(self) -> list[str]:
        """The data that a run may be given; each node that takes them has a default."""
        needed = set(self.external_inputs)
        every = self._external(node.info.optional_inputs for node in self._nodes)
        return [name for name in every if name not in needed]

    def producer_of(self, name: str) -> DAGNode | None:
        """Return the node that writes this datum; None for external ones."""
        return self._writers.get(name)

    def consumers_of(self, name: str) -> list[DAGNode]:
        return list(self._readers.get(name, ()))

    def topological_sort(self) -> list[DAGNode]:
        """Return the nodes so that each follows what it needs, else as they were added.

        Raises:
            CycleError: Nodes need each other.
        """
        nodes = self.nodes
        return [nodes[index] for index in self._order().order]

    def compute_levels(self) -> list[list[DAGNode]]:
        """Return the nodes by level, and set each node's ``level``.

        Raises:
            CycleError: Nodes need each other.
        """
        ordering = self._order()
        levels: list[list[DAGNode]] = [[] for _ in range(ordering.height)]
        for node, index in self._nodes.items():
            levels[ordering.level[index]].append(node)
        return levels

    def get_parallel_levels(self) -> list[list[DAGNode]]:
        """Return the levels; nodes of one level could run at the same time."""
        return self.compute_levels()

    def get_ready_tasks(self, completed: Collection[DAGNode]) -> list[DAGNode]:
        """Return the nodes that have not completed and whose dependencies all have."""
        done = set(completed)
        return [
            node
            for node in self._nodes
            if node not in done and all(needed in done for needed in node.dependencies)
        ]

    def validate(self) -> None:
        """Check that the graph can run.

        Raises:
            EmptyGraphError: It has no nodes.
            CycleError: Nodes need each other.
        """
        if not self._nodes:
            raise EmptyGraphError
        self._order()

    def to_view(self, title: str = "") -> visualization.GraphView:
        """Return the graph as what every drawing of this package takes; cycles are drawn too."""
        nodes = tuple(
            visualization.NodeView(
                id=node.name,
                label=node.name,
                detail=_detail(node),
                inputs=tuple(dict.fromkeys((*node.inputs, *self._taken_optional(node)))),
                outputs=node.info.outputs,
                task_name=node.task_name,
            )
            for node in self._nodes
        )
        edges = tuple(
            visualization.EdgeView(source.name, target.name, ", ".join(data))
            for (source, target), data in self._edges.items()
        )
        return visualization.GraphView(title, nodes, edges)

    def print(self, file: TextIO | None = None) -> None:
        """Write the graph as text: its levels, and what each node depends on."""
        visualization.print_ascii(self, file)

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, node: object) -> bool:
        return node in self._nodes

    def __repr__(self) -> str:
        return f"DAG({len(self._nodes)} nodes, {len(self._edges)} edges)"

    def _order(self) -> Ordering:
        if self._ordering is None:
            pairs = [(self._nodes[a], self._nodes[b]) for a, b in self._edges]
            ordering = put_in_order(len(self._nodes), pairs)
            if not ordering.is_complete:
                nodes = self.nodes
                raise CycleError([nodes[i].name for i in find_cycle(ordering, pairs)])
            for node, index in self._nodes.items():
                node.level = ordering.level[index]
            self._ordering = ordering
        return self._ordering

    def _link(self, source: DAGNode, target: DAGNode, data: str | None) -> None:
        edge = (source, target)
        if edge not in self._edges:
            self._edges[edge] = []
            source.dependents.append(target)
            target.dependencies.append(source)
            self._ordering = None
        if data is not None:
            self._edges[edge].append(data)

    def _unique(self, name: str) -> str:
        use = self._uses.get(name, 0) + 1
        while (candidate := name if use == 1 else f"{name}#{use}") in self._names:
            use += 1
        self._uses[name] = use
        self._names.add(candidate)
        return candidate

    def _external(self, inputs: Iterable[Iterable[str]]) -> list[str]:
        names = dict.fromkeys(name for group in inputs for name in group)
        return [name for name in names if name not in self._writers]

    def _taken_optional(self, node: DAGNode) -> list[str]:
        return [
            name
            for name in node.info.optional_inputs
            if self._writers.get(name) not in {None, node}
        ]


def _detail(node: DAGNode) -> str:
    names = node.info.outputs
    return "" if names == (node.name,) else f"→ {', '.join(names)}"
