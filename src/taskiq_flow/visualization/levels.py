"""The order of a directed graph: which node may come after which, and on what level."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Ordering:
    """Nodes in topological order, and the longest path that leads to each.

    Nodes on a cycle, or behind one, are not in ``order``; their level is one below all others.
    """

    order: tuple[int, ...]
    level: tuple[int, ...]
    height: int

    @property
    def is_complete(self) -> bool:
        return len(self.order) == len(self.level)


def put_in_order(count: int, edges: Iterable[Pair]) -> Ordering:
    """Order the nodes 0 to ``count - 1``; of those that are free, the lowest number goes first.

    Takes time in proportion to nodes and edges, but for the logarithm of choosing the lowest.
    """
    successors: list[list[int]] = [[] for _ in range(count)]
    waits_for = [0] * count
    for source, target in edges:
        successors[source].append(target)
        waits_for[target] += 1
    free = [node for node in range(count) if not waits_for[node]]
    order: list[int] = []
    level = [0] * count
    while free:
        node = heapq.heappop(free)
        order.append(node)
        for target in successors[node]:
            level[target] = max(level[target], level[node] + 1)
            waits_for[target] -= 1
            if not waits_for[target]:
                heapq.heappush(free, target)
    height = 1 + max((level[node] for node in order), default=-1)
    if len(order) < count:
        placed = set(order)
        level = [level[node] if node in placed else height for node in range(count)]
        height += 1
    return Ordering(tuple(order), tuple(level), height)


def find_cycle(ordering: Ordering, edges: Iterable[Pair]) -> list[int]:
    """Return one cycle as a walk along its edges, the first node repeated at the end.

    Empty when there is none. It starts at the cycle's lowest node.
    """
    placed = set(ordering.order)
    predecessor: dict[int, int] = {}
    for source, target in edges:
        # What could not be placed always waits for something that could not be placed either.
        if source not in placed and target not in placed:
            predecessor[target] = min(source, predecessor.get(target, source))
    if not predecessor:
        return []
    walk = [min(predecessor)]
    seen = {walk[0]: 0}
    while predecessor[walk[-1]] not in seen:
        seen[predecessor[walk[-1]]] = len(walk)
        walk.append(predecessor[walk[-1]])
    cycle = walk[seen[predecessor[walk[-1]]] :][::-1]
    start = cycle.index(min(cycle))
    return [*cycle[start:], *cycle[: start + 1]]
