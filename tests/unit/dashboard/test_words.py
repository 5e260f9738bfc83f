from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskiq_flow.dashboard.addresses import RunView, number, path
from taskiq_flow.dashboard.pictures.text import traceback_pieces, value_pieces
from taskiq_flow.dashboard.words import ago, amount, many, one_line, span, visible
from taskiq_flow.model.records import RunStatus
from taskiq_flow.operations import ErrorView, Preview
from tests.unit.dashboard.shapes import NOW, at


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0021, "2 ms"),
        (0.36, "0.36 s"),
        (9.84, "9.8 s"),
        (48, "48 s"),
        (59.99, "1 m 00 s"),
        (401, "6 m 41 s"),
        (5_400, "1 h 30 m"),
        (273_600, "3 d 4 h"),
        (None, "\u2013"),
    ],
)
def test_a_stretch_of_time_has_at_most_two_units(seconds: float | None, said: str) -> None:
    assert span(seconds) == said


def test_moments_are_said_as_ages() -> None:
    assert [ago(at(s), NOW) for s in (0, -12, -90, -7200, 30)] == [
        "now",
        "12 s ago",
        "1 m ago",
        "2 h ago",
        "in 30 s",
    ]


def test_numbers_have_their_thousands_apart_and_nouns_their_number() -> None:
    assert (amount(41_909), many(1, "step"), many(2_000, "step")) == (
        "41,909",
        "1 step",
        "2,000 steps",
    )


def test_terminal_colours_go_and_marks_of_direction_become_boxes() -> None:
    assert visible("\x1b[31mred\x1b[0m \u202egnp.exe\x07") == "red \ufffdgnp.exe\ufffd"
    assert visible("Grüße, 世界 🎉\n\tindented") == "Grüße, 世界 🎉\n\tindented"


@given(st.text())
def test_visible_text_has_nothing_that_hides(text: str) -> None:
    shown = visible(text, 200)

    assert len(shown) <= 200
    assert not set(shown) & set("\x00\x1b\u202e\u2066\u200f")


def test_a_line_is_one_line_however_long_its_text() -> None:
    shown = one_line("a\nb" * 1_000_000, 50)

    assert "\n" not in shown
    assert len(shown) <= 50


def test_an_address_says_only_what_is_set_and_hides_nothing_in_a_name() -> None:
    assert path("runs", "a/b c", step="x&y", cursor="", open=None) == "/runs/a%2Fb%20c?step=x%26y"


def test_a_view_of_runs_is_its_address_and_back() -> None:
    params = {"status": "failed", "tag": "nightly", "span": "24h", "q": "cat", "cursor": "12 abc"}

    looked = RunView.of(params)

    assert looked.params() == params
    query = looked.query(datetime(2026, 1, 2, 12, 0, 30, tzinfo=UTC))
    assert (query.status, query.tag, query.search) == (RunStatus.FAILED, "nightly", "cat")
    assert query.since == datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def test_what_an_address_cannot_mean_is_left_out() -> None:
    looked = RunView.of({"status": "sleeping", "span": "9y", "since": "yesterday"})

    assert looked.params() == {}
    assert [number(text) for text in ("1.5", "x", "nan", "inf", "", None)] == [1.5] + [None] * 5


def test_values_are_indented_json_with_names_and_texts_told_apart() -> None:
    shown = Preview({"sku": "DE-1", "prices": [1, 2]}, "dict", 30)

    pieces = value_pieces(shown)

    assert "".join(text for _, text in pieces) == '{\n  "sku": "DE-1",\n  "prices": [1, 2],\n}'
    assert ("s", '"DE-1"') in pieces
    assert value_pieces(Preview(None, "large", 3 << 20, is_cut=True)) == [
        ("f", "3.0 MiB, too large to be shown here")
    ]


def test_a_traceback_has_own_frames_whole_and_those_of_packages_counted() -> None:
    trace = (
        "Traceback (most recent call last):\n"
        '  File "shop/images.py", line 88, in render\n'
        "    shrink(path)\n"
        '  File "/usr/lib/python3.11/site-packages/PIL/Image.py", line 3, in open\n'
        "    raise error\n"
        '  File "/usr/lib/python3.11/site-packages/PIL/Image.py", line 9, in read\n'
        "OSError: cannot identify image file"
    )

    pieces = traceback_pieces(ErrorView("OSError", "cannot identify image file", trace))

    assert pieces == [
        ("", "Traceback (most recent call last):"),
        ("f", "shop/images.py:88 in render"),
        ("here", "  \u203a shrink(path)"),
        ("f", "2 frames of installed packages"),
        ("e", "OSError: cannot identify image file"),
    ]
