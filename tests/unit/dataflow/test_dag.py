"""The graph: linked by data, ordered, deterministic."""

import io
import time
from typing import Any

import pytest

from taskiq_flow.dataflow import DAG, DAGNode
from taskiq_flow.exceptions import (
    CycleError,
    DuplicateOutputError,
    EmptyGraphError,
    TaskNotFoundError,
)


def task(name: str) -> Any:
    def function(**data): ...

    function.__name__ = name
    return function


def node(name: str, *inputs: str) -> DAGNode:
    return DAGNode(task(name), output=name, inputs=inputs)


@pytest.fixture
def diamond() -> DAG:
    return DAG([node("d", "b", "c"), node("b", "a"), node("c", "a"), node("a", "start")])


def names(nodes: list[DAGNode]) -> list[str]:
    return [n.name for n in nodes]


def test_nodes_are_linked_by_their_data_in_whichever_order_they_come(diamond: DAG) -> None:
    assert {(a.name, b.name) for a, b in diamond.edges} == {
        ("a", "b"),
        ("a", "c"),
        ("b", "d"),
        ("c", "d"),
    }
    assert names(diamond.get_node("d").dependencies) == ["b", "c"]
    assert names(diamond.get_node("a").dependents) == ["b", "c"]


def test_edges_are_a_set_that_keeps_its_order(diamond: DAG) -> None:
    again = set(diamond.edges)

    assert diamond.edges == again
    assert len(diamond.edges) == 4
    assert diamond.edges[0] in again
    assert diamond.edges[0] in diamond.edges
    assert (node("a"), node("b")) not in diamond.edges
    assert list(diamond.edges) == list(diamond.edges)
    assert repr(DAG([node("a"), node("b", "a")]).edges) == "EdgeSet({a → b})"


def test_the_order_is_that_of_adding_as_far_as_data_allow(diamond: DAG) -> None:
    assert names(diamond.topological_sort()) == ["a", "b", "c", "d"]
    assert names(DAG([node("z"), node("a"), node("m")]).topological_sort()) == ["z", "a", "m"]


def test_levels_are_the_longest_paths(diamond: DAG) -> None:
    diamond.add_node(node("e", "a", "d"))

    assert [names(level) for level in diamond.levels] == [["a"], ["b", "c"], ["d"], ["e"]]
    assert diamond.get_parallel_levels() == diamond.compute_levels() == diamond.levels
    assert [n.level for n in diamond.nodes] == [2, 1, 1, 0, 3]


def test_a_graph_that_grows_is_ordered_anew(diamond: DAG) -> None:
    assert len(diamond.levels) == 3

    diamond.add_node(node("alone"))
    assert len(diamond.levels[0]) == 2

    diamond.add_node(node("start"))

    assert names(diamond.topological_sort())[:2] == ["alone", "start"]
    assert len(diamond.levels) == 4
    assert diamond.external_inputs == []


def test_roots_and_leaves_are_the_ends(diamond: DAG) -> None:
    diamond.add_node(node("alone"))

    assert names(diamond.roots) == ["a", "alone"]
    assert names(diamond.leaves) == ["d", "alone"]


def test_unconnected_parts_are_one_graph() -> None:
    graph = DAG([node("a"), node("b", "a"), node("x"), node("y", "x")])

    graph.validate()

    assert [names(level) for level in graph.levels] == [["a", "x"], ["b", "y"]]


def test_ready_are_those_whose_dependencies_have_completed(diamond: DAG) -> None:
    a, b, c = (diamond.get_node(name) for name in "abc")

    assert names(diamond.get_ready_tasks([])) == ["a"]
    assert names(diamond.get_ready_tasks({a})) == ["b", "c"]
    assert names(diamond.get_ready_tasks([a, b])) == ["c"]
    assert names(diamond.get_ready_tasks((a, b, c))) == ["d"]
    assert diamond.get_ready_tasks(diamond.nodes) == []


def test_an_edge_without_data_orders_too(diamond: DAG) -> None:
    later = diamond.add_node(node("later"))
    assert later in diamond.levels[0]

    diamond.add_edge("d", later)
    diamond.add_edge(diamond.get_node("d"), later)

    assert diamond.levels[-1] == [later]
    assert len(diamond.edges) == 5


def test_an_edge_to_nowhere_is_refused(diamond: DAG) -> None:
    with pytest.raises(TaskNotFoundError, match="'stranger'"):
        diamond.add_edge("d", "stranger")
    with pytest.raises(TaskNotFoundError):
        diamond.add_edge(node("stranger"), "d")


def test_a_node_is_found_by_task_name_or_output() -> None:
    load = task("load")
    graph = DAG([DAGNode(load, output="raw")])
    (only,) = graph.nodes

    assert all(graph.get_node(key) is only for key in (only, load, "load", "raw", only.task_name))


