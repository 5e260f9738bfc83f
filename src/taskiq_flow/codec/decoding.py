"""Turns tagged JSON back into values, and values into what an annotation asks for."""

from __future__ import annotations

import base64
import functools
import inspect
import json
import math
import zoneinfo
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast, get_args, get_origin
from uuid import UUID

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from taskiq_flow.exceptions import UndecodableValueError


def parse(data: bytes) -> Any:
    """Read tagged JSON; the tags of `codec` and of registered codecs select what is built."""
    try:
        text = str(data, "utf-8")
        value, end = (_read_tagged if '"$' in text else _read_plain)(text)
        if end != len(text):
            raise ValueError(f"{len(text) - end} characters follow the value")
    except Exception as error:  # load functions are foreign code, and the bytes may be hostile
        raise UndecodableValueError("tagged JSON", f"{type(error).__name__}: {error}") from error
    return value


def _load_tagged(pairs: dict[str, Any]) -> Any:
    if not looks_tagged(pairs):
        return pairs
    ((tag, payload),) = pairs.items()
    load = LOADERS.get(tag)
    if load is None:
        raise ValueError(f"no codec has the tag {tag!r:.60}; call register_codec() here as well")
    return load(payload)


def looks_tagged(pairs: dict[str, Any]) -> bool:
    """Say whether an object is read as a tag, and a dict must therefore be written as pairs."""
    return len(pairs) == 1 and next(iter(pairs))[:1] == "$"


# Called from the innermost object outwards, so a payload is rebuilt before its tag is seen.
_read_tagged = json.JSONDecoder(object_hook=_load_tagged).raw_decode
_read_plain = json.JSONDecoder().raw_decode


def fit(value: Any, annotation: Any) -> Any:
    """Rebuild a value that was read as an annotation wants it."""
    if (get_origin(annotation) or annotation) is Iterable:
        # Pydantic would hand out a generator, which can be read only once.
        container_of = _CONTAINER_OF.get(type(cast("object", value)))
        if container_of is None:
            return value
        annotation = container_of((*get_args(annotation), Any)[0])
    try:
        return _adapter_of(annotation).validate_python(
            (value,),
            strict=False,  # a strict model was checked when made; its enums are values now
            by_name=True,
        )[0]
    except ValidationError as error:
        why, cause = _first_faults(error), error
    except PydanticUserError as error:
        if error.code == "typed-dict-version":
            return value  # Python 3.11's own TypedDict, which Pydantic refuses to read
        why, cause = error.message, error
    except Exception as error:  # noqa: BLE001 - validators are foreign code
        why, cause = f"{type(error).__name__}: {error}", error
    raise UndecodableValueError(inspect.formatannotation(annotation), why) from cause


def _adapter_of(annotation: Any) -> TypeAdapter[Any]:
    try:
        hash(annotation)
    except TypeError:  # Annotated with something unhashable
        return _adapter.__wrapped__(annotation)
    return _adapter(annotation)


@functools.lru_cache(maxsize=1024)
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    # In a tuple, because a config is refused for a bare model or dataclass, yet both may have
    # fields of registered classes, which Pydantic calls arbitrary types.
    config = ConfigDict(arbitrary_types_allowed=True)
    return TypeAdapter(_TUPLE_OF(annotation), config=config)


def _first_faults(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_context=False, include_input=False)[:3]
    return "; ".join(
        f"{''.join(f'[{step!r:.60}]' for step in fault['loc'][1:])} {fault['msg']}".strip()
        for fault in faults
    )


def _load_float(text: str) -> float:
    return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[text]


def _load_set(payload: list[Any]) -> set[Any] | list[Any]:
    items = list(payload)
    try:
        return set(items)
    except TypeError:
        return items  # models and dataclasses, until an annotation makes them hashable again


def _load_frozenset(payload: list[Any]) -> frozenset[Any] | list[Any]:
    items = _load_set(payload)
    return frozenset(items) if isinstance(items, set) else items


def _load_datetime(text: str) -> datetime:
    stamp, _, zone = text.partition("[")
    moment = datetime.fromisoformat(stamp)
    if not zone:
        return moment
    for fold in (0, 1):
        local = moment.replace(tzinfo=_zone(zone), fold=fold)
        if local.utcoffset() == moment.utcoffset():
            return local
    return moment  # this machine has other rules for the zone: keep the instant


def _load_time(text: str) -> time:
    stamp, _, zone = text.partition("[")
    clock = time.fromisoformat(stamp)
    return clock.replace(tzinfo=_zone(zone)) if zone else clock


def _load_timedelta(parts: list[int]) -> timedelta:
    days, seconds, microseconds = parts
    return timedelta(days, seconds, microseconds)


def _zone(text: str) -> zoneinfo.ZoneInfo:
    key = text.removesuffix("]")
    # ZoneInfo looks for files and packages by this name, so only known names reach it.
    if key not in known_zones():
        raise ValueError(f"the time zone {key!r:.60} is unknown here; install tzdata")
    return zoneinfo.ZoneInfo(key)


@functools.cache
def known_zones() -> frozenset[str]:
    """Return the names of the time zones that this machine can rebuild."""
    return frozenset(zoneinfo.available_timezones())


_TUPLE_OF: Callable[[Any], Any] = lambda item: tuple[item]  # noqa: E731 - no type expression
_CONTAINER_OF: dict[type, Callable[[Any], Any]] = {
    list: lambda item: list[item],
    tuple: lambda item: tuple[item, ...],
    set: lambda item: set[item],
    frozenset: lambda item: frozenset[item],
}
LOADERS: dict[str, Callable[[Any], Any]] = {
    "$float": _load_float,
    "$int": lambda text: int(text, 16),
    "$str": lambda text: base64.b64decode(text, validate=True).decode("utf-8", "surrogatepass"),
    "$bytes": lambda text: base64.b64decode(text, validate=True),
    "$tuple": tuple,
    "$set": _load_set,
    "$frozenset": _load_frozenset,
    "$dict": dict,
    "$datetime": _load_datetime,
    "$date": date.fromisoformat,
    "$time": _load_time,
    "$timedelta": _load_timedelta,
    "$uuid": UUID,
    "$decimal": Decimal,
    "$path": Path,
}
