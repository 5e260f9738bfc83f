"""All drawings and exports of a graph in one place."""

import sys
from typing import Any

import pytest
from taskiq import InMemoryBroker

from taskiq_flow.dataflow import DAG, DAGBuilder, pipeline_task
from taskiq_flow.exceptions import MissingExtraError, UnknownPictureError
from taskiq_flow.visualization import DAGVisualizer, render_ascii, view_of, visualize_pipeline

broker = InMemoryBroker()


@pytest.fixture(scope="module")
def dag() -> DAG:
    @pipeline_task(output="a")
    @broker.task
    async def task_a(x: int) -> int: ...

    @pipeline_task(output="b")
    @broker.task
    async def task_b(x: int) -> int: ...

    @pipeline_task(output="c")
    @broker.task
    async def task_c(a: int, b: int) -> int: ...

    return DAGBuilder.from_tasks([task_a, task_b, task_c])


@pytest.mark.parametrize(
    "method",
    [
        "to_json",
        "to_json_extended",
        "to_cytoscape_json",
        "to_dot",
        "to_graphviz",
        "to_mermaid",
        "to_svg",
        "visualize_ascii",
        "detect_critical_path",
        "find_parallelizable_groups",
    ],
)
def test_a_method_works_on_an_object_and_on_the_class(dag: DAG, method: str) -> None:
    on_object = getattr(DAGVisualizer(dag), method)()
    on_class = getattr(DAGVisualizer, method)(dag)

    assert on_object == on_class
    assert "task_a" in str(on_object)


def test_options_are_passed_on(dag: DAG) -> None:
    assert DAGVisualizer(dag).to_mermaid("LR").startswith("flowchart LR")
    assert DAGVisualizer.to_mermaid(dag, orientation="BT").startswith("flowchart BT")
    assert DAGVisualizer(dag).detect_critical_path({"task_b": 9}) == ["task_b", "task_c"]
    assert DAGVisualizer(dag).visualize_ascii(unicode=False).isascii()


def test_a_method_keeps_its_documentation() -> None:
    assert "digraph" in (DAGVisualizer.to_dot.__doc__ or "")


def test_printing_writes_the_text(dag: DAG, capsys: pytest.CaptureFixture[str]) -> None:
    DAGVisualizer.print_ascii(dag)
    DAGVisualizer(dag).print_ascii()

    assert capsys.readouterr().out == f"{render_ascii(dag)}\n" * 2


def test_a_pipeline_is_drawn_in_every_format(dag: DAG) -> None:
    assert visualize_pipeline(dag) == DAGVisualizer.to_json(dag)
    assert visualize_pipeline(dag, "ascii") == render_ascii(dag)
    assert visualize_pipeline(dag, "svg").startswith("<svg")
    assert visualize_pipeline(dag, "dot").startswith("digraph")
    assert visualize_pipeline(dag, "mermaid").startswith("flowchart")


def test_an_unknown_format_names_the_known_ones(dag: DAG) -> None:
    with pytest.raises(UnknownPictureError, match="'png'; use one of json, ascii, dot"):
        visualize_pipeline(dag, "png")  # type: ignore[call-overload]


def test_a_picture_is_taken_as_it_is(dag: DAG) -> None:
    view = dag.to_view()

    assert view_of(view) is view
    assert view_of(dag) == view


def test_networkx_gets_nodes_and_edges(dag: DAG) -> None:
    pytest.importorskip("networkx")

    graph: Any = DAGVisualizer.to_networkx(dag)

    assert sorted(graph.nodes) == ["task_a", "task_b", "task_c"]
    assert sorted(graph.edges) == [("task_a", "task_c"), ("task_b", "task_c")]
    assert graph.nodes["task_a"]["outputs"] == ("a",)
    assert graph.edges["task_a", "task_c"]["label"] == "a"


def test_without_networkx_the_error_says_what_to_install(
    dag: DAG, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "networkx", None)

    with pytest.raises(MissingExtraError, match="networkx"):
        DAGVisualizer(dag).to_networkx()