def test_a_cycle_is_named_from_end_to_end() -> None:
    graph = DAG([node("x"), node("a", "c"), node("b", "a", "x"), node("c", "b"), node("d", "c")])

    with pytest.raises(CycleError, match=r"^Circular dependency detected: a → b → c → a") as caught:
        graph.topological_sort()

    assert caught.value.cycle == ("a", "b", "c", "a")
    assert isinstance(caught.value, ValueError)
    for ask in (graph.compute_levels, graph.validate, lambda: graph.levels):
        with pytest.raises(CycleError):
            ask()


def test_a_task_that_needs_its_own_output_is_a_cycle() -> None:
    with pytest.raises(CycleError, match="a → a"):
        DAG([node("a", "a")]).validate()


def test_an_optional_parameter_of_its_own_outputs_name_is_no_cycle() -> None:
    def total(items, total=0): ...

    graph = DAG([DAGNode(total, output="total")])

    graph.validate()
    assert graph.external_inputs == ["items"]
    assert len(graph.edges) == 0


def test_an_optional_parameter_is_linked_when_somebody_writes_it() -> None:
    def tag(features, model=None, limit=3): ...

    graph = DAG([DAGNode(tag, output="tags"), node("model"), node("features")])

    assert names(graph.get_node("tags").dependencies) == ["model", "features"]
    assert graph.external_inputs == []
    assert graph.optional_inputs == ["limit"]
    assert graph.get_node("tags").optional_inputs == ["model", "limit"]


def test_an_input_that_one_node_needs_is_needed_by_the_run() -> None:
    def one(config=None): ...

    def two(config): ...

    graph = DAG([DAGNode(one), DAGNode(two)])

    assert graph.external_inputs == ["config"]
    assert graph.optional_inputs == []


def test_two_writers_of_one_name_are_refused() -> None:
    graph = DAG([node("a")])

    with pytest.raises(DuplicateOutputError, match=r"'a' and 'b' both write 'a'|both write"):
        graph.add_node(DAGNode(task("b"), output="a"))

    assert len(graph) == 1


def test_an_empty_graph_is_not_valid() -> None:
    with pytest.raises(EmptyGraphError, match="DAG contains no nodes"):
        DAG().validate()

    assert DAG().levels == []
    assert DAG().topological_sort() == []


def test_a_second_use_of_a_task_gets_a_number() -> None:
    load = task("load")
    graph = DAG(DAGNode(load, output=f"part{n}") for n in range(3))

    assert names(graph.nodes) == ["load", "load#2", "load#3"]


def test_a_number_that_somebody_has_as_a_name_is_left_out() -> None:
    graph = DAG([node("a#2"), *(DAGNode(task("a"), output=f"o{n}") for n in range(3))])

    assert names(graph.nodes) == ["a#2", "a", "a#3", "a#4"]


def test_who_writes_and_who_reads_can_be_asked(diamond: DAG) -> None:
    assert diamond.producer_of("a") is diamond.get_node("a")
    assert diamond.producer_of("start") is None
    assert names(diamond.consumers_of("a")) == ["b", "c"]
    assert diamond.consumers_of("d") == []
    assert diamond.outputs == ["a", "b", "c", "d"]
    assert diamond.get_node("a") in diamond
    assert node("a") not in diamond


def test_a_node_shows_what_was_said_of_it() -> None:
    said = DAGNode(task("load"), "raw", ["path"], {"owner": "data team"})

    assert (said.output, said.outputs, said.inputs) == ("raw", ["raw"], ["path"])
    assert said.metadata == {"owner": "data team"}
    assert said.task_name.endswith(":load")
    assert repr(said) == "DAGNode('load', inputs=['path'], outputs=['raw'])"
    assert repr(DAG([said])) == "DAG(1 nodes, 0 edges)"


def test_printing_shows_levels_and_dependencies(diamond: DAG) -> None:
    out = io.StringIO()

    diamond.print(file=out)

    text = out.getvalue()
    assert text.startswith("Pipeline DAG")
    assert "Level 2" in text
    assert "← b, c" in text


def test_the_picture_has_data_on_its_edges() -> None:
    def split(path): ...

    def use(left, right, extra=1): ...

    graph = DAG([DAGNode(split, "left"), DAGNode(task("other"), "right"), DAGNode(use, "used")])

    view = graph.to_view("halves")

    assert view.title == "halves"
    assert [(e.source, e.target, e.label) for e in view.edges] == [
        ("split", "use", "left"),
        ("other", "use", "right"),
    ]
    assert (view.nodes[2].inputs, view.nodes[2].outputs) == (("left", "right"), ("used",))
    assert view.nodes[2].detail == "→ used"


def test_a_large_graph_is_ordered_in_no_time() -> None:
    """Twenty thousand nodes of one function; anything quadratic would take a minute."""
    several = task("several")
    nodes = [
        DAGNode(several, output=f"o{n}", inputs=[f"o{n - 1}", "o0"] if n > 1 else [])
        for n in range(20_000)
    ]

    start = time.perf_counter()
    graph = DAG(nodes)
    levels = graph.levels
    took = time.perf_counter() - start

    assert len(levels) == 19_999
    assert took < 5, f"{took:.1f} s"
