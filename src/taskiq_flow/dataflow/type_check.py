"""Find consumers that cannot take what their producer returns, before anything runs."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections import abc
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, NewType, TypeGuard, TypeVar, Union, get_args, get_origin

from taskiq_flow.dataflow.dag import DAG
from taskiq_flow.dataflow.signature import MISSING
from taskiq_flow.dataflow.task_info import TaskInfo


@dataclass(frozen=True, slots=True)
class TypeMismatch:
    """One datum whose producer and consumer disagree about its type; its text is a sentence."""

    output: str
    producer: str
    produced: Any
    consumer: str
    parameter: str
    expected: Any

    def __str__(self) -> str:
        return (
            f"{self.producer!r} returns {_show(self.produced)} as {self.output!r}, but parameter "
            f"{self.parameter!r} of {self.consumer!r} takes {_show(self.expected)}."
        )


def check_types(dag: DAG) -> list[TypeMismatch]:
    """Return what is certainly wrong, in the order of the graph's nodes.

    Silent wherever a value could fit: without annotations, with type variables, protocols and
    unions, between classes and their subclasses, between numbers, between kinds of collections,
    and where a value is rebuilt by annotation (a dict as a model, text as a date).
    """
    found: list[TypeMismatch] = []
    for consumer in dag.nodes:
        for parameter, data, _ in consumer.info.bindings:
            producer = dag.producer_of(data)
            described = consumer.info.parameters.get(parameter)
            if producer is None or producer is consumer or described is None:
                continue
            produced = produced_type(producer.info, data)
            expected = described.annotation
            if are_incompatible(produced, expected):
                found.append(
                    TypeMismatch(data, producer.name, produced, consumer.name, parameter, expected)
                )
    return found


def produced_type(info: TaskInfo, output: str) -> Any:
    """Return the annotation of one output, `MISSING` where nothing is said about it."""
    if not info.multiple_outputs:
        return info.return_annotation
    if output in info.output_types:
        return info.output_types[output]
    returned = info.return_annotation
    if typing.is_typeddict(returned):
        return getattr(returned, "__annotations__", {}).get(output, MISSING)
    parts = get_args(returned)
    if get_origin(returned) is tuple and parts[1:] == (...,):
        return parts[0]
    if get_origin(returned) is tuple and len(parts) == len(info.outputs):
        return parts[info.outputs.index(output)]
    return MISSING


def are_incompatible(produced: Any, expected: Any) -> bool:
    """Say whether no value of the one annotation can be meant by the other."""
    return all(
        _cannot_be(given, wanted)
        for given in _alternatives(produced)
        for wanted in _alternatives(expected)
    )


_SCALARS = (int, float, complex, str, bytes, bytearray, type(None))
_NUMBERS = (int, float, complex)
_COLLECTIONS = (list, tuple, set, frozenset)
_BUILTIN = (*_SCALARS, *_COLLECTIONS, dict)


def _cannot_be(given: Any, wanted: Any) -> bool:
    if not (_is_class(given) and _is_class(wanted)):
        return False
    if issubclass(given, wanted):
        return False
    if given in _BUILTIN or given is bool:
        return _builtin_cannot_be(given, wanted)
    # A record becomes a dict and back; it never becomes a number or text.
    return wanted in _SCALARS and _is_record(given)


def _builtin_cannot_be(given: type[Any], wanted: type[Any]) -> bool:
    if wanted in _BUILTIN or wanted is bool:
        same_group = any(
            issubclass(given, group) and issubclass(wanted, group)
            for group in (_NUMBERS, _COLLECTIONS)
        )
        return not same_group
    if wanted.__module__ == "collections.abc":
        return not (
            given in _COLLECTIONS and any(issubclass(kind, wanted) for kind in _COLLECTIONS)
        )
    if given is type(None):
        return _is_record(wanted)
    return _is_plain_class(wanted)


def _is_plain_class(cls: type[Any]) -> bool:
    """Say whether only its own constructor makes instances of a class: nothing rebuilds them."""
    return not (
        _is_record(cls)
        or issubclass(cls, (Enum, *_BUILTIN))
        or type(cls) is not type
        or hasattr(cls, "__get_pydantic_core_schema__")
        or cls.__module__.partition(".")[0] in _REBUILT_MODULES
    )


_REBUILT_MODULES = frozenset(
    {"builtins", "collections", "datetime", "decimal", "fractions", "ipaddress"}
    | {"numbers", "pathlib", "re", "typing", "uuid", "zoneinfo"}
)


def _is_record(cls: type[Any]) -> bool:
    # A model of Pydantic; its root models stand for any kind of value.
    is_root_model = getattr(cls, "__pydantic_root_model__", None)
    return dataclasses.is_dataclass(cls) if is_root_model is None else not is_root_model


def _is_class(annotation: Any) -> TypeGuard[type[Any]]:
    # A protocol's members are not looked at, and `object` takes everything.
    return (
        isinstance(annotation, type)
        and annotation not in (object, Any, MISSING)
        and not getattr(annotation, "_is_protocol", False)
    )


def _alternatives(annotation: Any) -> Iterator[Any]:
    """Yield the classes that an annotation stands for, and `MISSING` where it could be any."""
    origin = get_origin(annotation)
    if annotation is None:
        yield type(None)
    elif origin is Annotated:
        yield from _alternatives(annotation.__origin__)
    elif origin is Union or origin is types.UnionType:
        for part in get_args(annotation):
            yield from _alternatives(part)
    elif origin is Literal:
        yield from (type(value) for value in get_args(annotation))
    elif isinstance(annotation, NewType):
        yield from _alternatives(annotation.__supertype__)
    elif isinstance(annotation, TypeVar):
        yield Any
    elif typing.is_typeddict(annotation):
        yield dict
    elif (origin or annotation) in _STREAMS:
        yield Any  # a stream is stored as a list
    else:
        yield origin or annotation


_STREAMS = (
    *(abc.Iterable, abc.Iterator, abc.Generator),
    *(abc.AsyncIterable, abc.AsyncIterator, abc.AsyncGenerator),
    *(abc.Awaitable, abc.Coroutine),
)


def _show(annotation: Any) -> str:
    return (
        annotation.__name__ if type(annotation) is type else str(annotation).replace("typing.", "")
    )
