"""Turns the values that steps take and return into one tagged JSON form, and back.

`None`, booleans, strings, finite floats, integers, lists, and dicts whose keys are strings are
their own JSON. Everything else is an object with one key, a tag:

========================  =====================================================================
Python                    JSON
========================  =====================================================================
`nan`, `inf`, `-inf`      `{"$float": "nan"}`, `{"$float": "inf"}`, `{"$float": "-inf"}`
`int` beyond 2,048 bits   `{"$int": "-0x1f…"}`, only where decimal text would be refused
`str` with surrogates     `{"$str": base64 of UTF-8, each surrogate as three bytes}`
`bytes`                   `{"$bytes": base64}`
`tuple`                   `{"$tuple": [item, …]}`
`set`, `frozenset`        `{"$set": [item, …]}`, `{"$frozenset": [item, …]}`, in a fixed order
any other `dict`          `{"$dict": [[key, value], …]}`; also a dict that looks like a tag
`datetime`                `{"$datetime": "2026-03-01T12:00:00+01:00[Europe/Paris]"}`
`date`, `time`            `{"$date": "2026-03-01"}`, `{"$time": "12:00:00"}`
`timedelta`               `{"$timedelta": [days, seconds, microseconds]}`
`UUID`, `Decimal`         `{"$uuid": "…"}`, `{"$decimal": "1.10"}`
`Path`                    `{"$path": "a/b"}`
a registered class        `{"$<its tag>": whatever its dump function returned}`
========================  =====================================================================

All of these come back as what they were, with or without an annotation. Four things carry no tag,
because rebuilding them takes a class, and a class is never found by a stored name: they come back
through the annotation of the code that reads them. Without one

- a Pydantic model and a dataclass are a dict of their fields,
- a named tuple is a tuple,
- an `Enum` member is its value,
- a set of models or dataclasses is a list of dicts.

Subclasses come back as the class they extend (`OrderedDict` as `dict`), time zones other than
`ZoneInfo` as their offset, `fold` only where it changes the offset. Fields of models and
dataclasses may also hold what Pydantic can write as JSON (URLs, IP addresses, deques); secrets
are refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from taskiq_flow.codec.decoding import LOADERS, fit, parse
from taskiq_flow.codec.encoding import (
    CHECKED,
    TRUSTED,
    is_known,
    register_dump,
    to_json,
    to_tagged,
    type_name,
)
from taskiq_flow.exceptions import (
    CodecRegistrationError,
    PayloadTooLargeError,
    UnserializableValueError,
)

DEFAULT_LIMIT = 16 * 1024 * 1024
"""Bytes that one encoded value may take."""

T = TypeVar("T")


def encode(value: object, *, where: str, limit: int | None = DEFAULT_LIMIT) -> bytes:
    """Write a value as compact UTF-8 JSON, the same bytes in every process.

    ``where`` is what errors call the value, such as ``"result of step 'load'"``.

    Raises:
        UnserializableValueError: Something inside is of no known type, is nested too deeply or
            contains itself, or could not be told apart from its neighbours when it comes back.
        PayloadTooLargeError: The bytes are more than ``limit``.
    """
    try:
        data = to_json(to_tagged(value, where, TRUSTED)).encode()
    except UnserializableValueError:
        raise
    except ValueError:
        # Rare: NaN, a lone surrogate or a huge integer. Look at every number and string.
        data = to_json(to_tagged(value, where, CHECKED)).encode()
    if limit is not None and len(data) > limit:
        fix = "Return a reference to the data (a path, a key, a URL) instead, or raise the limit"
        raise PayloadTooLargeError(where, len(data), limit, fix)
    return data


def decode(data: bytes, annotation: Any = Any) -> Any:
    """Read what `encode` wrote, as the annotation of the code that asked for it.

    A value that already is an instance of a plain class annotation stays as it is; every other
    annotation is Pydantic's, in its lax mode. ``Iterable[X]`` keeps the container it finds. On
    Python 3.11 a ``typing.TypedDict`` anywhere in it leaves the value as it is, since Pydantic
    reads only that of ``typing_extensions`` there.

    Raises:
        UndecodableValueError: The bytes are not of this form, or do not fit the annotation.
    """
    value = parse(data)
    if annotation is Any or annotation in type(value).__mro__:
        return value
    if annotation is inspect.Parameter.empty:
        return value
    return fit(value, annotation)


def register_codec(
    cls: type[T], tag: str, dump: Callable[[T], object], load: Callable[[Any], T]
) -> None:
    """Teach the codec a class of yours, in every process that reads or writes it.

    ``dump`` returns any value that the codec knows; ``load`` is given that value back, and must
    treat it as data from outside. Subclasses without a codec of their own are written the same
    way. Registering the class again under its tag replaces the functions.

    Raises:
        CodecRegistrationError: The tag belongs to something else, or the class has a form already.
    """
    name, key = type_name(cls), f"${tag}"
    if not tag or tag.startswith("$"):
        raise CodecRegistrationError(name, f"its tag {tag!r} is empty or starts with '$'")
    if is_known(cls):
        raise CodecRegistrationError(name, "the codec knows this class already")
    if key in LOADERS and _TAG_OWNERS.get(key) != name:
        owner = _TAG_OWNERS.get(key, "the codec itself")
        raise CodecRegistrationError(name, f"its tag {tag!r} belongs to {owner}")
    _TAG_OWNERS[key] = name
    LOADERS[key] = load
    register_dump(cls, key, dump)


_TAG_OWNERS: dict[str, str] = {}
