"""Whatever a run holds, what is shown of it is harmless and short."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskiq_flow.display import clock, duration, one_line, plain_lines, short_id

HOSTILE = "\x1b[31mred\x1b]0;title\x07 \u202eevil\u200f \x9b2J \r\b\x7f \ud800"


@given(st.text())
def test_a_line_holds_nothing_that_moves_a_terminal(text: str) -> None:
    assert one_line(text).isprintable()
    assert len(one_line(text)) <= 200
    assert all(line.isprintable() for line in plain_lines(text))


def test_what_is_escaped_can_still_be_read() -> None:
    shown = one_line(HOSTILE)

    assert "\\x1b[31mred" in shown
    assert "\\u202eevil" in shown
    assert one_line("naïve 日本語 שלום") == "naïve 日本語 שלום"


def test_a_long_text_is_cut_where_it_is_long() -> None:
    assert one_line("x" * 10**6, 50) == "x" * 49 + "…"
    assert one_line("two\nlines\tand tabs") == "two lines and tabs"


def test_of_many_lines_the_last_ones_are_shown() -> None:
    lines = plain_lines("\n".join(f"line {number}" for number in range(1000)), 10)

    assert lines[0] == "… 990 lines before"
    assert lines[-1] == "line 999"
    assert len(lines) == 11


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, ""),
        (0.0, "0 ms"),
        (0.9, "900 ms"),
        (0.97, "1.0 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (59.6, "1 m 00 s"),
        (401, "6 m 41 s"),
        (3600, "1 h 00 m"),
        (90_000, "1 d 01 h"),
        (-5, "0 ms"),
    ],
)
def test_durations_are_said_in_at_most_two_units(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


def test_the_clock_leaves_out_the_date_of_today() -> None:
    now = datetime.now(UTC)

    assert clock(now).count(":") == 2
    assert (now - timedelta(days=40)).astimezone().strftime("%Y-%m-%d") in clock(
        now - timedelta(days=40)
    )
    assert clock(None) == ""


def test_an_id_is_known_by_its_end() -> None:
    assert short_id("01a1fe34-863c-7000-a751-79c30e1c98b9") == "…0e1c98b9"
