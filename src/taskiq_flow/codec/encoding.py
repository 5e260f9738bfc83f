"""Turns values into their tagged JSON form, and says where one has none."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import weakref
import zoneinfo
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn, cast
from uuid import UUID

from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

from taskiq_flow.codec.decoding import known_zones, looks_tagged, parse
from taskiq_flow.exceptions import UnserializableValueError

MAX_DEPTH = 200
"""Containers inside each other, flat ones at the bottom not counted.

Small enough for Python's own stack on both ends.
"""

TRUSTED: frozenset[type] = frozenset({NoneType, bool, int, float, str})
"""Types that JSON takes as they are, nearly always."""

CHECKED: frozenset[type] = frozenset({NoneType, bool})
"""Types that JSON takes as they are, always."""

_STRINGS: frozenset[type] = frozenset({str})
_COLLECTIONS: frozenset[type] = frozenset({list, tuple, set, frozenset})

_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode
_WRITERS: dict[type, Callable[[Any], str]] = {
    NoneType: lambda _: "null",
    bool: lambda value: "true" if value else "false",
    int: int.__repr__,
}

_PLAIN_DATA = "return plain data instead, or teach the codec this class with register_codec()"

# How a value was reached: the way to its container, its key or index there, its depth.
_Way = tuple[Any, object, int]
_Dump = Callable[["_Walk", Any, "_Way | None"], object]


def to_tagged(value: object, where: str, trusted: frozenset[type]) -> object:
    """Return the JSON form of a value, in which objects of a ``trusted`` type are themselves."""
    if type(value) in trusted:
        return value
    walk = _Walk(where, trusted)
    try:
        return walk.value(value, None)
    except RecursionError as error:
        walk.refuse(value, None, "its nesting exhausts the call stack; flatten it", error)


def to_json(plain: object) -> str:
    """Write a JSON form; the commonest ones without an encoder, which is made anew each time.

    Raises:
        ValueError: A float is not finite, or an integer is too long for decimal text.
    """
    return _WRITERS.get(type(plain), _encode)(plain)


def register_dump(cls: type, tag: str, dump: Callable[[Any], object]) -> None:
    """Write instances of a class, and of its subclasses, as what ``dump`` returns under a tag."""
    _REGISTERED[cls] = _tagged(tag, dump)
    _RESOLVED.clear()


def is_known(cls: type) -> bool:
    """Say whether a class has a stored form of its own, which no user may replace."""
    return cls in TRUSTED or cls in _BUILT_IN


def comes_back_whole(value: object) -> bool:
    """Say whether a value comes back as exactly what it is without an annotation."""
    kind = type(value)
    if kind in _WHOLE or kind in _REGISTERED:
        return True
    if kind is dict:
        pairs = cast("dict[object, object]", value).items()
        return all(comes_back_whole(key) and comes_back_whole(item) for key, item in pairs)
    if kind in _COLLECTIONS:
        return all(comes_back_whole(item) for item in cast("Iterable[object]", value))
    return False


def type_name(cls: type) -> str:
    """Return the name by which errors call a class, with its module unless it is built in."""
    module = cls.__module__
    return cls.__qualname__ if module == "builtins" else f"{module}.{cls.__qualname__}"


class _Walk:
    """One pass over a value that returns its JSON form and shares what is JSON already."""

    __slots__ = ("records", "trusted", "where")

    def __init__(self, where: str, trusted: frozenset[type]) -> None:
        self.where = where
        self.trusted = trusted  # types that JSON takes as they are
        self.records = 0  # models and dataclasses around the current value

    def value(self, value: object, way: _Way | None) -> object:
        kind = type(value)
        if kind in self.trusted:
            return value
        dump = _BUILT_IN.get(kind) or _RESOLVED.get(kind) or _resolve(kind)
        return dump(self, value, way)

    def items(self, values: Iterable[Any], way: _Way | None) -> list[object]:
        depth, trusted, value = self.deeper(values, way), self.trusted, self.value
        return [
            item if type(item) in trusted else value(item, (way, index, depth))
            for index, item in enumerate(values)
        ]

    def deeper(self, container: object, way: _Way | None) -> int:
        depth = 1 if way is None else way[2] + 1
        if depth > MAX_DEPTH:
            why = f"it is more than {MAX_DEPTH} levels deep, or contains itself; flatten it"
            self.refuse(container, way, why)
        return depth

    def refuse(
        self, value: object, way: _Way | None, why: str, cause: Exception | None = None
    ) -> NoReturn:
        name = type_name(type(value))
        raise UnserializableValueError(self.where, _path(way), name, why) from cause


def _dump_list(walk: _Walk, value: list[Any], way: _Way | None) -> object:
    if walk.trusted.issuperset(map(type, value)):
        return value
    return walk.items(value, way)


def _dump_dict(walk: _Walk, pairs: dict[Any, Any], way: _Way | None) -> object:
    trusted, value = walk.trusted, walk.value
    if str in trusted and _STRINGS.issuperset(map(type, pairs)) and not looks_tagged(pairs):
        if trusted.issuperset(map(type, pairs.values())):
            return pairs
        depth = walk.deeper(pairs, way)
        return {
            key: item if type(item) in trusted else value(item, (way, key, depth))
            for key, item in pairs.items()
        }
    depth = walk.deeper(pairs, way)
    keys = [value(key, (way, _Key(key), depth)) for key in pairs]
    items = [value(item, (way, key, depth)) for key, item in pairs.items()]
    if not all(map(comes_back_whole, pairs)) and not _stay_apart(keys, unhashable=False):
        walk.refuse(pairs, way, "some of its keys would be unhashable, or equal, when read back")
    if _STRINGS.issuperset(map(type, keys)):
        plain = cast("dict[str, object]", dict(zip(keys, items, strict=True)))
        if not looks_tagged(plain):
            return plain
    return {"$dict": [list(pair) for pair in zip(keys, items, strict=True)]}


def _dump_set(walk: _Walk, value: set[Any] | frozenset[Any], way: _Way | None) -> object:
    items = walk.items(value, way)
    if not all(map(comes_back_whole, value)) and not _stay_apart(items, unhashable=True):
        walk.refuse(value, way, "some of its items would be equal when read back")
    # The order of a set differs from process to process; its bytes shall not.
    return {"$frozenset" if isinstance(value, frozenset) else "$set": sorted(items, key=repr)}


def _dump_tuple(walk: _Walk, value: tuple[Any, ...], way: _Way | None) -> object:
    return {"$tuple": walk.items(value, way)}


def _dump_int(_walk: _Walk, value: int, _way: _Way | None) -> object:
    plain = int.__int__(value)
    return {"$int": hex(plain)} if plain.bit_length() > 2048 else plain


def _dump_float(_walk: _Walk, value: float, _way: _Way | None) -> object:
    plain = float.__float__(value)
    return plain if math.isfinite(plain) else {"$float": repr(plain)}


def _dump_str(_walk: _Walk, value: str, _way: _Way | None) -> object:
    plain = str.__str__(value)
    try:
        plain.encode()
    except UnicodeEncodeError:
        return {"$str": base64.b64encode(plain.encode("utf-8", "surrogatepass")).decode()}
    return plain


def _dump_datetime(walk: _Walk, value: datetime | time, way: _Way | None) -> object:
    base = datetime if isinstance(value, datetime) else time
    text = base.isoformat(cast("Any", value))
    zone = value.tzinfo
    if isinstance(zone, zoneinfo.ZoneInfo) and zone.key in known_zones():
        text += f"[{zone.key}]"
    elif zone is not None and value.utcoffset() is None:
        walk.refuse(value, way, "its time zone has no fixed offset; use a ZoneInfo with a name")
    # A subclass may count nanoseconds, or mean "no time at all".
    if type(value) is not base and base.fromisoformat(text.partition("[")[0]) != value:
        walk.refuse(value, way, f"it says more than a {base.__name__} can; convert it first")
    return {f"${base.__name__}": text}


def _dump_timedelta(walk: _Walk, value: timedelta, way: _Way | None) -> object:
    parts = [value.days, value.seconds, value.microseconds]
    if timedelta(*parts) != value:
        walk.refuse(value, way, "it says more than a timedelta can; convert it first")
    return {"$timedelta": parts}


def _dump_enum(walk: _Walk, value: Enum, way: _Way | None) -> object:
    return walk.value(value.value, way)


def _dump_model(walk: _Walk, value: BaseModel, way: _Way | None) -> object:
    try:
        # Python mode keeps the types of nested values; round trip leaves computed fields out.
        fields = value.model_dump(by_alias=False, round_trip=True, warnings=False)
    except Exception as error:  # noqa: BLE001 - serializers are foreign code
        walk.refuse(value, way, f"its model_dump() failed ({error})", error)
    return _dump_record(walk, fields, way)


def _dump_dataclass(walk: _Walk, value: Any, way: _Way | None) -> object:
    # Fields with init=False are computed again when the dataclass is rebuilt.
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
    return _dump_record(walk, fields, way)


def _dump_record(walk: _Walk, fields: object, way: _Way | None) -> object:
    walk.records += 1
    try:
        return walk.value(fields, way)
    finally:
        walk.records -= 1


def _dump_unknown(walk: _Walk, value: object, way: _Way | None) -> object:
    for classes, why in _NEVER_STORED:
        if isinstance(value, classes):
            walk.refuse(value, way, why)
    if not walk.records:
        walk.refuse(value, way, _PLAIN_DATA)
    try:
        # The annotation that rebuilds the record rebuilds this field as well.
        plain = to_jsonable_python(value)
    except ValueError as error:
        walk.refuse(value, way, _PLAIN_DATA, error)
    return walk.value(plain, way)


def _tagged(tag: str, dump: Callable[[Any], object]) -> _Dump:
    def dump_tagged(walk: _Walk, value: object, way: _Way | None) -> object:
        depth = walk.deeper(value, way)
        try:
            plain = dump(value)
        except Exception as error:  # noqa: BLE001 - dump is foreign code
            walk.refuse(value, way, f"the dump function of its codec failed ({error})", error)
        return {tag: walk.value(plain, (way, tag, depth))}

    return dump_tagged


def _resolve(kind: type) -> _Dump:
    dump = _RESOLVED[kind] = _find_dump(kind)
    return dump


def _find_dump(kind: type[object]) -> _Dump:
    for base in kind.__mro__:
        if base in _REGISTERED:
            return _REGISTERED[base]
    if issubclass(kind, Enum):
        return _dump_enum
    if issubclass(kind, BaseModel):
        return _dump_model
    if dataclasses.is_dataclass(kind):
        return _dump_dataclass
    return next((_BUILT_IN[base] for base in kind.__mro__ if base in _BUILT_IN), _dump_unknown)


def _stay_apart(items: list[object], *, unhashable: bool) -> bool:
    """Say whether items are still different once read back; else a dict would lose some."""
    try:
        return len({parse(to_json(item).encode()) for item in items}) == len(items)
    except TypeError:
        return unhashable


@dataclasses.dataclass(frozen=True, slots=True)
class _Key:
    """Stands in a way for a key itself, where the key alone would mean its value."""

    key: object


def _path(way: _Way | None) -> str:
    steps: list[str] = []
    while way is not None:
        way, step, _ = way
        if isinstance(step, _Key):
            steps.append(".keys()")
        elif isinstance(step, str) and step.isidentifier():
            steps.append(f".{step}")
        else:
            steps.append(f"[{step!r:.60}]")
    steps.reverse()
    if len(steps) > 20:
        steps[10:-10] = ["…"]
    return "$" + "".join(steps)


_BUILT_IN: dict[type, _Dump] = {
    bool: lambda _walk, value, _way: value,
    dict: _dump_dict,
    int: _dump_int,
    float: _dump_float,
    str: _dump_str,
    tuple: _dump_tuple,
    set: _dump_set,
    frozenset: _dump_set,
    list: _dump_list,
    bytes: lambda _walk, value, _way: {"$bytes": base64.b64encode(value).decode()},
    datetime: _dump_datetime,
    time: _dump_datetime,
    date: lambda _walk, value, _way: {"$date": date.isoformat(value)},
    timedelta: _dump_timedelta,
    UUID: lambda _walk, value, _way: {"$uuid": str(value)},
    Decimal: lambda _walk, value, _way: {"$decimal": Decimal.__str__(value)},
    Path: lambda walk, value, way: {"$path": walk.value(str(value), way)},
}
_NEVER_STORED: tuple[tuple[tuple[type, ...], str], ...] = (
    ((Awaitable,), "await it before it is returned"),
    ((Iterator, AsyncIterator), "it can be read only once; return a list of its items"),
    ((SecretStr, SecretBytes, Secret), "secrets are never stored; return the secret's name"),
)
_WHOLE = TRUSTED | (_BUILT_IN.keys() - _COLLECTIONS - {dict}) | {type(Path())}

# What the user registered, and what was found for subclasses (which may come and go).
_REGISTERED: dict[type, _Dump] = {}
_RESOLVED: weakref.WeakKeyDictionary[type, _Dump] = weakref.WeakKeyDictionary()
