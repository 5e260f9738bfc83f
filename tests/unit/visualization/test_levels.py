"""The order of a directed graph."""

import pytest

from taskiq_flow.visualization.levels import Pair, find_cycle, put_in_order


def test_the_lowest_free_node_goes_first() -> None:
    ordering = put_in_order(4, [(3, 0), (3, 1)])

    assert ordering.order == (2, 3, 0, 1)
    assert ordering.level == (1, 1, 0, 0)
    assert ordering.height == 2
    assert ordering.is_complete


def test_nothing_has_no_height() -> None:
    assert put_in_order(0, []).height == 0
    assert put_in_order(0, []).is_complete


def test_what_stands_on_or_behind_a_cycle_is_below_all_others() -> None:
    edges = [(0, 1), (1, 2), (2, 1), (2, 3)]

    ordering = put_in_order(5, edges)

    assert ordering.order == (0, 4)
    assert ordering.level == (0, 1, 1, 1, 0)
    assert ordering.height == 2
    assert not ordering.is_complete


@pytest.mark.parametrize(
    ("edges", "cycle"),
    [
        ([], []),
        ([(0, 1), (1, 2)], []),
        ([(1, 1)], [1, 1]),
        ([(2, 0), (0, 1), (1, 2), (2, 3)], [0, 1, 2, 0]),
        ([(0, 3), (3, 2), (2, 3), (2, 1)], [2, 3, 2]),
    ],
)
def test_a_cycle_is_found_from_its_lowest_node(edges: list[Pair], cycle: list[int]) -> None:
    assert find_cycle(put_in_order(4, edges), edges) == cycle
