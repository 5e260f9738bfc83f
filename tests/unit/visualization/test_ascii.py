"""A graph as text."""

import io
from textwrap import dedent

import pytest

from taskiq_flow.visualization import EdgeView, GraphView, NodeView, print_ascii, render_ascii
from taskiq_flow.visualization.ascii import MAX_RAILS
from tests.unit.visualization.graphs import HOSTILE, graph, run


def drawn(text: str) -> str:
    return dedent(text).strip()


def test_a_diamond_is_drawn_with_rails() -> None:
    assert render_ascii(graph("ab", "ac", "bd", "cd", "ad")) == drawn("""
        Pipeline DAG · 4 nodes, 5 edges, 3 levels

        Level 0    ●        a
                   │
        Level 1    ├─●      b   ← a
                   ├─│─●    c   ← a
                   │ │ │
        Level 2    ●─┴─╯    d   ← b, c, a
        """)


def test_a_chain_is_a_straight_line() -> None:
    assert render_ascii(graph("ab", "bc", title="chain")) == drawn("""
        Pipeline DAG: chain · 3 nodes, 2 edges, 3 levels

        Level 0    ●    a
                   │
        Level 1    ●    b   ← a
                   │
        Level 2    ●    c   ← b
        """)


def test_unconnected_nodes_have_no_line_between_them() -> None:
    assert render_ascii(graph("bc", nodes="a")) == drawn("""
        Pipeline DAG · 3 nodes, 1 edge, 2 levels

        Level 0    ●    a
                   ●    b
                   │
        Level 1    ●    c   ← b
        """)


def test_a_rail_that_passes_is_not_a_joint() -> None:
    assert render_ascii(graph("ad", "be", "cd", "ae", "ce", nodes="abc")) == drawn("""
        Pipeline DAG · 5 nodes, 5 edges, 2 levels

        Level 0    ●          a
                   │ ●        b
                   │ │ ●      c
                   │ │ │
        Level 1    ├─│─┼─●    d   ← a, c
                   ●─┴─╯      e   ← b, a, c
        """)


def test_a_column_is_used_again_when_its_rail_has_ended() -> None:
    assert render_ascii(graph("ad", "be", "cf", "ag", "dg", nodes="abcdefg")) == drawn("""
        Pipeline DAG · 7 nodes, 5 edges, 3 levels

        Level 0    ●          a
                   │ ●        b
                   │ │ ●      c
                   │ │ │
        Level 1    ├─│─│─●    d   ← a
                   │ ● │ │    e   ← b
                   │   ● │    f   ← c
                   │     │
        Level 2    ●─────╯    g   ← a, d
        """)


def test_a_free_column_between_two_rails_is_taken() -> None:
    assert render_ascii(graph("be", "ad", "cz", "az", "dz", nodes="abce")) == drawn("""
        Pipeline DAG · 6 nodes, 5 edges, 3 levels

        Level 0    ●        a
                   │ ●      b
                   │ │ ●    c
                   │ │ │
        Level 1    │ ● │    e   ← b
                   ├─● │    d   ← a
                   │ │ │
        Level 2    ●─┴─╯    z   ← c, a, d
        """)


def test_statuses_kinds_and_details_are_shown() -> None:
    text = render_ascii(run())

    assert "✓          fetch" in text
    assert "enrich [map]" in text
    assert "✗" in text
    assert "failed after 3 attempts" in text
    assert all(mark in text for mark in "✓✗◐»◇↻○⊘")


def test_an_empty_graph_says_so() -> None:
    assert render_ascii(GraphView()) == "Pipeline DAG · 0 nodes, 0 edges, 0 levels"


def test_many_predecessors_are_counted() -> None:
    text = render_ascii(graph("az", "bz", "cz", "dz", "ez", "fz", "gz", "hz"))

    assert "← a, b, c, d, e, f and 2 more" in text


def test_too_many_rails_are_left_out() -> None:
    nodes = tuple(NodeView(str(n), f"step {n}") for n in range(MAX_RAILS + 2))
    last = nodes[-1].id
    view = GraphView("", nodes, tuple(EdgeView(n.id, last) for n in nodes[:-1]))

    text = render_ascii(view)

    assert "│" not in text
    assert "●" not in text
    assert "Level 1" in text
    assert "← step 0, step 1" in text


def test_a_cycle_is_drawn_without_rails_between_its_nodes() -> None:
    assert render_ascii(graph("ab", "bc", "cb")) == drawn("""
        Pipeline DAG · 3 nodes, 3 edges, 2 levels

        Level 0    ●    a
                   │
        Level 1    ●    b   ← a, c
                   ●    c   ← b
        """)


def test_a_name_cannot_move_the_cursor_or_break_the_line() -> None:
    view = GraphView(HOSTILE, (NodeView("a", HOSTILE, detail=HOSTILE),))

    text = render_ascii(view)

    assert "\x1b" not in text
    assert "\x00" not in text
    assert len(text.splitlines()) == 3
    assert r"\n\x1b[31m" in text


def test_wide_letters_keep_the_columns() -> None:
    view = GraphView("", (NodeView("a", "抽出", detail="x"), NodeView("b", "load", detail="y")))

    lines = render_ascii(view).splitlines()

    assert lines[2].index("x") + 2 == lines[3].index("y")


def test_plain_ascii_has_no_other_letters() -> None:
    text = render_ascii(graph("ab", "ac", "bd", "cd", "ad"), unicode=False)

    assert text.isascii()
    assert "+-|-*    c   <- a" in text
    assert render_ascii(GraphView("é"), unicode=False).isascii()


def test_printing_falls_back_to_plain_ascii_where_it_must() -> None:
    raw = io.BytesIO()
    narrow = io.TextIOWrapper(raw, encoding="ascii")

    print_ascii(graph("ab"), narrow)
    narrow.flush()

    assert raw.getvalue().decode("ascii").startswith("Pipeline DAG - 2 nodes")


def test_printing_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    print_ascii(graph("ab"))

    assert capsys.readouterr().out.startswith("Pipeline DAG")
