"""The neutral picture of a graph, into which every kind of pipeline turns itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from taskiq_flow.visualization.levels import Ordering, Pair, put_in_order


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node as it is drawn.

    ``id`` is unique in its graph. ``status`` is a status word of a step, None where nothing runs;
    ``detail`` is one short line of text below the name.
    """

    id: str
    label: str
    kind: str = "task"
    status: str | None = None
    detail: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    task_name: str = ""


@dataclass(frozen=True, slots=True)
class EdgeView:
    """An edge between the ids of two nodes; its label names the data that goes along it."""

    source: str
    target: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class GraphView:
    """A graph as it is drawn. Edges from or to an id that no node has are not drawn."""

    title: str = ""
    nodes: tuple[NodeView, ...] = ()
    edges: tuple[EdgeView, ...] = ()

    def pairs(self) -> list[Pair]:
        """Return the edges as positions of their nodes."""
        position = {node.id: index for index, node in enumerate(self.nodes)}
        return [
            (position[edge.source], position[edge.target])
            for edge in self.edges
            if edge.source in position and edge.target in position
        ]

    def ordering(self) -> Ordering:
        return put_in_order(len(self.nodes), self.pairs())

    def levels(self) -> list[list[NodeView]]:
        """Return the nodes by the longest path that leads to them, as given within a level."""
        ordering = self.ordering()
        levels: list[list[NodeView]] = [[] for _ in range(ordering.height)]
        for index, node in enumerate(self.nodes):
            levels[ordering.level[index]].append(node)
        return levels


class HasView(Protocol):
    """What can be drawn: a graph, a plan, a pipeline."""

    def to_view(self) -> GraphView: ...


Drawable: TypeAlias = HasView | GraphView


def view_of(graph: Drawable) -> GraphView:
    """Return the picture of anything that can be drawn."""
    return graph if isinstance(graph, GraphView) else graph.to_view()


def status_word(node: NodeView) -> str | None:
    """Return a node's status as the lower-case word that styles go by."""
    if node.status is None:
        return None
    word = node.status.lower()
    return word if word in STATUS_WORDS else "pending"


STATUS_WORDS = (
    "pending",
    "running",
    "completed",
    "failed",
    "cancelled",
    "skipped",
    "retrying",
    "event",
)
"""A step that waits or is ready is drawn as pending."""
