"""Types that cannot fit are found, and nothing else is."""

import datetime
import enum
import pathlib
import uuid
from abc import ABC, abstractmethod
from collections import abc
from dataclasses import dataclass
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    Protocol,
    TypedDict,
    TypeVar,
    Union,
)

import pytest
from pydantic import BaseModel, RootModel

from taskiq_flow.dataflow import DAG, DAGNode, TypeMismatch, check_types, read_task
from taskiq_flow.dataflow.type_check import are_incompatible

T = TypeVar("T")
UserId = NewType("UserId", int)


class Plain: ...


class Sub(Plain): ...


class Colour(enum.Enum):
    RED = "red"


class Model(BaseModel):
    a: int = 1


class Names(RootModel[list[str]]): ...


@dataclass
class Record:
    a: int


class Point(NamedTuple):
    x: int


class Movie(TypedDict):
    title: str


class Base(ABC):
    @abstractmethod
    def work(self) -> None: ...


class SelfMade:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any: ...


class Speaks(Protocol):
    def speak(self) -> str: ...


@pytest.mark.parametrize(
    ("produced", "expected"),
    [
        (dict, int),
        (str, int),
        (int, str),
        (str, bytes),
        (None, dict),
        (list[int], dict[str, int]),
        (dict, list),
        (list[int], abc.Mapping[str, int]),
        (dict, abc.Sequence),
        (int, abc.Sequence[int]),
        (int | str, list | dict),
        (Optional[str], Union[int, float]),  # noqa: UP007, UP045
        (Annotated[str, "note"], UserId),
        (Literal["a", "b"], int),
        (int, Plain),
        (Record, int),
        (Model, str),
        (Movie, list),
        (None, Model),
        (str, abc.Callable[[], int]),
    ],
)
def test_what_can_never_fit_is_incompatible(produced: Any, expected: Any) -> None:
    assert are_incompatible(produced, expected)


@pytest.mark.parametrize(
    ("produced", "expected"),
    [
        (int, int),
        (int, float),
        (float, int),
        (bool, int),
        (int, bool),
        (int, Any),
        (Any, int),
        (int, object),
        (T, int),
        (int, T),
        ("Unresolved", int),
        (int, "Unresolved"),
        (Sub, Plain),
        (Plain, Sub),
        (Plain, Record),
        (int | None, int),
        (int, str | None | int),
        (list[int], list[str]),
        (list, tuple[int, ...]),
        (tuple[int, int], set[int]),
        (list[int], abc.Sequence[int]),
        (list[int], abc.Set[int]),
        (dict[str, int], abc.Mapping[str, int]),
        (str, abc.Iterable[str]),
        (abc.AsyncIterator[int], list[int]),
        (abc.Generator[int, None, None], list),
        (int, Speaks),
        (dict, Model),
        (Model, dict),
        (dict, Record),
        (dict, Movie),
        (Movie, dict),
        (list, Point),
        (Point, list),
        (list, Names),
        (Names, list),
        (str, Colour),
        (Colour, str),
        (str, datetime.datetime),
        (datetime.date, str),
        (str, uuid.UUID),
        (str, pathlib.Path),
        (float, Decimal),
        (UserId, int),
        (Literal[1], int),
        (Record, Model),
        (int, Base),
        (int, SelfMade),
        ([int], int),
    ],
)
def test_what_could_fit_raises_no_alarm(produced: Any, expected: Any) -> None:
    assert not are_incompatible(produced, expected)


def test_a_mismatch_names_both_ends() -> None:
    def extract(path: str) -> dict[str, float]: ...

    def tag(features: list[str], path: int) -> list[str]: ...

    dag = DAG([DAGNode(extract, "features"), DAGNode(tag, "tags")])

    (found,) = check_types(dag)

    assert found == TypeMismatch(
        "features", "extract", dict[str, float], "tag", "features", list[str]
    )
    assert str(found) == (
        "'extract' returns dict[str, float] as 'features', "
        "but parameter 'features' of 'tag' takes list[str]."
    )


def test_missing_annotations_are_silent() -> None:
    def bare(path): ...

    def typed(a: int, extra: int = 1) -> str: ...

    def last(b, a: int): ...

    dag = DAG([DAGNode(bare, "a"), DAGNode(typed, "b"), DAGNode(last, "c")])

    assert check_types(dag) == []


def test_an_optional_parameter_is_checked_when_it_is_linked() -> None:
    def limit() -> str: ...

    def tag(limit: int = 3): ...

    assert len(check_types(DAG([DAGNode(limit, "limit"), DAGNode(tag, "tags")]))) == 1
    assert check_types(DAG([DAGNode(tag, "tags")])) == []


@pytest.mark.parametrize("declared", [True, False])
def test_each_of_several_outputs_has_its_own_type(declared: bool) -> None:
    def split(path: str) -> tuple[dict, int]: ...

    def use(left: int, right: int): ...

    from_types = DAGNode(split, info=_read(split, {"left": dict, "right": int}))
    from_tuple = DAGNode(split, info=_read(split, ["left", "right"]))
    dag = DAG([from_types if declared else from_tuple, DAGNode(use, "used")])

    assert [m.parameter for m in check_types(dag)] == ["left"]


def test_a_tuple_of_any_length_has_one_type() -> None:
    def split(path: str) -> tuple[int, ...]: ...

    def use(left: int, right: dict): ...

    dag = DAG([DAGNode(split, info=_read(split, ["left", "right"])), DAGNode(use, "used")])

    assert [m.parameter for m in check_types(dag)] == ["right"]


def test_a_parameter_of_its_own_outputs_name_is_not_linked() -> None:
    def total(items: list, total: str = "") -> int: ...

    assert check_types(DAG([DAGNode(total, "total")])) == []


def test_a_typed_dict_types_its_keys() -> None:
    class Halves(TypedDict):
        left: dict
        right: int

    def split(path: str) -> Halves: ...

    def use(left: int, right: int): ...

    dag = DAG([DAGNode(split, info=_read(split, ["left", "right"])), DAGNode(use, "used")])

    assert [m.parameter for m in check_types(dag)] == ["left"]


def test_a_result_of_unknown_parts_is_silent() -> None:
    def split(path: str) -> dict[str, int]: ...

    def use(left: str, right: list): ...

    dag = DAG([DAGNode(split, info=_read(split, ["left", "right"])), DAGNode(use, "used")])

    assert check_types(dag) == []


def _read(function: Any, outputs: Any) -> Any:
    return read_task(function, outputs=outputs)
