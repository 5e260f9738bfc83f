"""Limits that hold for the whole installation: how many at once, and how many in a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from taskiq_flow.exceptions import InvalidTaskOptionError
from taskiq_flow.model.names import is_name
from taskiq_flow.model.numbers import is_count, is_number
from taskiq_flow.model.records import Limit

Rate: TypeAlias = str | float
"""``"10/s"``, ``"100/m"``, ``"5/2h"``; or a number of starts in a second."""

Limits: TypeAlias = Limit | Sequence[Limit]

LONGEST_KEY = 200
"""A limit's key is part of keys and rows of the store."""

TOGETHER_SECONDS = 0.1
"""Starts that are due within so much time may come together: a worker is late by some of it."""

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NAMES = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
}
_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)?\s*([a-z]+)\s*", re.IGNORECASE)
_RATE_RULE = 'must be like "10/s", "100/m", "5/2h" or "1000/day", with numbers above 0'


def limit(
    *,
    key: str,
    max: int | None = None,  # noqa: A002 - the documented name
    rate: Rate | None = None,
    burst: int | None = None,
) -> Limit:
    """Make a limit that all steps share which name its key, in all runs and on all workers.

    ``max`` of them run at once, ``rate`` of them start in a time. Starts are evenly spaced, after
    ``burst`` that may come together: ``"100/m"`` is one every 0.6 s. Left out, those of a tenth of
    a second may: one of ``"10/s"``, ten of ``"100/s"``.

    Raises:
        InvalidTaskOptionError: There is no key, nothing is limited, or a number makes no sense.
    """
    _require("key", key, _is_key(key), f"must be a name of at most {LONGEST_KEY} characters")
    given = max is not None or rate is not None
    _require("limit", key, given, "must say max=, rate= or both, beside the key")
    _require("max", max, max is None or is_count(max), "must be a whole number, 1 or more")
    good = burst is None or is_count(burst)
    _require("burst", burst, good, "must be a whole number, 1 or more")
    _require("burst", burst, burst is None or rate is not None, "needs a rate= beside it")
    if rate is None:
        return Limit(key, max)
    return rated(key, parse_rate(rate), most=max, burst=burst)


def rated(
    key: str, per_second: float, *, most: int | None = None, burst: int | None = None
) -> Limit:
    """A limit of so many starts in a second."""
    together = int(per_second * TOGETHER_SECONDS) if burst is None else burst
    return Limit(key, most, per_second, max(1, together))


def parse_rate(rate: Rate) -> float:
    """Turn ``"100/m"`` into starts in a second.

    Raises:
        InvalidTaskOptionError: It is written in another way, or is not above 0.
    """
    if is_number(rate):
        _require("rate", rate, rate > 0, _RATE_RULE)
        return float(rate)
    found = _RATE.fullmatch(rate) if isinstance(rate, str) else None
    unit = None if found is None else _NAMES.get(found[3].lower())
    if found is None or unit is None:
        raise InvalidTaskOptionError("rate", rate, _RATE_RULE)
    starts, seconds = float(found[1]), float(found[2] or 1) * _SECONDS[unit]
    _require("rate", rate, starts > 0 and seconds > 0, _RATE_RULE)
    return starts / seconds


def read_limits(given: Limits) -> tuple[Limit, ...]:
    """The limits of an option that takes one or several.

    Raises:
        InvalidTaskOptionError: Something else is among them.
    """
    many = tuple(given) if isinstance(given, Sequence) else (given,)
    for each in many:
        _require("limit", each, _is_limit(each), "must be made with limit(key=..., max=...)")
    return many


def merge_limits(limits: Sequence[Limit]) -> tuple[Limit, ...]:
    """One limit for each key, the strictest of those that were given."""
    merged: dict[str, Limit] = {}
    for each in limits:
        known = merged.get(each.key)
        merged[each.key] = each if known is None else _strictest(known, each)
    return tuple(merged.values())


def _strictest(one: Limit, other: Limit) -> Limit:
    rated = [each for each in (one, other) if each.per_second is not None]
    slowest = min(rated, key=lambda each: each.per_second or 0.0, default=one)
    return Limit(
        one.key,
        most=min((x.most for x in (one, other) if x.most is not None), default=None),
        per_second=slowest.per_second,
        burst=min((x.burst for x in rated), default=1),
    )


def _is_key(value: object) -> bool:
    if not isinstance(value, str) or not is_name(value):
        return False
    return bool(value.strip()) and len(value) <= LONGEST_KEY


def _is_limit(value: object) -> bool:
    return isinstance(value, Limit)


def _require(option: str, value: object, good: bool, rule: str) -> None:
    if not good:
        raise InvalidTaskOptionError(option, value, rule)
