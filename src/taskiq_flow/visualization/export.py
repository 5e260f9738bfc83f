"""A graph as plain data, and what can be read off it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskiq_flow.visualization.model import Drawable, NodeView, view_of


def to_json(graph: Drawable) -> dict[str, Any]:
    """Return the graph as JSON values; ids are the names of nodes.

    A graph with a cycle has ``is_cyclic`` set, and its ``topological_order`` lacks what stands on
    the cycle or behind it.
    """
    view = view_of(graph)
    ordering = view.ordering()
    return {
        "title": view.title,
        "nodes": [_node(node, ordering.level[index]) for index, node in enumerate(view.nodes)],
        "edges": [
            {
                "from": edge.source,
                "to": edge.target,
                "source": edge.source,
                "target": edge.target,
                "label": edge.label,
            }
            for edge in view.edges
        ],
        "levels": find_parallelizable_groups(view),
        "topological_order": [view.nodes[index].id for index in ordering.order],
        "is_cyclic": not ordering.is_complete,
    }


def to_json_extended(graph: Drawable) -> dict[str, Any]:
    """Return what `to_json` does, with counts, roots, leaves and the critical path."""
    view = view_of(graph)
    data = to_json(view)
    sources = {edge.source for edge in view.edges}
    targets = {edge.target for edge in view.edges}
    return {
        **data,
        "node_count": len(view.nodes),
        "edge_count": len(view.edges),
        "level_count": len(data["levels"]),
        "roots": [node.id for node in view.nodes if node.id not in targets],
        "leaves": [node.id for node in view.nodes if node.id not in sources],
        "critical_path": detect_critical_path(view),
        "parallel_groups": data["levels"],
    }


def to_cytoscape_json(graph: Drawable) -> dict[str, Any]:
    """Return the elements that Cytoscape.js takes."""
    data = to_json(graph)
    return {
        "nodes": [{"data": node} for node in data["nodes"]],
        "edges": [
            {"data": {"id": f"edge-{index}", **edge}} for index, edge in enumerate(data["edges"])
        ],
    }


def find_parallelizable_groups(graph: Drawable) -> list[list[str]]:
    """Return the ids of nodes level by level; those of one level could run at the same time."""
    return [[node.id for node in level] for level in view_of(graph).levels()]


def detect_critical_path(
    graph: Drawable, durations: Mapping[str, float] | None = None
) -> list[str]:
    """Return the ids along the longest path, which bounds the time of a run from below.

    Nodes count 1 each, or their duration by id (0 for those that are not named). Of equally long
    paths, the one of more nodes is returned, then the one whose nodes stand first in the graph.
    """
    view = view_of(graph)
    before: list[list[int]] = [[] for _ in view.nodes]
    for source, target in view.pairs():
        before[target].append(source)
    length: dict[int, tuple[float, int, int]] = {}
    previous: dict[int, int] = {}
    for node in view.ordering().order:
        weight = 1.0 if durations is None else durations.get(view.nodes[node].id, 0.0)
        time, hops = 0.0, 0
        if before[node]:
            previous[node] = max(before[node], key=length.__getitem__)
            time, hops, _ = length[previous[node]]
        length[node] = (time + weight, hops + 1, -node)
    if not length:
        return []
    path = [max(length, key=length.__getitem__)]
    while path[-1] in previous:
        path.append(previous[path[-1]])
    return [view.nodes[index].id for index in reversed(path)]


def _node(node: NodeView, level: int) -> dict[str, Any]:
    return {
        "id": node.id,
        "label": node.label,
        "kind": node.kind,
        "status": node.status,
        "detail": node.detail,
        "task_name": node.task_name,
        "inputs": list(node.inputs),
        "outputs": list(node.outputs),
        "level": level,
    }
