"""What a graph is started with is matched to its external inputs before anything is stored."""

import pytest

from taskiq_flow.compile.inputs import ExternalInputs
from taskiq_flow.exceptions import MissingInputError, PositionalInputError, UnknownInputError

ONE = ExternalInputs(("data",), ("limit",), {"data": ("load",), "limit": ("load",)})
TWO = ExternalInputs(("a", "b"), (), {"a": ("f",), "b": ("f", "g")})
NONE_NEEDED = ExternalInputs((), ("limit",), {"limit": ("load",)})


def test_inputs_come_by_name() -> None:
    assert TWO.bind((), {"a": 1, "b": 2}) == {"a": 1, "b": 2}


def test_a_single_value_goes_to_the_only_input() -> None:
    assert ONE.bind(([1, 2],), {}) == {"data": [1, 2]}
    assert ONE.bind((5,), {"limit": 3}) == {"data": 5, "limit": 3}
    assert TWO.bind((5,), {"a": 1}) == {"a": 1, "b": 5}
    assert NONE_NEEDED.bind((5,), {}) == {"limit": 5}


def test_a_dict_of_inputs_is_taken_apart() -> None:
    assert TWO.bind(({"a": 1, "b": 2},), {}) == {"a": 1, "b": 2}
    assert ONE.bind(({"data": 1, "limit": 2},), {}) == {"data": 1, "limit": 2}


@pytest.mark.parametrize("value", [{}, {"x": 1}, {"limit": 1}, {1: 2}])
def test_a_dict_that_is_no_dict_of_inputs_is_the_value(value: dict[object, int]) -> None:
    assert ONE.bind((value,), {}) == {"data": value}


def test_a_single_value_for_several_inputs_is_refused_by_listing_them() -> None:
    with pytest.raises(PositionalInputError, match="'a', 'b'"):
        TWO.bind((5,), {})


def test_several_values_without_names_are_refused() -> None:
    with pytest.raises(PositionalInputError, match="2 positional values"):
        ONE.bind((1, 2), {})


def test_an_unknown_input_is_named_with_those_that_are_known() -> None:
    with pytest.raises(UnknownInputError, match=r"'c'.*'a', 'b'"):
        TWO.bind((), {"a": 1, "b": 2, "c": 3})


def test_a_missing_input_is_named_with_the_tasks_that_need_it() -> None:
    with pytest.raises(MissingInputError, match=r"'b'.*'f', 'g'"):
        TWO.bind((), {"a": 1})
    with pytest.raises(MissingInputError, match="'b'"):
        TWO.bind(({"a": 1},), {})
    with pytest.raises(UnknownInputError, match="'c'"):
        TWO.bind(({"c": 1},), {})


def test_unknown_inputs_can_be_set_aside() -> None:
    assert ONE.keep_known({"data": 1, "other": 2}) == ({"data": 1}, ["other"])
