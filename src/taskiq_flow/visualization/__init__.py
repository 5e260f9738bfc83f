"""Pictures of a graph, as text, Mermaid, Graphviz, SVG and JSON; and what can be read off it."""

from typing import TYPE_CHECKING

from taskiq_flow.first_use import loading

if TYPE_CHECKING:
    from taskiq_flow.visualization.ascii import render_ascii
    from taskiq_flow.visualization.dag_visualizer import (
        DAGVisualizer,
        print_ascii,
        visualize_pipeline,
    )
    from taskiq_flow.visualization.dot import render_dot
    from taskiq_flow.visualization.mermaid import MermaidGenerator
    from taskiq_flow.visualization.model import Drawable, EdgeView, GraphView, NodeView, view_of
    from taskiq_flow.visualization.notebook import Shown
    from taskiq_flow.visualization.renderers import (
        RendererRegistry,
        get_renderer_registry,
        set_renderer_registry,
    )
    from taskiq_flow.visualization.svg import render_svg

__all__ = [
    "DAGVisualizer",
    "Drawable",
    "EdgeView",
    "GraphView",
    "MermaidGenerator",
    "NodeView",
    "RendererRegistry",
    "Shown",
    "get_renderer_registry",
    "print_ascii",
    "render_ascii",
    "render_dot",
    "render_svg",
    "set_renderer_registry",
    "view_of",
    "visualize_pipeline",
]

if not TYPE_CHECKING:  # with a `__getattr__`, a checker would let any name pass
    __getattr__, __dir__ = loading(
        __name__,
        {
            "DAGVisualizer": "taskiq_flow.visualization.dag_visualizer",
            "Drawable": "taskiq_flow.visualization.model",
            "EdgeView": "taskiq_flow.visualization.model",
            "GraphView": "taskiq_flow.visualization.model",
            "MermaidGenerator": "taskiq_flow.visualization.mermaid",
            "NodeView": "taskiq_flow.visualization.model",
            "RendererRegistry": "taskiq_flow.visualization.renderers",
            "Shown": "taskiq_flow.visualization.notebook",
            "get_renderer_registry": "taskiq_flow.visualization.renderers",
            "print_ascii": "taskiq_flow.visualization.dag_visualizer",
            "render_ascii": "taskiq_flow.visualization.ascii",
            "render_dot": "taskiq_flow.visualization.dot",
            "render_svg": "taskiq_flow.visualization.svg",
            "set_renderer_registry": "taskiq_flow.visualization.renderers",
            "view_of": "taskiq_flow.visualization.model",
            "visualize_pipeline": "taskiq_flow.visualization.dag_visualizer",
        },
    )
