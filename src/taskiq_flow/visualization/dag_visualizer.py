"""All drawings and exports of a graph in one place."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TextIO, TypeVar, overload

from taskiq_flow.visualization.ascii import render_ascii
from taskiq_flow.visualization.dot import render_dot
from taskiq_flow.visualization.export import (
    detect_critical_path,
    find_parallelizable_groups,
    to_cytoscape_json,
    to_json,
    to_json_extended,
)
from taskiq_flow.visualization.model import Drawable, GraphView, view_of
from taskiq_flow.visualization.networkx import to_networkx
from taskiq_flow.visualization.renderers import get_renderer_registry, render_mermaid
from taskiq_flow.visualization.svg import render_svg

P = ParamSpec("P")
R = TypeVar("R")


class _EitherWay(Generic[P, R]):
    """A method that is called on a visualizer, or on the class with a graph as first argument."""

    def __init__(self, render: Callable[Concatenate[Drawable, P], R]) -> None:
        self._render = render

    @overload
    def __get__(
        self, instance: None, owner: type[DAGVisualizer]
    ) -> Callable[Concatenate[Drawable, P], R]: ...
    @overload
    def __get__(self, instance: DAGVisualizer, owner: type[DAGVisualizer]) -> Callable[P, R]: ...
    def __get__(self, instance: DAGVisualizer | None, owner: type[DAGVisualizer]) -> Any:
        return self._render if instance is None else functools.partial(self._render, instance.view)


def print_ascii(graph: Drawable, file: TextIO | None = None) -> None:
    """Write the graph as text, in plain ASCII where the file's encoding has no lines to draw."""
    out = file or sys.stdout
    text = render_ascii(graph)
    try:
        text.encode(out.encoding or "utf-8")
    except UnicodeEncodeError:
        text = render_ascii(graph, unicode=False)
    out.write(f"{text}\n")


class DAGVisualizer:
    """Draws and exports one graph: whatever has a ``to_view()``, so plans and pipelines too.

    ``DAGVisualizer(dag).to_json()`` and ``DAGVisualizer.to_json(dag)`` are the same.
    """

    def __init__(self, dag: Drawable) -> None:
        self.view: GraphView = view_of(dag)

    to_json = _EitherWay(to_json)
    to_json_extended = _EitherWay(to_json_extended)
    to_cytoscape_json = _EitherWay(to_cytoscape_json)
    to_networkx = _EitherWay(to_networkx)
    to_dot = _EitherWay(render_dot)
    to_graphviz = _EitherWay(render_dot)
    to_mermaid = _EitherWay(render_mermaid)
    to_svg = _EitherWay(render_svg)
    visualize_ascii = _EitherWay(render_ascii)
    print_ascii = _EitherWay(print_ascii)
    detect_critical_path = _EitherWay(detect_critical_path)
    find_parallelizable_groups = _EitherWay(find_parallelizable_groups)


@overload
def visualize_pipeline(pipeline: Drawable, as_: Literal["json"] = "json") -> dict[str, Any]: ...
@overload
def visualize_pipeline(
    pipeline: Drawable, as_: Literal["ascii", "dot", "mermaid", "svg"]
) -> str: ...
@overload
def visualize_pipeline(pipeline: Drawable, as_: str) -> Any: ...
def visualize_pipeline(pipeline: Drawable, as_: str = "json") -> Any:
    """Return the picture of a pipeline, by default as JSON values.

    Further kinds are added to the registry, see `RendererRegistry`.

    Raises:
        UnknownPictureError: There is no such kind of picture.
    """
    return get_renderer_registry().render(as_, pipeline)
