"""The kinds of pictures that `visualize_pipeline` knows, and how more are added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from taskiq_flow.exceptions import UnknownPictureError
from taskiq_flow.visualization.ascii import render_ascii
from taskiq_flow.visualization.dot import render_dot
from taskiq_flow.visualization.export import to_json
from taskiq_flow.visualization.mermaid import MermaidGenerator, Orientation
from taskiq_flow.visualization.model import Drawable, GraphView, view_of
from taskiq_flow.visualization.svg import render_svg

Renderer: TypeAlias = Callable[[GraphView], Any]


def render_mermaid(graph: Drawable, orientation: Orientation = "TB") -> str:
    """Return a Mermaid flowchart."""
    return MermaidGenerator(graph).to_mermaid(orientation)


class RendererRegistry:
    """Renderers by the kind of picture that they draw; begins with those of this package."""

    def __init__(self) -> None:
        self._renderers: dict[str, Renderer] = {
            "json": to_json,
            "ascii": render_ascii,
            "dot": render_dot,
            "mermaid": render_mermaid,
            "svg": render_svg,
        }

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self._renderers)

    def register_renderer(self, kind: str, render: Renderer) -> None:
        """Draw a kind of picture by this function from now on; it is given a `GraphView`."""
        self._renderers[kind] = render

    def render(self, kind: str, graph: Drawable) -> Any:
        """Draw a graph.

        Raises:
            UnknownPictureError: There is no renderer of this kind.
        """
        if kind not in self._renderers:
            raise UnknownPictureError(kind, self.kinds)
        return self._renderers[kind](view_of(graph))


def get_renderer_registry() -> RendererRegistry:
    """The registry that `visualize_pipeline` uses in this process."""
    return _used[-1]


def set_renderer_registry(registry: RendererRegistry | None) -> None:
    """Use another registry in this process; None goes back to the first one."""
    del _used[1:]
    if registry is not None:
        _used.append(registry)


_used = [RendererRegistry()]
