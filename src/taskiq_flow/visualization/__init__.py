"""Pictures of a graph, as text, Mermaid, Graphviz, SVG and JSON; and what can be read off it."""

from taskiq_flow.visualization.ascii import render_ascii
from taskiq_flow.visualization.dag_visualizer import DAGVisualizer, print_ascii, visualize_pipeline
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
