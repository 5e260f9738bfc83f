"""Values are rebuilt by the annotation of the code that reads them."""

import inspect
import ipaddress
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import Enum, Flag, IntEnum, StrEnum
from typing import Annotated, Any, NamedTuple, TypedDict
from uuid import UUID

import pydantic.dataclasses
import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl, computed_field

from taskiq_flow.codec.values import decode, encode, register_codec
from taskiq_flow.exceptions import CodecRegistrationError, UndecodableValueError


class Colour(Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    A = "a"


class Rights(Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: UUID


class Row(TypedDict):
    when: datetime


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    id: UUID
    colour: Colour
    parent: "Strict | None" = None


class Aliased(BaseModel):
    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)

    count: int = Field(alias="howMany")
    size: int = Field(1, validation_alias="in", serialization_alias="out")
    url: HttpUrl | None = None
    address: ipaddress.IPv4Address | None = None
    last: deque[int] = deque([1])

    @computed_field
    def double(self) -> int:
        return self.count * 2


@dataclass(frozen=True)
class Job:
    when: date
    derived: int = field(init=False, default=5)
    next: "Job | None" = None


@pydantic.dataclasses.dataclass(config=ConfigDict(extra="forbid"))
class Closed:
    count: int
    derived: int = pydantic.dataclasses.Field(init=False, default=5)


ID = UUID(int=7)
NESTED = Strict(id=ID, colour=Colour.RED, parent=Strict(id=ID, colour=Colour.PAIR))


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (Colour.RED, Colour),
        (Colour.PAIR, Colour),
        (Level.LOW, Level),
        (Word.A, Word),
        (Rights.READ | Rights.WRITE, Rights),
        ({Word.A: 1, Level.LOW: 2}, dict[Word | Level, int]),
        (Point(1, ID), Point),
        ({Point(1, ID): [Point(2, ID)]}, dict[Point, list[Point]]),
        ({"when": datetime(2026, 1, 1, tzinfo=UTC)}, Row),
        (NESTED, Strict),
        ([NESTED], list[Strict]),
        (NESTED, Strict | None),
        (
            Aliased(howMany=2, **{"in": 3}, url="https://a.b/", address="1.2.3.4"),
            Aliased,
        ),
        (Job(date(2026, 1, 1), Job(date(2026, 1, 2))), Job),
        (Closed(1), Closed),
        ({Job(date(2026, 1, 1))}, set[Job]),
        (frozenset({Job(date(2026, 1, 1))}), frozenset[Job]),
        (None, None),
        (None, int | None),
        (ID, UUID | str),
        ("5", int | str),
    ],
)
def test_a_value_comes_back_as_its_annotation(value: object, annotation: Any) -> None:
    back = decode(encode(value, where="value"), annotation)

    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    ("value", "annotation", "back"),
    [
        (3, float, 3.0),
        (True, int, True),
        ([1, 2], tuple[int, ...], (1, 2)),
        ("2026-01-01", date, date(2026, 1, 1)),
        (datetime(2026, 1, 1, 5, tzinfo=UTC), date, None),
        ([1], Annotated[list[int], AfterValidator(lambda items: [*items, 9])], [1, 9]),
        ([1], Annotated[list[int], ["unhashable"]], [1]),
        (5, Any, 5),
        (5, object, 5),
        (5, inspect.Parameter.empty, 5),
    ],
)
def test_other_values_are_converted_as_pydantic_does(
    value: object, annotation: Any, back: object
) -> None:
    expected = value if back is None else back

    read = decode(encode(value, where="value"), annotation)

    assert (read, type(read)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ([1, 2], Iterable[int]),
        ((1, 2), Iterable[int]),
        ({1, 2}, Iterable[int]),
        ([1, 2], Iterable),
        ("ab", Iterable[str]),
        ({"a": 1}, Iterable[str]),
    ],
)
def test_an_iterable_can_be_read_more_than_once(value: Any, annotation: Any) -> None:
    back = decode(encode(value, where="value"), annotation)

    assert list(back) == list(back) == list(value)
    assert type(back) is type(value)


def test_a_value_that_does_not_fit_names_the_annotation_and_the_place() -> None:
    data = encode([{"a": 1}, {"a": "x"}], where="value")

    with pytest.raises(UndecodableValueError, match=r"list\[dict\[str, int\]\].*\[1\]\['a'\]"):
        decode(data, list[dict[str, int]])


@pytest.mark.parametrize(
    "annotation", ["NoSuchName", Annotated[int, AfterValidator(lambda v: 1 / 0)]]
)
def test_an_annotation_that_cannot_be_used_is_an_error_of_ours(annotation: Any) -> None:
    with pytest.raises(UndecodableValueError):
        decode(b"5", annotation)


class Matrix:
    def __init__(self, rows: list[tuple[int, ...]]) -> None:
        self.rows = rows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Matrix) and other.rows == self.rows

    def __hash__(self) -> int:
        return len(self.rows)


class Sparse(Matrix):
    pass


register_codec(Matrix, "matrix", lambda m: m.rows, Matrix)


@dataclass
class Task:
    matrix: Matrix


class Sheet(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    matrix: Matrix


MATRIX = Matrix([(1, 2), (3, 4)])


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (MATRIX, Any),
        ([{"m": MATRIX}], Any),
        (MATRIX, Matrix),
        ([MATRIX], list[Matrix]),
        ({MATRIX: 1}, Any),
        (Task(MATRIX), Task),
        (Sheet(matrix=MATRIX), Sheet),
    ],
)
def test_a_registered_class_comes_back_wherever_it_stands(value: object, annotation: Any) -> None:
    data = encode(value, where="value")

    assert b'{"$matrix":[{"$tuple":[1,2]},{"$tuple":[3,4]}]}' in data
    assert decode(data, annotation) == value


def test_a_subclass_of_a_registered_class_is_written_like_it() -> None:
    assert encode(Sparse([]), where="value") == b'{"$matrix":[]}'


def test_a_codec_registered_later_replaces_what_was_found_before() -> None:
    class Late(Matrix):
        pass

    assert encode(Late([]), where="value") == b'{"$matrix":[]}'

    register_codec(Late, "late", lambda m: m.rows, Late)
    register_codec(Late, "late", lambda m: len(m.rows), lambda n: Late([()] * n))

    assert encode(Late([]), where="value") == b'{"$late":0}'
    assert type(decode(b'{"$late":0}')) is Late


@pytest.mark.parametrize(
    ("cls", "tag"),
    [(Sheet, "matrix"), (Sheet, "uuid"), (Sheet, ""), (Sheet, "$sheet"), (dict, "d"), (UUID, "u")],
)
def test_a_codec_that_could_not_be_told_apart_is_refused(cls: type, tag: str) -> None:
    with pytest.raises(CodecRegistrationError, match=cls.__name__):
        register_codec(cls, tag, str, str)


def test_functions_of_a_codec_that_fail_are_reported_as_such() -> None:
    class Broken:
        pass

    register_codec(Broken, "broken", lambda _: 1 / 0, lambda _: 1 / 0)

    with pytest.raises(ValueError, match=r"result of step 'a'.*dump function.*division by zero"):
        encode([Broken()], where="result of step 'a'")
    with pytest.raises(UndecodableValueError, match="division by zero"):
        decode(b'{"$broken":1}')
