"""A graph as one self-contained SVG, in the looks of the dashboard, light and dark."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from taskiq_flow.visualization.layout import Layers, arrange, place
from taskiq_flow.visualization.model import Drawable, GraphView, NodeView, status_word, view_of
from taskiq_flow.visualization.svg_style import ICONS, STYLE

MAX_NAME = 30
"""Letters of a name or detail that are shown; the whole of it is in the node's title."""

_MARGIN = 16.0
_LEVEL_GAP = 56.0
_NODE_GAP = 12.0
_LETTER = 7.2  # the width of a letter of the 12 px monospace font, so that nothing is measured
_SMALL_LETTER = 6.0
_TALL, _LOW = 55.0, 38.0  # boxes with and without a second line
_LANE = 4.0
_ARROW = 6.5


def render_svg(
    graph: Drawable,
    *,
    with_style: bool = True,
    link: Callable[[NodeView], str | None] | None = None,
) -> str:
    """Draw a graph from left to right, a level by the longest path to it.

    Colours follow the reader's light or dark scheme. Without the style sheet, for a page whose
    policy forbids inline styles, the classes are those of the dashboard. ``link`` returns the
    address that a node leads to.
    """
    view = view_of(graph)
    picture = _Picture.of(view)
    name = escape(_legal(view.title)) or "pipeline"
    count = f"{len(view.nodes)} step{'' if len(view.nodes) == 1 else 's'}"
    body = [*picture.edges(), *(picture.node(index, link) for index in range(len(view.nodes)))]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="graph taskiq-flow" role="group" '
        f'aria-label="Graph of {name}, {count}" width="{picture.width:.0f}" '
        f'height="{picture.height:.0f}" '
        f'viewBox="0 0 {picture.width:.0f} {picture.height:.0f}">'
        f"{f'<style>{STYLE}</style>' if with_style else ''}{''.join(body)}</svg>"
    )


