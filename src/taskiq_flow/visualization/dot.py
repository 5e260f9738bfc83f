"""A graph in the language of Graphviz."""

from __future__ import annotations

import re

from taskiq_flow.visualization.model import Drawable, NodeView, status_word, view_of
from taskiq_flow.visualization.svg_style import LIGHT


def render_dot(graph: Drawable, *, orientation: str = "LR") -> str:
    """Return a ``digraph``. A name that is more than a word and its marks stands in labels only."""
    view = view_of(graph)
    ids = {node.id: _id(node.id, index) for index, node in enumerate(view.nodes)}
    lines = [
        f"digraph {_quoted(view.title or 'pipeline')} {{",
        f"  rankdir={_quoted(orientation)};",
        '  node [shape=box, style=rounded, fontname="Helvetica"];',
    ]
    lines += [f"  {ids[node.id]} [{_attributes(node)}];" for node in view.nodes]
    for edge in view.edges:
        if edge.source in ids and edge.target in ids:
            label = f" [label={_quoted(edge.label)}]" if edge.label else ""
            lines.append(f"  {ids[edge.source]} -> {ids[edge.target]}{label};")
    return "\n".join([*lines, "}"])


def _attributes(node: NodeView) -> str:
    caption = node.label if node.kind == "task" else f"{node.label}\n({node.kind})"
    text = f"{caption}\n{node.detail}" if node.detail else caption
    colour = LIGHT.get(status_word(node) or "")
    colours = f', color="{colour}", fontcolor="{colour}"' if colour else ""
    return f"label={_quoted(text)}{colours}"


def _id(name: str, index: int) -> str:
    # The space keeps made-up ids apart from names.
    return f'"{name}"' if re.fullmatch(r"[\w.:#-]+", name) else f'"node {index}"'


def _quoted(text: str) -> str:
    shown = "".join(c if c.isprintable() or c == "\n" else "�" for c in text)
    escaped = shown.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
