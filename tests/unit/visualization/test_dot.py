"""A graph in the language of Graphviz."""

import re

from taskiq_flow.visualization import EdgeView, GraphView, NodeView, render_dot
from tests.unit.visualization.graphs import HOSTILE, graph, run


def test_names_are_ids_and_data_stand_on_edges() -> None:
    nodes = (NodeView("app:load", "load", detail="→ raw"), NodeView("save#2", "save"))
    view = GraphView("nightly", nodes, (EdgeView("app:load", "save#2", "raw"),))

    text = render_dot(view)

    assert text.startswith('digraph "nightly" {\n  rankdir="LR";')
    assert '"app:load" [label="load\\n→ raw"];' in text
    assert '"app:load" -> "save#2" [label="raw"];' in text
    assert text.endswith("}")


def test_status_and_kind_are_shown() -> None:
    text = render_dot(run(), orientation="TB")

    assert 'rankdir="TB"' in text
    assert (
        '"enrich" [label="enrich\\n(map)\\n7 of 10", color="#0a66c9", fontcolor="#0a66c9"]' in text
    )


def test_a_hostile_name_stays_inside_its_quotes() -> None:
    view = GraphView(
        HOSTILE,
        (NodeView(HOSTILE, HOSTILE), NodeView("b\\", "b\\")),
        (EdgeView(HOSTILE, "b\\", HOSTILE),),
    )

    lines = render_dot(view).splitlines()

    quoted = r'"(?:[^"\\]|\\.)*"'
    assert len(lines) == 7
    assert re.fullmatch(rf"digraph {quoted} {{", lines[0])
    assert re.fullmatch(rf"  {quoted} \[label={quoted}\];", lines[3])
    assert lines[4] == '  "node 1" [label="b\\\\"];'
    assert re.fullmatch(rf'  "node 0" -> "node 1" \[label={quoted}\];', lines[5])
    assert "\x1b" not in lines[3]


def test_made_up_ids_never_meet_a_name() -> None:
    view = GraphView("", (NodeView("a b", "x"), NodeView("node 0", "y")))

    assert [line.split(" [")[0] for line in render_dot(view).splitlines()[3:5]] == [
        '  "node 0"',
        '  "node 1"',
    ]


def test_an_edge_to_nowhere_is_left_out() -> None:
    assert "->" not in render_dot(GraphView("", (NodeView("a", "a"),), (EdgeView("a", "gone"),)))
    assert "->" in render_dot(graph("ab"))