@dataclass(frozen=True, slots=True)
class _Picture:
    view: GraphView
    layers: Layers
    left: list[float]  # of each level
    level: list[int]  # of each slot
    widths: list[float]  # of each level: its widest node
    heights: list[float]  # of each slot
    middle: list[float]  # of each slot

    @classmethod
    def of(cls, view: GraphView) -> _Picture:
        ordering = view.ordering()
        layers = arrange(ordering, list(dict.fromkeys(view.pairs())))
        slots = sum(len(level) for level in layers.levels)
        level = [0] * slots
        for number, members in enumerate(layers.levels):
            for slot in members:
                level[slot] = number
        heights = [_height(node) for node in view.nodes] + [_LANE] * (slots - len(view.nodes))
        middle = [
            _MARGIN + centre for centre in place(layers, heights, gap=_NODE_GAP, lane_gap=_NODE_GAP)
        ]
        widths = [
            max((_width(view.nodes[s]) for s in members if s < layers.nodes), default=0.0)
            for members in layers.levels
        ]
        left: list[float] = []
        at = _MARGIN
        for width in widths:
            left.append(at)
            at += width + _LEVEL_GAP
        return cls(view, layers, left, level, widths, heights, middle)

    @property
    def width(self) -> float:
        return (self.left[-1] + self.widths[-1] if self.left else _MARGIN) + _MARGIN

    @property
    def height(self) -> float:
        lowest = max(
            (m + h / 2 for m, h in zip(self.middle, self.heights, strict=True)), default=_MARGIN
        )
        return lowest + _MARGIN

    def edges(self) -> list[str]:
        """Return the edges, drawn before the nodes, which lie above them."""
        leaving, entering = self._ports()
        drawn: list[str] = []
        for index, route in enumerate(self.layers.routes):
            source, target = route[0], route[-1]
            x = self.left[self.level[source]] + self.widths[self.level[source]]
            y = leaving[index]
            path = f"M{x:.1f} {y:.1f}"
            for slot in route[1:-1]:
                start = self.left[self.level[slot]]
                path += _curve(x, y, start, self.middle[slot])
                x, y = start + self.widths[self.level[slot]], self.middle[slot]
                path += f"H{x:.1f}"
            end = self.left[self.level[target]] - _ARROW
            path += _curve(x, y, end, entering[index])
            style = _edge_class(self.view.nodes[source], self.view.nodes[target])
            drawn.append(
                f'<path class="edge{style}" d="{path}"/><path class="arrow{style}" '
                f'd="M{end + _ARROW:.1f} {entering[index]:.1f}l-{_ARROW} -3.5v7z"/>'
            )
        return drawn

    def _ports(self) -> tuple[list[float], list[float]]:
        """Spread the ends of each node's edges by where they lead, so that they do not cross."""
        routes = self.layers.routes
        leaving, entering = [0.0] * len(routes), [0.0] * len(routes)
        for ports, node_at, next_at in ((leaving, 0, 1), (entering, -1, -2)):
            of_node: dict[int, list[int]] = {}
            for index, route in enumerate(routes):
                of_node.setdefault(route[node_at], []).append(index)
            for node, indices in of_node.items():
                indices.sort(key=lambda i: self.middle[routes[i][next_at]])
                room = self.heights[node] - 16
                step = min(14.0, room / max(1, len(indices) - 1))
                top = self.middle[node] - step * (len(indices) - 1) / 2
                for place_, index in enumerate(indices):
                    ports[index] = top + step * place_
        return leaving, entering

    def node(self, index: int, link: Callable[[NodeView], str | None] | None) -> str:
        node = self.view.nodes[index]
        status = status_word(node)
        x, width = self.left[self.level[index]], self.widths[self.level[index]]
        height = self.heights[index]
        y = self.middle[index] - height / 2
        indent = 34 if status else 13
        said = escape(_legal(", ".join(p for p in (node.label, status, node.detail) if p)))
        parts = [
            f'<title>{said}</title><rect class="box" x="{x:.1f}" y="{y:.1f}" '
            f'width="{width:.1f}" height="{height:.1f}" rx="8"/>'
        ]
        if status:
            parts.append(
                f'<svg class="st-icon is-{status}" x="{x + 12:.1f}" y="{y + 12:.1f}" width="15" '
                f'height="15" viewBox="0 0 16 16">{ICONS[status]}</svg>'
            )
        parts.append(_line("node-name", x + indent, y + 23.5, node.label))
        if node.kind != "task":
            kind = _short(node.kind)
            parts.append(
                f'<text class="node-badge" x="{x + width - 12:.1f}" y="{y + 23.5:.1f}" '
                f'text-anchor="end">{escape(_legal(kind))}</text>'
            )
        if node.detail:
            hot = " hot" if status in {"running", "failed", "retrying", "event"} else ""
            parts.append(_line(f"node-line{hot}", x + indent, y + 41.5, node.detail))
        classes = f"node is-{status}" if status else "node"
        address = link(node) if link else None
        if address is None:
            return f'<g class="{classes}" role="img" aria-label="{said}">{"".join(parts)}</g>'
        href = escape(_legal(address))
        return f'<a class="{classes}" href="{href}" aria-label="{said}">{"".join(parts)}</a>'


def _height(node: NodeView) -> float:
    return _TALL if node.detail else _LOW


def _width(node: NodeView) -> float:
    indent = 34 if node.status else 13
    badge = 0.0 if node.kind == "task" else _LETTER * (len(_short(node.kind)) + 1)
    first = _LETTER * len(_short(node.label)) + badge
    return max(96.0, indent + max(first, _SMALL_LETTER * len(_short(node.detail))) + 13)


def _line(classes: str, x: float, y: float, text: str) -> str:
    shown = escape(_legal(_short(text)))
    return f'<text class="{classes}" x="{x:.1f}" y="{y:.1f}">{shown}</text>'


def _short(text: str) -> str:
    return text if len(text) <= MAX_NAME else f"{text[: MAX_NAME - 1]}…"


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    half = (x + to_x) / 2
    return f"C{half:.1f} {y:.1f} {half:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"


def _edge_class(source: NodeView, target: NodeView) -> str:
    """Say what goes along an edge: taken, being taken, cut by a failure, or nothing yet."""
    given, taken = status_word(source), status_word(target)
    if given is None and taken is None:
        return ""
    has_begun = taken not in {"pending", "skipped", "cancelled"}
    if given == "failed" and not has_begun:
        return " cut"
    if given not in {"completed", "failed"} or not has_begun:
        return " idle"
    return " flow" if taken == "running" else " done"


def _legal(text: str) -> str:
    """Replace what XML has no way to say: control characters and lone surrogates."""
    return _ILLEGAL.sub("\ufffd", text)


_ILLEGAL = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
