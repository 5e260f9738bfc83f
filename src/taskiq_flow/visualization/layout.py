"""Where the nodes of a layered drawing go, and through which lanes its long edges pass."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from taskiq_flow.visualization.levels import Ordering, Pair

MAX_LANES = 20_000
"""An edge over several levels has a lane in each; beyond this many, edges are drawn straight."""


@dataclass(frozen=True, slots=True)
class Layers:
    """Slots by level, in order. Slots below ``nodes`` are nodes, the others lanes of edges.

    ``routes`` has for each edge the slots through which it goes, its two nodes included.
    """

    nodes: int
    levels: list[list[int]]
    routes: list[list[int]]

    def links(self) -> list[Pair]:
        """Return the pairs of neighbouring slots of all routes."""
        return [pair for route in self.routes for pair in itertools.pairwise(route)]


def arrange(ordering: Ordering, edges: Sequence[Pair]) -> Layers:
    """Give every edge its lanes, then order each level by two barycentre sweeps."""
    count = len(ordering.level)
    levels: list[list[int]] = [[] for _ in range(ordering.height)]
    for node in range(count):
        levels[ordering.level[node]].append(node)
    routes: list[list[int]] = []
    slots = count
    for source, target in edges:
        between = range(ordering.level[source] + 1, ordering.level[target])
        if slots - count + len(between) > MAX_LANES:
            between = range(0)
        route = [source]
        for level in between:
            levels[level].append(slots)
            route.append(slots)
            slots += 1
        routes.append([*route, target])
    layers = Layers(count, levels, routes)
    _sweep(layers, slots)
    return layers


def place(layers: Layers, sizes: Sequence[float], *, gap: float, lane_gap: float) -> list[float]:
    """Return the centre of each slot across the levels, the topmost edge at 0.

    Every level is moved as near to the middle of its neighbours as its order allows: once
    downstream, once upstream, and once more downstream.
    """
    before, after = _neighbours(layers, len(sizes))
    centres = [0.0] * len(sizes)
    gaps = [gap if slot < layers.nodes else lane_gap for slot in range(len(sizes))]
    for level in layers.levels:
        _pack(level, [0.0] * len(level), sizes, gaps, centres)
    for levels, near in (
        (layers.levels, before),
        (layers.levels[::-1], after),
        (layers.levels, before),
    ):
        for level in levels:
            wishes = [_mean([centres[s] for s in near[slot]], centres[slot]) for slot in level]
            _pack(level, wishes, sizes, gaps, centres)
    top = min((centres[s] - sizes[s] / 2 for level in layers.levels for s in level), default=0.0)
    return [centre - top for centre in centres]


def _sweep(layers: Layers, slots: int) -> None:
    before, after = _neighbours(layers, slots)
    position = [0.0] * slots
    for level in layers.levels:
        for index, slot in enumerate(level):
            position[slot] = float(index)
    for levels, near in ((layers.levels, before), (layers.levels[::-1], after)):
        for level in levels:
            wish = {s: _mean([position[n] for n in near[s]], position[s]) for s in level}
            level.sort(key=wish.__getitem__)
            for index, slot in enumerate(level):
                position[slot] = float(index)


def _neighbours(layers: Layers, slots: int) -> tuple[list[list[int]], list[list[int]]]:
    before: list[list[int]] = [[] for _ in range(slots)]
    after: list[list[int]] = [[] for _ in range(slots)]
    for source, target in layers.links():
        after[source].append(target)
        before[target].append(source)
    return before, after


def _pack(
    level: Sequence[int],
    wishes: Sequence[float],
    sizes: Sequence[float],
    gaps: Sequence[float],
    centres: list[float],
) -> None:
    """Put a level's slots as near to their wishes as they go without overlapping.

    Least squares under an order: neighbours that would overlap join into a block, and a block
    sits at the mean of its members' wishes.
    """
    offsets: list[float] = []
    at = 0.0
    for index, slot in enumerate(level):
        if index:
            previous = level[index - 1]
            at += (sizes[previous] + sizes[slot]) / 2 + min(gaps[previous], gaps[slot])
        offsets.append(at)
    blocks: list[tuple[float, int]] = []
    for wish, offset in zip(wishes, offsets, strict=True):
        total, members = wish - offset, 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / members:
            earlier = blocks.pop()
            total, members = total + earlier[0], members + earlier[1]
        blocks.append((total, members))
    index = 0
    for total, members in blocks:
        for _ in range(members):
            centres[level[index]] = total / members + offsets[index]
            index += 1


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
