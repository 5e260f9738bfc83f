"""Lays out the graph of a run as boxes and curves, of which a template makes SVG; pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from taskiq_flow.dashboard.pictures.grouping import Grouped, Part, group
from taskiq_flow.dashboard.pictures.heat import Shade, shades, spread
from taskiq_flow.dashboard.words import amount, is_hot, many, step_line, step_word, visible
from taskiq_flow.model.records import StepStatus
from taskiq_flow.operations.models import EdgeState, GraphNode, RunGraph
from taskiq_flow.visualization.layout import Layers, arrange, place
from taskiq_flow.visualization.levels import put_in_order

LIST_MOST = 400
"""A graph of which more nodes would be shown is shown as a list, unless it is asked for."""

NAME_MOST = 26
_LINE_ROOM = 23
"""So many letters of a node's second line have room at least: its width never changes with them."""

_MARGIN = 16.0
_LEVEL_GAP, _NODE_GAP = 54.0, 12.0
_LETTER, _SMALL_LETTER, _BADGE_LETTER = 7.2, 5.5, 6.2
_BESIDE_NAME = 63.0
"""What stands beside a name in a box: its icon, and the edges of its badge."""

_TALL, _MAP_TALL, _GROUP_TALL, _LANE = 55.0, 135.0, 66.0, 4.0
_MAP_WIDE, _GROUP_WIDE, _NARROWEST = 212.0, 212.0, 132.0
_ARROW = 5.0

_ORDER = ("failed", "retrying", "running", "event", "pending", "cancelled", "skipped", "completed")
_EDGE_CLASS = {
    EdgeState.TAKEN: "done",
    EdgeState.FLOWING: "flow",
    EdgeState.WAITING: "idle",
    EdgeState.CUT: "cut",
}
# What an edge between groups shows: the liveliest of what it stands for.
_EDGE_RANK = ("flow", "cut", "idle", "done")


@dataclass(frozen=True, slots=True)
class Box:
    """A step or a group of steps, where it is drawn; ``said`` is all of it in words.

    ``shares`` are the parts of a group's bar: class, start and width in per cent.
    """

    key: str
    word: str
    name: str
    line: str
    is_hot: bool
    said: str
    x: float
    y: float
    width: float
    height: float
    step: GraphNode | None = None
    badge: str = ""
    group: Part | None = None
    fraction: float | None = None
    heat: tuple[Shade, ...] = ()
    foot: tuple[str, ...] = ()
    shares: tuple[tuple[str, float, float], ...] = ()

    @property
    def is_map(self) -> bool:
        return bool(self.heat)


@dataclass(frozen=True, slots=True)
class Curve:
    """An edge: its path, the point of its arrow, and the class that says what goes along it."""

    key: str
    style: str
    path: str
    tip_x: float
    tip_y: float


