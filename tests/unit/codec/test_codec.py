"""What goes into the codec comes out the same, with or without an annotation."""

import math
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from taskiq_flow.codec.values import decode, encode

ANY_CHARACTER = st.characters(exclude_categories=())

zones = st.timezone_keys(allow_prefix=False).map(ZoneInfo)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**2040, max_value=2**2100),
    st.floats(),
    st.text(ANY_CHARACTER),
    st.binary(),
    st.datetimes(timezones=st.none() | zones),
    st.dates(),
    st.times(timezones=st.none() | zones),
    st.timedeltas(),
    st.uuids(),
    st.decimals(),
    st.text().map(Path),
)
keys = st.recursive(
    leaves.filter(lambda leaf: not (isinstance(leaf, Decimal) and leaf.is_snan())),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.sets(keys, max_size=5),
        st.frozensets(keys, max_size=5),
        st.dictionaries(st.text(), inner),
        st.dictionaries(keys, inner, max_size=5),
        st.dictionaries(st.sampled_from(["$uuid", "$", "$dict", "plain"]), inner),
    ),
    max_leaves=15,
)


def exact(value: Any) -> Any:
    """A form in which two values are equal only if they cannot be told apart."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, [exact(item) for item in value]
    if kind in (set, frozenset):
        return kind, sorted((exact(item) for item in value), key=repr)
    if kind is dict:
        return kind, [(exact(key), exact(item)) for key, item in value.items()]
    if kind in (datetime, time):
        return kind, value.isoformat(), getattr(value.tzinfo, "key", None)
    return kind, hex(value) if kind is int else repr(value)


@given(values)
@example(10**5000)
@example("\ud83d\ude00")
@example({"a": math.nan, "b": [math.inf, -math.inf, -0.0]})
@example({"$uuid": {"$uuid": "not one"}})
@example({True: 1, None: 2, 3: 3, (1, "a"): 4})
@example("nul \0 in a string")
def test_every_value_of_the_family_comes_back_as_itself(value: Any) -> None:
    back = decode(encode(value, where="value"))

    assert exact(back) == exact(value)


@given(values)
def test_bytes_are_utf_8_json_and_the_same_for_a_value_that_came_back(value: Any) -> None:
    data = encode(value, where="value")

    assert data.decode("utf-8")
    assert encode(decode(data), where="value") == data


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        ("é", '"é"'),
        ([1, None, True], "[1,null,true]"),
        ({"a": 1.5}, '{"a":1.5}'),
        (math.nan, '{"$float":"nan"}'),
        ([2**2048, math.inf], '[{"$int":"0x1' + "0" * 512 + '"},{"$float":"inf"}]'),
        (["\ud83d"], '[{"$str":"7aC9"}]'),
        (b"\x00\xff", '{"$bytes":"AP8="}'),
        ((1, (2,)), '{"$tuple":[1,{"$tuple":[2]}]}'),
        ({3, 1, 2}, '{"$set":[1,2,3]}'),
        (frozenset({"a"}), '{"$frozenset":["a"]}'),
        ({1: "a"}, '{"$dict":[[1,"a"]]}'),
        ({"$x": 1}, '{"$dict":[["$x",1]]}'),
        ({"$x": 1, "y": 2}, '{"$x":1,"y":2}'),
        (date(2026, 3, 1), '{"$date":"2026-03-01"}'),
        (time(12, 30), '{"$time":"12:30:00"}'),
        (datetime(2026, 3, 1, tzinfo=UTC), '{"$datetime":"2026-03-01T00:00:00+00:00"}'),
        (timedelta(days=-1, microseconds=5), '{"$timedelta":[-1,0,5]}'),
        (UUID(int=1), '{"$uuid":"00000000-0000-0000-0000-000000000001"}'),
        (Decimal("1.10"), '{"$decimal":"1.10"}'),
        (Path("a/b"), '{"$path":"a/b"}'),
    ],
)
def test_the_stored_form_is_the_documented_one(value: object, text: str) -> None:
    assert encode(value, where="value").decode() == text
    assert exact(decode(text.encode())) == exact(value)


@pytest.mark.parametrize("fold", [0, 1])
def test_a_named_time_zone_comes_back_with_the_right_side_of_the_hour_that_repeats(
    fold: int,
) -> None:
    moment = datetime(2024, 10, 27, 2, 30, fold=fold, tzinfo=ZoneInfo("Europe/Paris"))

    back = decode(encode(moment, where="value"))

    assert back.tzinfo is moment.tzinfo
    assert (back.fold, back.utcoffset()) == (fold, moment.utcoffset())


def test_a_set_has_the_same_bytes_in_whatever_order_it_was_filled() -> None:
    # 0 and 8 share a slot of a small table, so that the order of filling shows.
    assert list({0, 8}) != list({8, 0})

    assert encode({0, 8}, where="value") == encode({8, 0}, where="value")


class Colour(Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: UUID


class Model(BaseModel):
    id: UUID
    colour: Colour


@dataclass(frozen=True)
class Record:
    when: date
    tags: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("value", "back"),
    [
        (Model(id=UUID(int=1), colour=Colour.RED), {"id": UUID(int=1), "colour": "red"}),
        (Record(date(2026, 1, 1)), {"when": date(2026, 1, 1), "tags": frozenset()}),
        ({Record(date(2026, 1, 1))}, [{"when": date(2026, 1, 1), "tags": frozenset()}]),
        (Point(1, UUID(int=2)), (1, UUID(int=2))),
        (Colour.PAIR, (1, 2)),
        (Level.LOW, 1),
        ({Level.LOW: Colour.RED}, {1: "red"}),
        (OrderedDict(a=1), {"a": 1}),
    ],
)
def test_without_an_annotation_a_class_leaves_only_its_data(value: object, back: object) -> None:
    read = decode(encode(value, where="value"))

    assert exact(read) == exact(back)
