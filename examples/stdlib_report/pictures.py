"""Draws the report's pictures as SVG, whose colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeVar

from examples.stdlib_report.summary import FilePoint, is_test, package_of

SHADES = (4, 8, 12, 16, 20, 24)
"""Decisions per 100 lines of code at which the next darker shade of the map begins."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the picture, in its own units."""

    x: float
    y: float
    width: float
    height: float

    def within(self, margin: float, top: float) -> Box:
        """The room left inside a margin and below a heading."""
        return Box(
            self.x + margin,
            self.y + margin + top,
            max(0.0, self.width - 2 * margin),
            max(0.0, self.height - 2 * margin - top),
        )

    def attributes(self) -> str:
        return (
            f'x="{self.x:.1f}" y="{self.y:.1f}" '
            f'width="{max(0.0, self.width):.1f}" height="{max(0.0, self.height):.1f}"'
        )


# --- the map of all files ---------------------------------------------------------------------


def treemap(points: Iterable[FilePoint], width: int = 1160, height: int = 580) -> str:
    """Every file as a rectangle, by packages: its size is its code, its shade how it branches."""
    packages: defaultdict[str, list[FilePoint]] = defaultdict(list)
    for point in points:
        if point.code:
            packages[package_of(point.path)].append(point)
    parts = [
        _package(name, box, packages[name])
        for name, box in squarify(
            packages,
            lambda name: sum(each.code for each in packages[name]),
            Box(0, 0, width, height),
        )
    ]
    return _svg("map", width, height, "Map of all files by package, size and branching", parts)


def _package(name: str, box: Box, files: Iterable[FilePoint]) -> str:
    has_heading = box.width > 7 * len(name) + 8 and box.height > 34
    inner = box.within(1.5, 16 if has_heading else 0)
    parts = [f'<rect class="pack" {box.within(0.5, 0).attributes()} rx="3"/>']
    if has_heading:
        parts.append(f'<text class="pack-name" x="{box.x + 6:.1f}" y="{box.y + 13:.1f}">')
        parts.append(f"{escape(name)}</text>")
    parts += [_file(point, place) for point, place in squarify(files, _code, inner)]
    return "".join(parts)


def _file(point: FilePoint, box: Box) -> str:
    density = 100 * point.decisions / point.code
    shade = sum(density >= start for start in SHADES)
    title = f"{point.path}: {point.code:,} lines of code, {point.decisions:,} decisions"
    rect = f'<rect class="d{shade}" {box.within(0.35, 0).attributes()} rx="1.2"/>'
    label = ""
    name = point.path.rpartition("/")[2].removesuffix(".py")
    if box.width > 5.5 * len(name) + 7 and box.height > 14:
        label = f'<text class="on{shade}" x="{box.x + 4:.1f}" y="{box.y + 11.5:.1f}">'
        label += f"{escape(name)}</text>"
    return f"<g><title>{escape(title)}</title>{rect}{label}</g>"


def _code(point: FilePoint) -> int:
    return point.code


def squarify(things: Iterable[T], weigh: Callable[[T], float], box: Box) -> list[tuple[T, Box]]:
    """Divide a box among things by weight, in pieces as square as may be, the largest first.

    Rows are laid along the shorter side; a thing joins the row while that makes the row's worst
    piece no longer (Bruls, Huizing and van Wijk, 2000).
    """
    left = sorted(((thing, float(weigh(thing))) for thing in things), key=lambda each: -each[1])
    left = [each for each in left if each[1] > 0]
    weight = sum(each[1] for each in left)
    if not weight or box.width <= 0 or box.height <= 0:
        return []
    scale = box.width * box.height / weight
    areas = [(thing, size * scale) for thing, size in left]
    placed: list[tuple[T, Box]] = []
    start = 0
    while start < len(areas):
        side = min(box.width, box.height)
        end, total = start + 1, areas[start][1]
        worst = _worst(areas[start][1], areas[start][1], total, side)
        while end < len(areas):
            longer = _worst(areas[start][1], areas[end][1], total + areas[end][1], side)
            if longer > worst:
                break
            worst, total, end = longer, total + areas[end][1], end + 1
        box = _lay_row(areas[start:end], total, box, placed)
        start = end
    return placed


def _worst(largest: float, smallest: float, total: float, side: float) -> float:
    """How many times longer than wide the worst piece of a row would be."""
    if side <= 0:
        return math.inf
    return max(side * side * largest / total**2, total**2 / (side * side * smallest))


