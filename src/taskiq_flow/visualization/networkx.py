"""A graph as one of NetworkX, for those who have it installed."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from typing import Any

from taskiq_flow.exceptions import MissingExtraError
from taskiq_flow.visualization.model import Drawable, view_of


def to_networkx(graph: Drawable) -> Any:
    """Return a ``networkx.DiGraph`` whose nodes and edges have the fields of the view.

    Raises:
        MissingExtraError: NetworkX is not installed.
    """
    try:
        networkx = importlib.import_module("networkx")
    except ImportError as error:
        raise MissingExtraError("DAGVisualizer.to_networkx", "networkx", "networkx") from error
    view = view_of(graph)
    result = networkx.DiGraph(title=view.title)
    for node in view.nodes:
        fields = asdict(node)
        result.add_node(fields.pop("id"), **fields)
    for edge in view.edges:
        result.add_edge(edge.source, edge.target, label=edge.label)
    return result
