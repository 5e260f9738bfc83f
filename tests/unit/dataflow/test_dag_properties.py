"""Orders, levels and cycles of random graphs."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from taskiq_flow.dataflow import DAG, DAGNode
from taskiq_flow.exceptions import CycleError


def step(**data): ...


@st.composite
def graphs(draw: st.DrawFn, *, acyclic: bool) -> list[set[int]]:
    """What each node needs; numbers of nodes are shuffled, so that order of adding is no hint."""
    count = draw(st.integers(1, 12))
    rank = draw(st.permutations(range(count)))
    needs: list[set[int]] = []
    for node in range(count):
        allowed = [n for n in range(count) if not acyclic or rank[n] < rank[node]]
        needs.append(draw(st.sets(st.sampled_from(allowed), max_size=4)) if allowed else set())
    return needs


def build(needs: list[set[int]]) -> DAG:
    return DAG(
        DAGNode(step, output=f"o{n}", inputs=[f"o{m}" for m in sorted(needed)])
        for n, needed in enumerate(needs)
    )


def reachable(needs: list[set[int]], start: int) -> set[int]:
    found: set[int] = set()
    stack = list(needs[start])
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(needs[node])
    return found


@given(graphs(acyclic=True))
def test_every_node_follows_what_it_needs(needs: list[set[int]]) -> None:
    graph = build(needs)
    nodes = graph.nodes

    order = graph.topological_sort()

    position = {node: index for index, node in enumerate(order)}
    assert sorted(position[n] for n in nodes) == list(range(len(needs)))
    for n, needed in enumerate(needs):
        assert all(position[nodes[m]] < position[nodes[n]] for m in needed)


@given(graphs(acyclic=True))
def test_a_level_is_one_more_than_the_highest_it_needs(needs: list[set[int]]) -> None:
    graph = build(needs)

    levels = graph.compute_levels()

    for n, needed in enumerate(needs):
        nodes = graph.nodes
        assert nodes[n].level == max((nodes[m].level + 1 for m in needed), default=0)
        assert nodes[n] in levels[nodes[n].level]
    assert sum(map(len, levels)) == len(needs)


@given(graphs(acyclic=True))
def test_running_what_is_ready_runs_everything_once(needs: list[set[int]]) -> None:
    graph = build(needs)
    completed: list[DAGNode] = []

    while ready := graph.get_ready_tasks(completed):
        completed.append(ready[-1])

    assert sorted(n.output for n in completed) == sorted(n.output for n in graph.nodes)


@given(graphs(acyclic=False))
def test_a_cycle_is_reported_exactly_when_there_is_one(needs: list[set[int]]) -> None:
    graph = build(needs)
    has_cycle = any(n in reachable(needs, n) for n in range(len(needs)))

    try:
        graph.validate()
    except CycleError as error:
        assert has_cycle
        number = {node.name: n for n, node in enumerate(graph.nodes)}
        walk = [number[name] for name in error.cycle]
        assert walk[0] == walk[-1]
        assert len(set(walk)) == len(walk) - 1
        assert all(a in needs[b] for a, b in pairwise(walk))
    else:
        assert not has_cycle


@given(graphs(acyclic=True))
def test_the_same_graph_is_ordered_the_same_way(needs: list[set[int]]) -> None:
    first, second = build(needs), build(needs)

    assert [n.name for n in first.topological_sort()] == [n.name for n in second.topological_sort()]
    assert repr(first.edges) == repr(second.edges)