def _lay_row(
    row: Sequence[tuple[T, float]], total: float, box: Box, placed: list[tuple[T, Box]]
) -> Box:
    """Place a row along the shorter side of a box, and return what is left of it."""
    upright = box.width >= box.height
    depth = total / max(1e-9, box.height if upright else box.width)
    along = box.y if upright else box.x
    for thing, area in row:
        length = area / max(1e-9, depth)
        piece = Box(box.x, along, depth, length) if upright else Box(along, box.y, length, depth)
        placed.append((thing, piece))
        along += length
    if upright:
        return Box(box.x + depth, box.y, box.width - depth, box.height)
    return Box(box.x, box.y + depth, box.width, box.height - depth)


# --- size against branching -------------------------------------------------------------------

_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 14, 12, 36
_NO_DECISION = 0.4  # where 0 stands on the logarithmic scale


def scatter(points: Sequence[FilePoint], width: int = 560, height: int = 400) -> str:
    """Every file as a point: lines of code against decisions, both logarithmic."""
    seen = [point for point in points if point.code]
    most_code = max((point.code for point in seen), default=1)
    most_decisions = max((point.decisions for point in seen), default=1)
    across = _Scale(0.8, most_code * 1.5, _LEFT, width - _RIGHT)
    upward = _Scale(_NO_DECISION * 0.8, max(10, most_decisions) * 1.6, height - _BOTTOM, _TOP)
    parts = [
        *_grid(across, upward, width, height),
        _guide(across, upward, width),
        # Tests first: the library is drawn over them.
        *(_point(point, across, upward) for point in seen if is_test(point.path)),
        *(_point(point, across, upward) for point in seen if not is_test(point.path)),
        *_names_of_extremes([p for p in seen if not is_test(p.path)], across, upward),
    ]
    return _svg("scatter", width, height, "Lines of code against decisions, by file", parts)


@dataclass(frozen=True, slots=True)
class _Scale:
    """A logarithmic scale from values to places."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[int]:
        return [10**power for power in range(7) if self.low <= 10**power <= self.high]


def _grid(across: _Scale, upward: _Scale, width: int, height: int) -> list[str]:
    floor = height - _BOTTOM
    parts: list[str] = []
    for value in across.ticks():
        x = across(value)
        parts.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{floor}"/>')
        parts.append(f'<text class="tick mid" x="{x:.1f}" y="{floor + 16}">{value:,}</text>')
    for value, text in [(_NO_DECISION, "0"), *((v, f"{v:,}") for v in upward.ticks())]:
        y = upward(value)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{width - _RIGHT}"/>')
        parts.append(f'<text class="tick end" x="{_LEFT - 6}" y="{y + 3.5:.1f}">{text}</text>')
    middle = (_LEFT + width - _RIGHT) / 2
    parts.append(f'<text class="axis mid" x="{middle}" y="{height - 4}">lines of code</text>')
    parts.append(f'<text class="axis" x="{_LEFT + 4}" y="{_TOP + 8}">decisions</text>')
    return parts


def _guide(across: _Scale, upward: _Scale, width: int) -> str:
    """The line on which one line of code in ten decides something."""
    first, last = 10.0, min(across.high, upward.high * 10)
    x1, y1, x2, y2 = across(first), upward(first / 10), across(last), upward(last / 10)
    return (
        f'<path class="guide" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'
        f'<text class="guide-name" x="{min(x2, width - _RIGHT) - 4:.1f}" y="{y2 + 16:.1f}">'
        "1 in 10 lines</text>"
    )


def _point(point: FilePoint, across: _Scale, upward: _Scale) -> str:
    x, y = across(point.code), upward(max(point.decisions, _NO_DECISION))
    kind = "test" if is_test(point.path) else "lib"
    title = f"{point.path}: {point.code:,} lines of code, {point.decisions:,} decisions"
    return (
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="2.6">'
        f"<title>{escape(title)}</title></circle>"
    )


def _names_of_extremes(points: Sequence[FilePoint], across: _Scale, upward: _Scale) -> list[str]:
    """Names for the files that branch most, where there is room for them."""
    parts: list[str] = []
    taken: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda each: -each.decisions)[:12]:
        x, y = across(point.code), upward(point.decisions)
        if any(abs(y - other) < 11 and abs(x - beside) < 150 for beside, other in taken):
            continue
        taken.append((x, y))
        name = escape(point.path.removesuffix(".py"))
        # To the left, where the files are fewer: above the cloud.
        parts.append(f'<text class="name end" x="{x - 6:.1f}" y="{y - 3:.1f}">{name}</text>')
    return parts


def _svg(name: str, width: int, height: int, label: str, parts: Iterable[str]) -> str:
    return (
        f'<svg class="{name}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )
