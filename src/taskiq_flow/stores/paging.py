"""Places in listings and feeds as users hand them back, checked before a store is asked."""

from __future__ import annotations

import math

from taskiq_flow.exceptions import TrackingQueryError
from taskiq_flow.model.names import is_name
from taskiq_flow.model.numbers import MOST


def cursor_after(created_at: float, key: object) -> str:
    """The cursor of a page that ends with what was created then under this key."""
    return f"{created_at!r} {key}"


def place_of(cursor: str) -> tuple[float, str]:
    """The time and the key that a cursor stands for.

    Raises:
        TrackingQueryError: No page has given it.
    """
    moment, _, key = cursor.partition(" ") if is_name(cursor) else ("", "", "")
    try:
        created_at = float(moment)
    except ValueError:
        created_at = math.nan
    if not math.isfinite(created_at) or not key.isprintable() or not key:
        raise no_cursor(cursor)
    return created_at, key


def numbered_place_of(cursor: str) -> tuple[float, int]:
    """`place_of` where keys are numbers of rows.

    Raises:
        TrackingQueryError: No page has given it.
    """
    created_at, key = place_of(cursor)
    if not (key.isascii() and key.isdigit() and len(key) < 19):
        raise no_cursor(cursor)
    return created_at, int(key)


def no_cursor(cursor: object) -> TrackingQueryError:
    """The error about a cursor that no page has given."""
    shown = cursor[:100] if isinstance(cursor, str) else cursor
    return TrackingQueryError("cursor", shown, "is not the cursor of a page")


def checked_limit(limit: int, *, name: str = "limit", least: int = 1) -> int:
    """How many to show at most; a number that is too large for a database means all.

    Raises:
        TrackingQueryError: It is no whole number, or below the least.
    """
    # bool is an int, and what comes from JSON or a variable may be neither.
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < least:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TrackingQueryError(name, limit, f"must be a whole number of at least {least}")
    return min(limit, MOST)


def checked_position(after: int) -> int:
    """The number of an event or a line to go on behind; 0 is the beginning.

    Raises:
        TrackingQueryError: It is no whole number, or negative.
    """
    return checked_limit(after, name="after", least=0)