@dataclass(frozen=True, slots=True)
class Picture:
    """A graph as it is drawn; ``mini`` is the small map: word, x, y of each icon."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    curves: tuple[Curve, ...]
    mini: MiniMap


@dataclass(frozen=True, slots=True)
class MiniMap:
    """The graph for narrow screens: icons without names."""

    width: float
    height: float
    icons: tuple[tuple[str, float, float], ...]
    curves: tuple[tuple[str, str], ...]


def group_graph(graph: RunGraph, wanted: frozenset[str] | None = None) -> Grouped:
    """Choose what is shown of a graph; ``wanted`` are the groups that a reader has opened."""
    by_name = {node.step.name: node for node in graph.nodes}

    def worth(part: Part) -> int:
        words = {step_word(by_name[name].step) for name in part.steps}
        return 2 if words & {"failed", "retrying"} else int("running" in words)

    return group(
        {node.step.name: node.step.task for node in graph.nodes},
        [(edge.source, edge.target) for edge in graph.edges],
        wanted=wanted,
        worth=worth,
    )


def draw(graph: RunGraph, now: datetime, grouped: Grouped | None = None) -> Picture:
    """Lay a graph out from left to right, in the groups that `group_graph` has made of it."""
    grouped = grouped or group_graph(graph)
    by_name = {node.step.name: node for node in graph.nodes}
    number = {part.key: index for index, part in enumerate(grouped.parts)}
    pairs = [(number[source], number[target]) for source, target in grouped.edges]
    ordering = put_in_order(len(grouped.parts), pairs)
    layers = arrange(ordering, pairs)
    sizes = [_size(part, by_name) for part in grouped.parts]
    slots = sum(len(level) for level in layers.levels)
    level_of = [0] * slots
    for index, members in enumerate(layers.levels):
        for slot in members:
            level_of[slot] = index
    heights = [height for _, height in sizes] + [_LANE] * (slots - len(sizes))
    middles = [
        _MARGIN + middle for middle in place(layers, heights, gap=_NODE_GAP, lane_gap=_NODE_GAP)
    ]
    widths = [
        max((sizes[slot][0] for slot in members if slot < len(sizes)), default=0.0)
        for members in layers.levels
    ]
    lefts: list[float] = []
    at = _MARGIN
    for width in widths:
        lefts.append(at)
        at += width + _LEVEL_GAP
    boxes: list[Box] = []
    for index, part in enumerate(grouped.parts):
        width, height = widths[level_of[index]], sizes[index][1]
        corner = lefts[level_of[index]], middles[index] - height / 2, width, height
        boxes.append(_box(part, by_name, corner, now))
    curves = _curves(_Laid(layers, level_of, lefts, widths, heights, middles), grouped, graph)
    return Picture(
        width=at - _LEVEL_GAP + _MARGIN if widths else 2 * _MARGIN,
        height=max((m + h / 2 for m, h in zip(middles, heights, strict=True)), default=0) + _MARGIN,
        boxes=tuple(boxes),
        curves=curves,
        mini=_mini(boxes, layers, level_of, middles, curves),
    )


def counted(words: Sequence[str]) -> str:
    """Statuses and how many there are of each: ``1 running, 1 failed``, the worst first."""
    counts = Counter(words)
    names = {"event": "waiting for an event"}
    return ", ".join(f"{amount(counts[word])} {names.get(word, word)}" for word in _ORDER
                     if counts[word])  # fmt: skip


# --- boxes ------------------------------------------------------------------------------------


def _size(part: Part, by_name: Mapping[str, GraphNode]) -> tuple[float, float]:
    if part.is_group:
        return _GROUP_WIDE, _GROUP_TALL
    node = by_name[part.key]
    if node.step.is_map and node.step.items_total:
        return _MAP_WIDE, _MAP_TALL
    badge = len(_badge(node))
    letters = min(len(node.step.name), NAME_MOST) + (badge and badge + 2)
    return max(_NARROWEST, 46 + _LETTER * letters, 46 + _SMALL_LETTER * _LINE_ROOM), _TALL


def _badge(node: GraphNode) -> str:
    if node.step.is_map:
        return "map"
    return "" if node.view.kind == "task" else short(visible(node.view.kind), 10)


def _box(
    part: Part,
    by_name: Mapping[str, GraphNode],
    corner: tuple[float, float, float, float],
    now: datetime,
) -> Box:
    x, y, width, height = (round(value, 1) for value in corner)
    if part.is_group:
        return _group_box(part, by_name, (x, y, width, height))
    node = by_name[part.key]
    step = node.step
    word, line = step_word(step), step_line(step, now)
    name = visible(step.name, 200)
    heat: tuple[Shade, ...] = ()
    foot: tuple[str, ...] = ()
    said = f"{name}, {word}, {visible(line, 100)}"
    if step.is_map and step.items_total:
        total, done = step.items_total, step.items_done
        is_live = not step.status.is_final
        at_work = step.status is StepStatus.RUNNING
        cells = spread(total=total, done=done, failed=step.items_failed, is_live=at_work)
        heat = tuple(shades(cells, x=x + 12, y=y + 70, is_live=is_live))
        foot = tuple(
            text
            for text in (
                f"{amount(max(0, total - done))} to go" if is_live else line,
                f"{amount(step.items_failed)} failed" if step.items_failed else "",
            )
            if text
        )
        said = f"{name}, {word}, {amount(done)} of {amount(total)} items"
    return Box(
        key=step.name,
        word=word,
        name=short(name, NAME_MOST),
        line=short(visible(line, 200), max(12, int((width - 46) / _SMALL_LETTER))),
        is_hot=is_hot(step),
        said=said,
        x=x,
        y=y,
        width=width,
        height=height,
        step=node,
        badge=_badge(node),
        fraction=node.fraction,
        heat=heat,
        foot=foot,
    )


def _group_box(
    part: Part,
    by_name: Mapping[str, GraphNode],
    corner: tuple[float, float, float, float],
) -> Box:
    words = [step_word(by_name[name].step) for name in part.steps]
    counts = Counter(words)
    word = next(one for one in _ORDER if counts[one])
    line = counted(words)
    kinds = [kind.rpartition(":")[2] for kind in part.kind.split(" … ")]
    kind = visible(" … ".join(dict.fromkeys((kinds[0], kinds[-1]))), 200)
    badge = f"\u00d7\u2009{amount(len(words))}"
    first, last = visible(part.steps[0], 100), visible(part.steps[-1], 100)
    shares: list[tuple[str, float, float]] = []
    start = 0.0
    for one in ("completed", "skipped", "cancelled", "failed", "retrying", "running", "event"):
        if counts[one]:
            share = 100 * counts[one] / len(words)
            shares.append((one, round(start, 2), round(share, 2)))
            start += share
    x, y, width, height = corner
    return Box(
        key=part.key,
        word=word,
        name=short(kind, int((width - _BESIDE_NAME - _BADGE_LETTER * len(badge)) / _LETTER)),
        line=short(line, 32),
        is_hot=word in {"failed", "retrying", "event"},
        said=f"Group of {many(len(words), 'step')} from {first} to {last}: {line}. Opens.",
        x=x,
        y=y,
        width=width,
        height=height,
        badge=badge,
        group=part,
        shares=tuple(shares),
    )


def short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


# --- edges ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Laid:
    layers: Layers
    level: list[int]
    left: list[float]
    width: list[float]
    heights: list[float]
    middle: list[float]


def _curves(laid: _Laid, grouped: Grouped, graph: RunGraph) -> tuple[Curve, ...]:
    styles = _styles(grouped, graph)
    leaving, entering = _ports(laid)
    drawn: list[Curve] = []
    for index, route in enumerate(laid.layers.routes):
        x = laid.left[laid.level[route[0]]] + laid.width[laid.level[route[0]]] + 0.5
        y = leaving[index]
        path = f"M{x:.1f} {y:.1f}"
        for slot in route[1:-1]:
            start = laid.left[laid.level[slot]]
            path += _bend(x, y, start, laid.middle[slot])
            x, y = start + laid.width[laid.level[slot]], laid.middle[slot]
            path += f"H{x:.1f}"
        tip = laid.left[laid.level[route[-1]]]
        path += _bend(x, y, tip - _ARROW, entering[index])
        edge = grouped.edges[index]
        drawn.append(
            Curve(
                f"{edge[0]}>{edge[1]}", styles[edge], path, round(tip, 1), round(entering[index], 1)
            )
        )
    return tuple(drawn)


def _styles(grouped: Grouped, graph: RunGraph) -> dict[tuple[str, str], str]:
    """What goes along each shown edge: the liveliest of the edges that it stands for."""
    shown = {step: part.key for part in grouped.parts for step in part.steps}
    found: dict[tuple[str, str], str] = {}
    for edge in graph.edges:
        pair = shown[edge.source], shown[edge.target]
        style = _EDGE_CLASS[edge.state]
        known = found.get(pair, style)
        found[pair] = min(style, known, key=_EDGE_RANK.index)
    return found


def _ports(laid: _Laid) -> tuple[list[float], list[float]]:
    """Spread the ends of each node's edges by where they lead, so that they do not cross."""
    routes = laid.layers.routes
    leaving, entering = [0.0] * len(routes), [0.0] * len(routes)
    for ports, here, there in ((leaving, 0, 1), (entering, -1, -2)):
        of_node: defaultdict[int, list[int]] = defaultdict(list)
        for index, route in enumerate(routes):
            of_node[route[here]].append(index)
        for node, edges in of_node.items():
            edges.sort(key=lambda edge: laid.middle[routes[edge][there]])
            gap = min(14.0, (laid.heights[node] - 18) / max(1, len(edges) - 1))
            first = laid.middle[node] - gap * (len(edges) - 1) / 2
            for position, edge in enumerate(edges):
                ports[edge] = first + gap * position
    return leaving, entering


