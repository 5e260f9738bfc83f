"""A result of several outputs is taken apart."""

from typing import Any

import pytest

from taskiq_flow.dataflow import split_outputs
from taskiq_flow.exceptions import OutputShapeError


@pytest.mark.parametrize("value", [{"x": 1, "y": 2, "more": 3}, (1, 2), [1, 2]])
def test_outputs_are_taken_by_key_or_in_order(value: Any) -> None:
    assert split_outputs("split", ["x", "y"], value) == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"x": 1}, "returned a dict without 'y'"),
        ((1,), "returned 1 value;"),
        ([1, 2, 3], "returned 3 values;"),
        ("xy", "returned a str;"),
        (None, "returned a NoneType;"),
    ],
)
def test_a_result_of_another_shape_says_what_is_wrong_with_it(value: Any, words: str) -> None:
    with pytest.raises(OutputShapeError, match=words) as caught:
        split_outputs("split", ["x", "y"], value)

    assert (caught.value.task, caught.value.outputs) == ("split", ("x", "y"))
