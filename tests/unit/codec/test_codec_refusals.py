"""What cannot be stored, or was not written by us, ends in one clear error."""

import contextlib
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo
from enum import Enum
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, SecretStr, field_serializer

from taskiq_flow.codec.values import decode, encode
from taskiq_flow.exceptions import (
    PayloadTooLargeError,
    UndecodableValueError,
    UnserializableValueError,
)


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Point:
    x: int


@dataclass
class Node:
    next: object = None


class Locked(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    lock: object = None
    secret: SecretStr | None = None


class Failing(BaseModel):
    x: int = 1

    @field_serializer("x")
    def broken(self, value: int) -> int:
        return value // 0


class Wall(tzinfo):
    def utcoffset(self, dt: datetime | None, /) -> None:
        return None


class Nano(datetime):
    """As pandas has one, with digits that a datetime has not."""

    def __ne__(self, other: object) -> bool:
        return True


class NanoDelta(timedelta):
    def __ne__(self, other: object) -> bool:
        return True


def numbers() -> Iterator[int]:
    yield 1


LOCK = threading.Lock()


@pytest.mark.parametrize(
    ("value", "path", "type_name", "hint"),
    [
        (LOCK, "$", "_thread.lock", "register_codec"),
        ({"rows": [1, 2, 3, {"when": LOCK}]}, "$.rows[3].when", "_thread.lock", "plain data"),
        ({"a b": (LOCK,)}, "$['a b'][0]", "_thread.lock", "plain data"),
        ({1: {LOCK: 1}}, "$[1].keys()", "_thread.lock", "plain data"),
        ({"b " * 999: [LOCK]}, "$['" + "b " * 29 + "b][0]", "_thread.lock", "plain data"),
        ([Node(), IPv4Address(1)], "$[1]", "ipaddress.IPv4Address", "register_codec"),
        ([Locked(lock=LOCK)], "$[0].lock", "_thread.lock", "register_codec"),
        (Node(Node(LOCK)), "$.next.next", "_thread.lock", "register_codec"),
        (Locked(secret=SecretStr("hush")), "$.secret", "pydantic.types.SecretStr", "never stored"),
        (Failing(), "$", f"{__name__}.Failing", "model_dump"),
        ([numbers()], "$[0]", "generator", "list of its items"),
        (iter([1]), "$", "list_iterator", "list of its items"),
        (Colour, "$", "enum.EnumType", "plain data"),
        (ValueError("x"), "$", "ValueError", "plain data"),
        (bytearray(b"x"), "$", "bytearray", "plain data"),
        ({Point(1): 1}, "$", "dict", "unhashable"),
        ({(1, frozenset({Point(1)})): 1}, "$", "dict", "unhashable"),
        ({Colour.RED: 1, "red": 2}, "$", "dict", "equal"),
        ({"s": {Colour.RED, "red"}}, "$.s", "set", "equal"),
        (time(1, tzinfo=Wall()), "$", "datetime.time", "ZoneInfo"),
        (Nano(2026, 1, 1), "$", f"{__name__}.Nano", "convert it first"),
        (NanoDelta(1), "$", f"{__name__}.NanoDelta", "convert it first"),
    ],
)
def test_a_value_of_no_known_type_is_refused_by_step_path_and_type(
    value: object, path: str, type_name: str, hint: str
) -> None:
    with pytest.raises(UnserializableValueError) as caught:
        encode(value, where="result of step 'load'")

    error = caught.value
    assert (error.where, error.path, error.type_name) == ("result of step 'load'", path, type_name)
    assert hint in str(error)
    assert f"result of step 'load' cannot be stored: {path} is a {type_name}" in str(error)
    assert "hush" not in str(error)


def test_a_coroutine_is_refused_with_the_advice_to_await_it() -> None:
    async def load() -> int:
        return 1

    coroutine = load()
    with pytest.raises(UnserializableValueError, match="await it"):
        encode(coroutine, where="value")
    coroutine.close()


def nested(levels: int, shape: str) -> object:
    value: Any = 1
    for _ in range(levels):
        value = {"list": lambda v: [v], "tuple": lambda v: (v,), "dict": lambda v: {1: v}}[shape](
            value
        )
    return value


def cyclic() -> list[object]:
    items: list[object] = []
    items.append({"again": items})
    return items


def cyclic_node() -> Node:
    node = Node()
    node.next = node
    return node


@pytest.mark.parametrize("shape", ["list", "tuple", "dict"])
def test_two_hundred_levels_are_kept(shape: str) -> None:
    value = nested(200, shape)

    assert decode(encode(value, where="value")) == value


@pytest.mark.parametrize(
    "value",
    [nested(202, "list"), nested(202, "dict"), nested(100_000, "tuple"), cyclic(), cyclic_node()],
)
def test_deeper_nesting_and_cycles_are_refused(value: object) -> None:
    with pytest.raises(UnserializableValueError, match="flatten it") as caught:
        encode(value, where="value")

    assert len(str(caught.value)) < 500


def test_a_value_over_the_limit_is_refused_with_its_size() -> None:
    with pytest.raises(
        PayloadTooLargeError, match="result of step 'a' takes 1,002 bytes"
    ) as caught:
        encode("x" * 1000, where="result of step 'a'", limit=1001)

    assert (caught.value.size, caught.value.limit) == (1002, 1001)
    assert encode("x" * 1000, where="value", limit=1002)
    assert encode("x" * 20_000_000, where="value", limit=None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[1] 2",
        b"\xff",
        b"[" * 100_000,
        b'{"$set":' * 100_000,
        b"9" * 5000,
        b'{"$os.system":"true"}',
        b'{"$":1}',
        b'{"$uuid":5}',
        b'{"$uuid":"../.."}',
        b'{"$bytes":"%%%"}',
        b'{"$set":5}',
        b'{"$frozenset":null}',
        b'{"$dict":[[[1],2]]}',
        b'{"$dict":5}',
        b'{"$decimal":"__import__"}',
        b'{"$float":"1e9"}',
        b'{"$timedelta":[1e300,1,1]}',
        b'{"$datetime":"2026-01-01T00:00:00[../../etc/passwd]"}',
        b'{"$datetime":"2026-01-01T00:00:00[No/Where]"}',
        b'{"$time":"25:00"}',
        b'{"$path":["a"]}',
    ],
)
def test_bytes_that_we_did_not_write_are_refused(data: bytes) -> None:
    with pytest.raises(UndecodableValueError) as caught:
        decode(data)

    assert len(str(caught.value)) < 500


def test_a_stored_zone_name_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Watch:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            asked.append(name)

    decode(b'{"$datetime":"2026-01-01T00:00:00+00:00[UTC]"}')
    monkeypatch.setattr(sys, "meta_path", [Watch, *sys.meta_path])

    with pytest.raises(UndecodableValueError, match="unknown here"):
        decode(b'{"$datetime":"2026-01-01T00:00:00[No/Where]"}')

    assert asked == []


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_either_decode_or_are_refused(data: bytes) -> None:
    with contextlib.suppress(UndecodableValueError):
        decode(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
TAGS = "float int str bytes tuple set frozenset dict datetime date time timedelta uuid decimal path"


@given(st.sampled_from(TAGS.split()), json_values)
def test_a_known_tag_with_any_payload_either_decodes_or_is_refused(
    tag: str, payload: object
) -> None:
    data = b'{"$' + tag.encode() + b'":' + encode(payload, where="payload") + b"}"

    with contextlib.suppress(UndecodableValueError):
        decode(data)