def _bend(x: float, y: float, to_x: float, to_y: float) -> str:
    half = (x + to_x) / 2
    return f"C{half:.1f} {y:.1f} {half:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"


def _mini(
    boxes: Sequence[Box],
    layers: Layers,
    level_of: Sequence[int],
    middles: Sequence[float],
    curves: Sequence[Curve],
) -> MiniMap:
    """The same layout in a third of the room: an icon for each box."""
    levels = len(layers.levels)
    across = max(34.0, min(73.0, 306 / max(1, levels - 1)))
    down = 0.34

    def at(slot: int) -> tuple[float, float]:
        return round(20 + level_of[slot] * across, 1), round(4 + middles[slot] * down, 1)

    paths: list[tuple[str, str]] = []
    for curve, route in zip(curves, layers.routes, strict=True):
        x, y = at(route[0])
        path = f"M{x + 11:.0f} {y:.0f}"
        for position, slot in enumerate(route[1:], 1):
            to_x, to_y = at(slot)
            end = to_x - 11 if position == len(route) - 1 else to_x
            path += _bend(x + (11 if position == 1 else 0), y, end, to_y)
            x, y = to_x, to_y
        paths.append((curve.style, path))
    icons = tuple((box.word, *at(index)) for index, box in enumerate(boxes))
    height = max((y for _, _, y in icons), default=0.0) + 22
    return MiniMap(max(343.0, 40 + (levels - 1) * across), height, icons, tuple(paths))
