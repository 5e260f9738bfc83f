"""A graph as one self-contained SVG."""

import re
from xml.etree import ElementTree as ET

import pytest

from taskiq_flow.visualization import EdgeView, GraphView, NodeView, render_svg
from tests.unit.visualization.graphs import HOSTILE, graph, run

SVG = "{http://www.w3.org/2000/svg}"


def boxes(text: str) -> dict[str, dict[str, float]]:
    found = {}
    for node in ET.fromstring(text).iter():
        if "node" in (node.get("class") or "").split():
            rect = node.find(f"{SVG}rect")
            assert rect is not None
            name = node.find(f"{SVG}text[@class='node-name']")
            assert name is not None
            found[name.text or ""] = {
                k: float(rect.get(k) or 0) for k in ("x", "y", "width", "height")
            }
    return found


def edges(text: str) -> list[str]:
    return [
        path.get("class") or ""
        for path in ET.fromstring(text).iter(f"{SVG}path")
        if (path.get("class") or "").startswith("edge")
    ]


def test_levels_go_from_left_to_right() -> None:
    drawn = boxes(render_svg(graph("ab", "bc", "ac", "bd")))

    assert drawn["a"]["x"] < drawn["b"]["x"] < drawn["c"]["x"] == drawn["d"]["x"]
    gap = drawn["b"]["x"] - drawn["a"]["x"] - drawn["a"]["width"]
    assert 48 <= gap <= 60
    assert abs(drawn["c"]["y"] - drawn["d"]["y"]) >= drawn["c"]["height"] + 12


def test_everything_lies_inside_the_picture() -> None:
    text = render_svg(run())
    root = ET.fromstring(text)
    width, height = (float(root.get(k) or 0) for k in ("width", "height"))

    for box in boxes(text).values():
        assert box["x"] > 0
        assert box["y"] > 0
        assert box["x"] + box["width"] < width
        assert box["y"] + box["height"] < height


def test_every_edge_is_one_cubic_between_two_ports() -> None:
    text = render_svg(graph("ab", "ac"))

    paths = re.findall(r'class="edge" d="M(\S+) (\S+?)C[^"]*"', text)

    assert len(paths) == 2
    assert paths[0][1] != paths[1][1]


def test_ports_are_in_the_order_of_their_targets() -> None:
    text = render_svg(graph("ac", "ab", nodes="abc"))

    to_c, to_b = re.findall(r'class="edge" d="M\S+ (\S+?)C', text)

    assert boxes(text)["b"]["y"] < boxes(text)["c"]["y"]
    assert float(to_b) < float(to_c)


def test_a_long_edge_goes_through_its_lane() -> None:
    paths = re.findall(r'class="edge" d="([^"]*)"', render_svg(graph("ab", "bc", "ac")))

    (long,) = [path for path in paths if "H" in path]

    assert long.count("C") == 2


def test_edges_say_what_goes_along_them() -> None:
    assert edges(render_svg(run())) == [
        "edge done",  # fetch → check
        "edge done",  # check → render, which ran and failed
        "edge flow",  # check → enrich, which is running
        "edge cut",  # render → gallery, which was skipped
        "edge done",  # check → sync, which is tried again
        "edge idle",  # enrich → index
        "edge idle",  # sync → index
        "edge idle",  # fetch → index, which waits
    ]


def test_without_statuses_nothing_is_coloured() -> None:
    text = render_svg(graph("ab"))

    assert edges(text) == ["edge"]
    assert "is-" not in text.partition("</style>")[2]


@pytest.mark.parametrize(
    "word",
    ["completed", "failed", "running", "skipped", "event", "retrying", "pending", "cancelled"],
)
def test_every_status_has_a_class_and_an_icon(word: str) -> None:
    root = ET.fromstring(render_svg(run()))

    icons = [e for e in root.iter(f"{SVG}svg") if e.get("class") == f"st-icon is-{word}"]

    assert icons
    assert len(icons[0]) >= 1


def test_colours_follow_the_reader_and_stay_inside_the_picture() -> None:
    text = render_svg(graph("ab"))
    style = text.partition("<style>")[2].partition("</style>")[0]

    assert "@media(prefers-color-scheme:dark)" in style
    assert "prefers-reduced-motion" in style
    selectors = re.findall(r"^([^@{}\n][^{}]*)\{", style, re.MULTILINE)
    assert selectors
    for group in selectors:
        assert all(s.strip().startswith(".taskiq-flow") for s in group.split(","))


def test_the_picture_needs_nothing_from_elsewhere() -> None:
    text = render_svg(run())

    assert not re.search(r"url\(|href|<script|<image|@import", text)
    assert text.count("http") == 1


def test_the_style_can_be_left_out() -> None:
    text = render_svg(run(), with_style=False)

    assert "<style>" not in text
    assert 'class="node is-failed"' in text


def test_a_hostile_name_is_only_text() -> None:
    view = GraphView(
        HOSTILE,
        (NodeView("a", HOSTILE, kind=HOSTILE, status="FAILED", detail=HOSTILE),),
    )

    root = ET.fromstring(render_svg(view, link=lambda node: HOSTILE))

    assert {e.tag.removeprefix(SVG) for e in root.iter()} == {
        *("svg", "style", "a", "title", "rect", "text", "path"),
    }
    assert "<script>alert(1)</script>" in (root.find(f".//{SVG}title").text or "")
    assert "\ufffd[31m" in (root.find(f".//{SVG}title").text or "")


def test_a_lone_surrogate_can_be_written() -> None:
    render_svg(GraphView("", (NodeView("a", "\ud800"),))).encode()


def test_a_long_name_is_shortened_and_kept_in_the_title() -> None:
    name = "a_very_long_name_that_goes_on_and_on_and_on"

    text = render_svg(GraphView("", (NodeView("a", name),)))

    assert f"<title>{name}</title>" in text
    assert f">{name[:29]}…</text>" in text


def test_nodes_may_be_links_with_full_labels() -> None:
    text = render_svg(run(), link=lambda node: f"#step-{node.id}" if node.id == "render" else None)

    label = "render, failed, failed after 3 attempts"
    assert f'<a class="node is-failed" href="#step-render" aria-label="{label}">' in text
    assert text.count("<a ") == 1


def test_the_picture_says_what_it_shows() -> None:
    assert 'aria-label="Graph of import, 9 steps"' in render_svg(run())
    assert 'aria-label="Graph of pipeline, 1 step"' in render_svg(graph(nodes="a"))


def test_an_empty_graph_and_a_cycle_can_be_drawn() -> None:
    assert boxes(render_svg(GraphView())) == {}
    assert len(boxes(render_svg(graph("ab", "bc", "cb", "dd")))) == 4


def test_the_same_graph_is_drawn_the_same() -> None:
    assert render_svg(run()) == render_svg(run())


def test_edges_from_nowhere_are_left_out() -> None:
    assert edges(render_svg(GraphView("", (NodeView("a", "a"),), (EdgeView("x", "a"),)))) == []
