"""Counts and times as users give them, checked before anything leans on them."""

from __future__ import annotations

import math
from typing import Final, TypeGuard

from taskiq_flow.exceptions import InvalidTaskOptionError

MOST: Final = 2**31 - 2
"""Above all counts that make sense; one more still fits a column of 32 bits."""

LONGEST_SECONDS: Final = 100 * 365 * 24 * 3600
"""A hundred years: every moment that is so far away is still a date."""


def is_count(value: object, least: int = 1) -> TypeGuard[int]:
    """Whether it is a whole number from ``least`` on that every store can keep."""
    # bool is an int, and what comes from JSON or a variable may be neither.
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number that can be reckoned with: no bool, not infinite, not NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    # math.isfinite() of a whole number that no float can hold is an OverflowError.
    return abs(value) < 2**1023 and not math.isnan(value)


def check_count(option: str, value: object, *, least: int = 1) -> None:
    """Refuse what is no count; None says nothing.

    Raises:
        InvalidTaskOptionError: It is no whole number, too small, or too large for a store.
    """
    if value is None or is_count(value, least):
        return
    if not isinstance(value, int) or isinstance(value, bool):
        rule = "must be a whole number"
    elif value > MOST:
        rule = f"must be at most {MOST:,}"
    else:
        rule = f"must be {least} or more" if least else "must be non-negative"
    raise InvalidTaskOptionError(option, value, rule)


def check_seconds(option: str, value: object) -> None:
    """Refuse what is no length of time; None says nothing.

    Raises:
        InvalidTaskOptionError: It is no number, not positive, or more than a hundred years.
    """
    if value is None:
        return
    if not is_number(value):
        raise InvalidTaskOptionError(option, value, "must be a number of seconds")
    if value <= 0:
        raise InvalidTaskOptionError(option, value, "must be positive")
    if value > LONGEST_SECONDS:
        raise InvalidTaskOptionError(option, value, "must be at most a hundred years, in seconds")
