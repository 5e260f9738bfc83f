"""What is typed on the command line is read exactly, and what is written is JSON."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from taskiq_flow.cli.arguments import read_moment, read_span
from taskiq_flow.cli.common import without_password
from taskiq_flow.cli.inputs import read_inputs
from taskiq_flow.cli.output import to_json
from taskiq_flow.exceptions import BadInputError


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        (" 1.5h ", timedelta(minutes=90)),
        ("7d", timedelta(days=7)),
        ("4w", timedelta(weeks=4)),
    ],
)
def test_a_length_of_time_is_read_in_each_unit(text: str, length: timedelta) -> None:
    assert read_span("--older-than", text) == length


@pytest.mark.parametrize(
    "text", ["", "d", "7", "-7d", "7 days", "7d ago", "1e9d", "nan s", "9" * 30 + "w"]
)
def test_what_is_no_length_of_time_is_named(text: str) -> None:
    with pytest.raises(BadInputError, match="--older-than"):
        read_span("--older-than", text)


def test_a_moment_has_a_zone_always() -> None:
    day, zoned = read_moment("--since", "2026-11-21"), read_moment("--since", "2026-11-21T12:00Z")
    ago = read_moment("--since", "2h")

    assert day is not None
    assert day.tzinfo is not None
    assert zoned == datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert ago is not None
    assert timedelta(hours=1.9) < datetime.now(UTC) - ago < timedelta(hours=2.1)
    assert read_moment("--since", None) is None


def test_single_inputs_win_over_the_file() -> None:
    given = read_inputs(["a=1", "b=text", "c=x=y"], ["[1, 2]", "word"], '{"a": 0, "d": null}')

    assert given.kwargs == {"a": 1, "b": "text", "c": "x=y", "d": None}
    assert given.args == ([1, 2], "word")
    with pytest.raises(BadInputError, match="is not NAME=VALUE"):
        read_inputs(["=1"], (), None)


def test_what_is_written_is_json_whatever_it_was() -> None:
    value = {"nan": float("nan"), "at": datetime(2026, 1, 2, tzinfo=UTC), "some": {2, 1}, 3: (4,)}

    text = json.dumps(to_json(value), allow_nan=False)

    assert json.loads(text) == {
        "nan": None, "at": "2026-01-02T00:00:00+00:00", "some": [1, 2], "3": [4],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:s3cret@host:6379/1", "redis://…@host:6379/1"),
        ("postgresql://ada:p@ss@host/db", "postgresql://…@host/db"),
        ("sqlite:///runs.db", "sqlite:///runs.db"),
    ],
)
def test_a_store_is_named_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
    assert without_password(url, f"kept in {url}.") == f"kept in {shown}."
