"""A graph as a Mermaid flowchart."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Literal, TypeAlias

from taskiq_flow.visualization.model import Drawable, GraphView, NodeView, status_word, view_of

Orientation: TypeAlias = Literal["TB", "TD", "BT", "LR", "RL"]


class MermaidGenerator:
    """Writes Mermaid for one graph. Names are data: none of them is read as Mermaid or HTML."""

    def __init__(self, dag: Drawable) -> None:
        self._view = view_of(dag)

    def to_mermaid(self, orientation: Orientation = "TB") -> str:
        """Return a plain flowchart."""
        return "\n".join(_flowchart(self._view, orientation))

    def to_mermaid_with_styling(self, orientation: Orientation = "LR") -> str:
        """Return a flowchart whose nodes are coloured.

        By status where there is one, else by place: ``start``, ``step`` or ``output``.
        """
        lines = list(_flowchart(self._view, orientation))
        classes = _classes(self._view)
        lines += [
            f"    classDef {name} {style}" for name, style in _STYLES.items() if name in classes
        ]
        for name in dict.fromkeys(classes):
            members = ",".join(f"n{index}" for index, own in enumerate(classes) if own == name)
            lines.append(f"    class {members} {name}")
        return "\n".join(lines)

    def to_mermaid_interactive(self, orientation: Orientation = "LR") -> str:
        """Return HTML with the styled flowchart and a script that tells which node was clicked.

        The page brings its own Mermaid, as ``window.mermaid``; nothing is loaded from elsewhere.
        A click on a node sends a ``taskiq-flow:node`` event that has the node's id as ``detail``.
        """
        diagram = html.escape(self.to_mermaid_with_styling(orientation))
        ids = "".join(
            f'<li data-node="n{index}">{html.escape(node.id)}</li>'
            for index, node in enumerate(self._view.nodes)
        )
        return (
            f'<div class="taskiq-flow-mermaid">\n<pre class="mermaid">\n{diagram}\n</pre>\n'
            f"<ul hidden>{ids}</ul>\n<script>{_SCRIPT}</script>\n</div>"
        )


def _flowchart(view: GraphView, orientation: Orientation) -> Iterator[str]:
    yield f"flowchart {orientation}"
    for index, node in enumerate(view.nodes):
        left, right = _SHAPES.get(node.kind, ('["', '"]'))
        yield f"    n{index}{left}{_text(_caption(node))}{right}"
    number = {node.id: index for index, node in enumerate(view.nodes)}
    for edge in view.edges:
        if edge.source in number and edge.target in number:
            label = f'|"{_text(edge.label)}"|' if edge.label else ""
            yield f"    n{number[edge.source]} -->{label} n{number[edge.target]}"


def _caption(node: NodeView) -> str:
    return node.label if node.kind == "task" else f"{node.label} ({node.kind})"


def _text(text: str) -> str:
    """Write text so that Mermaid shows it; it reads ``#number;`` as the character."""
    return "".join(c if c.isalnum() or c in " _-.,:()" else f"#{ord(c)};" for c in text)


def _classes(view: GraphView) -> list[str]:
    """Return the class of each node: its status, else where it stands."""
    sources = {edge.source for edge in view.edges}
    targets = {edge.target for edge in view.edges}
    return [
        status_word(node)
        or ("output" if node.id not in sources else "step" if node.id in targets else "start")
        for node in view.nodes
    ]


_SHAPES = {
    "map": ('[["', '"]]'),
    "filter": ('[["', '"]]'),
    "pipeline": ('[["', '"]]'),
    "branch": ('{"', '"}'),
    "condition": ('{"', '"}'),
    "timer": ('(["', '"])'),
    "sleep": ('(["', '"])'),
    "event": ('{{"', '"}}'),
}
_STYLES = {
    "start": "fill:#eef4ff,stroke:#0a66c9,color:#15171c",
    "step": "fill:#ffffff,stroke:#656d7b,color:#15171c",
    "output": "fill:#edf7f1,stroke:#137a48,color:#15171c",
    "pending": "fill:#ffffff,stroke:#656d7b,color:#474e5c,stroke-dasharray:4 3",
    "running": "fill:#eef4ff,stroke:#0a66c9,color:#0a66c9",
    "completed": "fill:#edf7f1,stroke:#137a48,color:#137a48",
    "failed": "fill:#fbeeee,stroke:#bb1e29,color:#bb1e29",
    "cancelled": "fill:#f1f2f5,stroke:#55606f,color:#55606f",
    "skipped": "fill:#ffffff,stroke:#6a6690,color:#6a6690,stroke-dasharray:4 3",
    "retrying": "fill:#fdf5e9,stroke:#96570a,color:#96570a",
    "event": "fill:#f9eefb,stroke:#9030a8,color:#9030a8",
}
_SCRIPT = """
(() => {
  const box = document.currentScript.parentElement;
  const id = (n) => box.querySelector(`li[data-node="${n}"]`)?.textContent;
  box.addEventListener("click", (event) => {
    const node = /-(n\\d+)-\\d+$/.exec(event.target.closest(".node")?.id ?? "");
    if (node) {
      box.dispatchEvent(
        new CustomEvent("taskiq-flow:node", { bubbles: true, detail: id(node[1]) }));
    }
  });
  window.mermaid?.run({ nodes: [box.querySelector("pre.mermaid")] });
})();
"""
