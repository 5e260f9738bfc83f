"""A graph as plain data, and what can be read off it."""

import json

import pytest

from taskiq_flow.visualization import EdgeView, GraphView, NodeView
from taskiq_flow.visualization.export import (
    detect_critical_path,
    find_parallelizable_groups,
    to_cytoscape_json,
    to_json,
    to_json_extended,
)
from tests.unit.visualization.graphs import graph, run


def test_json_has_nodes_edges_and_levels() -> None:
    view = GraphView(
        "nightly",
        (
            NodeView("load", "load", outputs=("raw",), inputs=("path",), task_name="app:load"),
            NodeView("save", "save", kind="map", status="RUNNING", detail="x"),
        ),
        (EdgeView("load", "save", "raw"),),
    )

    assert to_json(view) == {
        "title": "nightly",
        "nodes": [
            {
                "id": "load",
                "label": "load",
                "kind": "task",
                "status": None,
                "detail": "",
                "task_name": "app:load",
                "inputs": ["path"],
                "outputs": ["raw"],
                "level": 0,
            },
            {
                "id": "save",
                "label": "save",
                "kind": "map",
                "status": "RUNNING",
                "detail": "x",
                "task_name": "",
                "inputs": [],
                "outputs": [],
                "level": 1,
            },
        ],
        "edges": [
            {"from": "load", "to": "save", "source": "load", "target": "save", "label": "raw"}
        ],
        "levels": [["load"], ["save"]],
        "topological_order": ["load", "save"],
        "is_cyclic": False,
    }


def test_extended_json_counts_and_names_the_ends() -> None:
    data = to_json_extended(graph("ab", "bc", "ac", nodes="x"))

    assert (data["node_count"], data["edge_count"], data["level_count"]) == (4, 3, 3)
    assert (data["roots"], data["leaves"]) == (["x", "a"], ["x", "c"])
    assert data["critical_path"] == ["a", "b", "c"]
    assert data["parallel_groups"] == data["levels"] == [["x", "a"], ["b"], ["c"]]
    assert data["is_cyclic"] is False
    json.dumps(data)


def test_a_cycle_is_said_and_left_out_of_the_order() -> None:
    data = to_json_extended(graph("ab", "bc", "cb"))

    assert data["is_cyclic"] is True
    assert data["topological_order"] == ["a"]
    assert data["critical_path"] == ["a"]
    assert data["levels"] == [["a"], ["b", "c"]]


def test_cytoscape_wraps_each_element() -> None:
    data = to_cytoscape_json(graph("ab"))

    assert [n["data"]["id"] for n in data["nodes"]] == ["a", "b"]
    assert data["edges"][0]["data"]["id"] == "edge-0"
    assert data["edges"][0]["data"]["source"] == "a"


def test_groups_are_the_levels() -> None:
    assert find_parallelizable_groups(graph("ac", "bc", nodes="ab")) == [["a", "b"], ["c"]]


def test_the_critical_path_is_the_longest() -> None:
    assert detect_critical_path(graph("ab", "ac", "bd", "cd", "de")) == ["a", "b", "d", "e"]
    assert detect_critical_path(graph("ab", "xy", "yz", nodes="a")) == ["x", "y", "z"]
    assert detect_critical_path(GraphView()) == []


def test_the_critical_path_goes_by_time_where_times_are_known() -> None:
    view = graph("ab", "bc", "ad")

    assert detect_critical_path(view, {"a": 1, "b": 1, "c": 1, "d": 5}) == ["a", "d"]
    assert detect_critical_path(view, {"c": 5}) == ["a", "b", "c"]


@pytest.mark.parametrize("render", [to_json, to_json_extended, to_cytoscape_json])
def test_every_export_is_json(render) -> None:
    json.dumps(render(run()))
