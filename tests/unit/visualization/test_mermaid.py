"""A graph as a Mermaid flowchart."""

import re
from html.parser import HTMLParser

import pytest

from taskiq_flow.visualization import EdgeView, GraphView, MermaidGenerator, NodeView
from tests.unit.visualization.graphs import HOSTILE, graph, run


def test_nodes_and_edges_are_written() -> None:
    view = GraphView("", (NodeView("a", "load"), NodeView("b", "save")), (EdgeView("a", "b", "x"),))

    assert MermaidGenerator(view).to_mermaid().splitlines() == [
        "flowchart TB",
        '    n0["load"]',
        '    n1["save"]',
        '    n0 -->|"x"| n1',
    ]


@pytest.mark.parametrize("orientation", ["TB", "BT", "LR", "RL"])
def test_the_orientation_can_be_chosen(orientation: str) -> None:
    generator = MermaidGenerator(graph("ab"))

    assert generator.to_mermaid(orientation).startswith(f"flowchart {orientation}\n")
    assert generator.to_mermaid_with_styling(orientation).startswith(f"flowchart {orientation}\n")


def test_kinds_have_shapes() -> None:
    text = MermaidGenerator(run()).to_mermaid()

    assert '[["enrich (map)"]]' in text
    assert '{{"approval (event)"}}' in text


def test_nodes_are_coloured_by_place_or_by_status() -> None:
    by_place = MermaidGenerator(graph("ab", "bc", "ac")).to_mermaid_with_styling()
    by_status = MermaidGenerator(run()).to_mermaid_with_styling()

    assert re.findall(r"class (\S+ \w+)$", by_place, re.MULTILINE) == [
        "n0 start",
        "n1 step",
        "n2 output",
    ]
    assert "class n0,n1 completed" in by_status
    assert by_status.count("classDef") == 8
    assert "classDef start" not in by_status


def test_a_name_is_never_read_as_mermaid() -> None:
    view = GraphView(
        HOSTILE,
        (NodeView(HOSTILE, HOSTILE), NodeView("b", "b")),
        (EdgeView(HOSTILE, "b", HOSTILE),),
    )

    lines = MermaidGenerator(view).to_mermaid_with_styling().splitlines()

    assert re.fullmatch(r' {4}n0\["[^"<>`{}\[\]|\\&%\n\x00-\x1f]*"\]', lines[1])
    assert re.fullmatch(r' {4}n0 -->\|"[^"<>`{}\[\]|\\&%\n\x00-\x1f]*"\| n1', lines[3])
    assert "#60;script#62;" in lines[1]


def test_the_interactive_page_runs_no_name_and_loads_nothing() -> None:
    text = MermaidGenerator(GraphView("", (NodeView(HOSTILE, HOSTILE),))).to_mermaid_interactive()

    class Tags(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[str] = []
            self.attributes: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.seen.append(tag)
            self.attributes += [name for name, _ in attrs]

    tags = Tags()
    tags.feed(text)
    assert tags.seen == ["div", "pre", "ul", "li", "script"]
    assert not {"src", "href", "onclick"} & set(tags.attributes)
    assert "alert(1)" not in text.partition("<script>")[2]


def test_an_edge_to_nowhere_is_left_out() -> None:
    view = GraphView("", (NodeView("a", "a"),), (EdgeView("a", "gone"),))

    assert MermaidGenerator(view).to_mermaid().count("-->") == 0
