"""A plan that is ready to be started, and how the values of one start are stored for it."""

from __future__ import annotations

import typing
from collections import abc
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import typing_extensions

from taskiq_flow.codec import encode
from taskiq_flow.dataflow import TaskInfo
from taskiq_flow.dataflow.signature import MISSING
from taskiq_flow.exceptions import BadItemsError
from taskiq_flow.model.records import ItemMark
from taskiq_flow.plan import Plan


class InputSlot(NamedTuple):
    """One value of a start: a run input, or the items of a map step."""

    name: str
    items_of: int | None = None


class StartValues(NamedTuple):
    """The encoded values of one start, as the run store takes them."""

    inputs: list[bytes]
    items: dict[int, Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A plan, the values that it is started with, and the type of what it returns.

    The same object serves any number of starts. ``bound_items`` were given in the definition.
    """

    plan: Plan
    slots: tuple[InputSlot, ...] = ()
    returns: Any = Any
    bound_items: Mapping[int, Sequence[bytes]] = field(default_factory=dict[int, Sequence[bytes]])

    def encode(self, values: Sequence[Any]) -> StartValues:
        """Encode the values of one start, in the order of the slots.

        Raises:
            UnserializableValueError: One of them cannot be stored.
            BadItemsError: A map step was given something without items.
        """
        inputs: list[bytes] = []
        items = dict(self.bound_items)
        for slot, value in zip(self.slots, values, strict=True):
            if slot.items_of is None:
                inputs.append(encode(value, where=f"input {slot.name!r}"))
            else:
                step = self.plan.steps[slot.items_of].name
                items[slot.items_of] = encode_items(step, value)
        return StartValues(inputs, items)


def encode_items(step: str, values: Any) -> list[bytes]:
    """Encode the items that a map step is given, each with its mark.

    Raises:
        BadItemsError: This has no items, or is text, bytes or a mapping.
        UnserializableValueError: An item cannot be stored.
    """
    if not isinstance(values, Iterable) or isinstance(
        values, (str, bytes, bytearray, Mapping, AsyncIterable)
    ):
        raise BadItemsError(step, type(cast("object", values)).__name__)
    return [
        ItemMark.VALUE + encode(value, where=f"item {number} of step {step!r}")
        for number, value in enumerate(cast("Iterable[Any]", values))
    ]


# --- the types of results ---------------------------------------------------------------------


def returned_type(info: TaskInfo, *, may_fail: bool = False) -> Any:
    """The annotation of what a task returns, `Any` where it says nothing.

    A stream is stored as a list. With ``may_fail`` None may stand in its place.
    """
    annotation = info.return_annotation
    if annotation is MISSING or isinstance(annotation, (str, typing.ForwardRef)):
        return Any
    if typing.get_origin(annotation) in _STREAMS:
        parts = typing.get_args(annotation)
        annotation = list_of(parts[0] if parts else Any)
    return optional(annotation) if may_fail else annotation


def list_of(element: Any) -> Any:
    return list if element is Any else list[element]


def optional(annotation: Any) -> Any:
    return Any if annotation is Any else typing.Optional[annotation]  # noqa: UP045 - a value


def element_of(annotation: Any) -> Any:
    """The type of the elements of a collection; `Any` for everything else."""
    parts = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin in {list, set, frozenset, abc.Sequence, abc.Iterable} and parts:
        return parts[0]
    return Any


def record_of(fields: Mapping[str, Any]) -> Any:
    """A dict type with these fields, any of which may be left out."""
    make: Any = typing_extensions.TypedDict
    return make("Outputs", dict(fields), total=False)


_STREAMS = frozenset(
    {abc.Iterator, abc.Generator, abc.AsyncIterator, abc.AsyncIterable, abc.AsyncGenerator}
)
