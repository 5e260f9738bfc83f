"""Where the nodes of a drawing go."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskiq_flow.visualization import layout
from taskiq_flow.visualization.layout import Layers, arrange, place
from taskiq_flow.visualization.levels import Pair, put_in_order


def arranged(count: int, edges: list[Pair]) -> Layers:
    return arrange(put_in_order(count, edges), edges)


def crossings(layers: Layers) -> int:
    position = {slot: index for level in layers.levels for index, slot in enumerate(level)}
    level_of = {slot: n for n, level in enumerate(layers.levels) for slot in level}
    links = [(level_of[a], position[a], position[b]) for a, b in layers.links()]
    return sum(
        a[0] == b[0] and (a[1] - b[1]) * (a[2] - b[2]) < 0
        for index, a in enumerate(links)
        for b in links[:index]
    )


def test_a_long_edge_passes_through_a_lane_in_every_level_between() -> None:
    layers = arranged(4, [(0, 1), (1, 2), (2, 3), (0, 3)])

    assert layers.routes[3] == [0, 4, 5, 3]
    assert [sorted(level) for level in layers.levels] == [[0], [1, 4], [2, 5], [3]]


def test_nodes_are_ordered_so_that_edges_need_not_cross() -> None:
    crossed = arranged(6, [(0, 5), (1, 4), (2, 3)])

    assert crossed.levels == [[0, 1, 2], [5, 4, 3]]
    assert crossings(crossed) == 0


def test_too_many_lanes_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MAX_LANES", 3)
    chain = [(n, n + 1) for n in range(9)]

    layers = arranged(10, [*chain, (0, 3), (0, 9)])

    assert sum(map(len, layers.levels)) == 12
    assert layers.routes[-1] == [0, 9]


def test_a_single_node_stays_beside_its_only_neighbour() -> None:
    layers = arranged(4, [(0, 1), (0, 2), (0, 3)])

    centres = place(layers, [10.0] * 4, gap=2, lane_gap=2)

    assert centres[0] == centres[2] == 17
    assert sorted(centres[1:]) == [5, 17, 29]


def test_a_node_moves_to_the_middle_of_what_follows_it() -> None:
    layers = arranged(6, [(0, 2), (1, 3), (1, 4), (1, 5)])

    centres = place(layers, [10.0] * 6, gap=2, lane_gap=2)

    assert centres[1] == pytest.approx(centres[4])
    assert centres[0] == pytest.approx(centres[2])


@st.composite
def acyclic(draw: st.DrawFn) -> tuple[int, list[Pair]]:
    count = draw(st.integers(1, 9))
    pairs = [(a, b) for b in range(count) for a in range(b)]
    return count, draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []


@given(acyclic())
def test_slots_of_a_level_never_overlap(drawn: tuple[int, list[Pair]]) -> None:
    layers = arranged(*drawn)
    slots = sum(map(len, layers.levels))
    sizes = [20.0 if slot < drawn[0] else 4.0 for slot in range(slots)]

    centres = place(layers, sizes, gap=5, lane_gap=3)

    assert min(centres[s] - sizes[s] / 2 for s in range(slots)) == pytest.approx(0)
    for level in layers.levels:
        for above, below in pairwise(level):
            room = (sizes[above] + sizes[below]) / 2 + 3
            assert centres[below] - centres[above] >= room - 1e-6
