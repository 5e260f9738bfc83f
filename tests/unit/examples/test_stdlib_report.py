"""What the demo's numbers mean: how a file is measured, summed up and drawn."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.stdlib_report.measure import COMPLEXITY_STEPS, FileMeasure, measure_file
from examples.stdlib_report.pictures import Box, squarify
from examples.stdlib_report.progress import Progress
from examples.stdlib_report.report import Origin, render
from examples.stdlib_report.summary import is_test, package_of, summarise
from taskiq_flow import PipelineStatus, StepStatus

SOURCE = '''\
"""The module's docstring,
on two lines."""

import os.path
from json import loads
from . import sibling

# A comment.
TEXT = """
not a # comment
"""


class Thing:
    """Documented."""

    def method(self, x):  # code, whatever follows
        if x and os or loads:
            for _ in [y for y in x if y]:
                pass
        elif x:
            pass
        return x

    def _private(self):
        def inner():
            while True:
                try:
                    pass
                except OSError:
                    break
'''


def measured(tmp_path: Path, source: str | bytes, path: str = "a.py") -> FileMeasure:
    file = tmp_path / path
    file.write_bytes(source if isinstance(source, bytes) else source.encode())
    return measure_file(tmp_path, path)


def test_each_line_is_code_docstring_comment_or_blank(tmp_path: Path) -> None:
    measure = measured(tmp_path, SOURCE)

    assert (measure.docstring, measure.comment, measure.blank) == (3, 1, 6)
    assert measure.code == measure.lines - 3 - 1 - 6


def test_functions_and_classes_are_counted_and_the_public_ones_are_documented_or_not(
    tmp_path: Path,
) -> None:
    measure = measured(tmp_path, SOURCE)

    assert (measure.functions, measure.classes) == (3, 1)
    assert (measure.public, measure.documented) == (2, 1)


def test_an_absolute_import_counts_by_its_top_level_module(tmp_path: Path) -> None:
    assert measured(tmp_path, SOURCE).imports == ("json", "os")


@pytest.mark.parametrize(
    ("body", "complexity", "nesting"),
    [
        ("pass", 1, 0),
        ("if a: pass", 2, 1),
        ("if a: pass\n elif b: pass\n elif c: pass\n else: pass", 4, 1),
        ("if a:\n  if b:\n   with c: pass", 3, 3),
        ("return a and b or c", 3, 0),
        ("return [x for x in y if x if z]", 4, 0),
        ("try: pass\n except A: pass\n except B: pass\n finally: pass", 3, 1),
        ("match a:\n  case 1: pass\n  case [2, *_]: pass\n  case _: pass", 3, 1),
        ("match a:\n  case x if x: pass", 2, 1),
        ("return 1 if a else 2", 2, 0),
        ("def inner():\n  if a: pass", 1, 0),
    ],
)
def test_complexity_counts_the_ways_through_and_nesting_the_depth(
    tmp_path: Path, body: str, complexity: int, nesting: int
) -> None:
    # Padded, because only functions that a list could want are kept one by one.
    source = f"def f(a, b, c, y, z):\n {body}\n" + " pass\n" * 60

    outer = next(f for f in measured(tmp_path, source).notable if f.name == "f")

    assert (outer.complexity, outer.nesting) == (complexity, nesting)


@pytest.mark.parametrize(
    "source",
    [b"print 'old'\n", b"# coding: nonsense\n", b"x = 1\0\n", b"s = '\xf6'\n", b"(" * 5000],
    ids=["syntax", "coding", "null", "bytes", "depth"],
)
def test_a_file_that_is_not_python_has_an_error_and_its_lines(
    tmp_path: Path, source: bytes
) -> None:
    measure = measured(tmp_path, source)

    assert measure.error
    assert "\n" not in measure.error
    assert (measure.lines, measure.size, measure.code) == (1, len(source), 0)


def test_a_chain_of_a_thousand_branches_is_measured_and_not_too_deep(tmp_path: Path) -> None:
    source = "def f(x):\n if x: pass\n" + " elif x: pass\n" * 1000

    (function,) = measured(tmp_path, source).notable

    assert (function.complexity, function.nesting) == (1002, 1)


def test_the_lists_of_a_summary_leave_tests_out_and_do_not_depend_on_order(
    tmp_path: Path,
) -> None:
    (tmp_path / "test").mkdir()
    long = "def f():\n" + " pass\n" * 100
    measures = [
        measured(tmp_path, long, "a.py"),
        measured(tmp_path, long, "test/b.py"),
        measured(tmp_path, "(", "bad.py"),
    ]

    summary = summarise(measures)

    assert summary == summarise(reversed(measures))
    assert (summary.all.files, summary.library.files) == (3, 1)
    assert [each.path for each in summary.longest] == ["a.py"]
    assert [each.path for each in summary.unreadable] == ["bad.py"]
    assert summary.branching == (1, *(0 for _ in COMPLEXITY_STEPS[1:]))


def test_a_file_is_in_its_top_level_package_and_a_test_by_its_directories() -> None:
    assert package_of("email/mime/text.py") == "email"
    assert package_of("os.py") == "single modules"
    assert is_test("idlelib/idle_test/htest.py")
    assert not is_test("doctest.py")


@given(st.lists(st.integers(0, 10**6), max_size=60), st.floats(1, 2000), st.floats(1, 2000))
def test_the_pieces_of_a_map_fill_it_by_weight_and_stay_within(
    weights: list[int], width: float, height: float
) -> None:
    box = Box(3, 5, width, height)

    pieces = squarify(range(len(weights)), weights.__getitem__, box)

    total = sum(weights)
    assert [place for place, _ in pieces] == sorted(
        (place for place, weight in enumerate(weights) if weight > 0),
        key=lambda place: -weights[place],
    )
    for place, piece in pieces:
        share = width * height * weights[place] / total
        assert math.isclose(piece.width * piece.height, share, rel_tol=1e-6, abs_tol=1e-6)
        assert piece.x >= 3 - 1e-6
        assert piece.x + piece.width <= 3 + width + 1e-6
        assert piece.y >= 5 - 1e-6
        assert piece.y + piece.height <= 5 + height + 1e-6


def test_what_a_file_is_called_is_data_to_the_page(tmp_path: Path) -> None:
    name = "a<b>&c.py"
    summary = summarise([measured(tmp_path, "(", name)])

    page = render(summary, Origin("3.11.7", "<root>", "0123abcd", "today"))

    assert "a&lt;b&gt;&amp;c.py" in page
    assert name not in page
    assert "&lt;root&gt;" in page


def test_a_page_of_nothing_is_a_page() -> None:
    assert render(summarise([]), Origin("3.11.7", "/lib", "0123abcd", "today"))


def _status(done: int, total: int = 100) -> PipelineStatus:
    step = StepStatus(step_name="measures", status="RUNNING", items_done=done, items_total=total)
    return PipelineStatus(pipeline_id="x", status="RUNNING", steps=[step])


def test_rate_and_time_left_are_those_of_the_last_seconds() -> None:
    progress = Progress()

    for second in range(31):
        progress.note(_status(done=second if second < 20 else 20 + 4 * (second - 20)), second)

    assert progress.rate == 4
    assert progress.seconds_left == (100 - 60) / 4


def test_a_run_that_stands_still_has_no_rate() -> None:
    progress = Progress()

    for second in range(10):
        progress.note(_status(done=7), second)

    assert progress.rate is None
    assert progress.seconds_left is None
