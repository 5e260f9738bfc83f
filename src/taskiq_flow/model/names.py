"""What names and other texts of a run may be, so that every store can keep them."""

from __future__ import annotations

from taskiq_flow.exceptions import InvalidNameError

LONGEST_NAME = 1000
"""Bytes of UTF-8: what every index of a database takes."""


def is_name(text: object) -> bool:
    """Whether it is text of 1 to `LONGEST_NAME` bytes, without NUL and lone surrogates."""
    if not isinstance(text, str) or not 1 <= len(text) <= LONGEST_NAME or "\x00" in text:
        return False
    try:
        return len(text.encode()) <= LONGEST_NAME
    except UnicodeEncodeError:
        return False


def check_name(what: str, text: object) -> None:
    """Refuse what is no name.

    Raises:
        InvalidNameError: It is none.
    """
    if not is_name(text):
        raise InvalidNameError(what, text, LONGEST_NAME)


def storable(text: object) -> str:
    """Anybody's words, a reason for example, as text that every store can keep.

    What Python makes of a file name that is not UTF-8 is no text for a database: it is escaped.
    """
    return "" if text is None else str(text).encode(errors="backslashreplace").decode()
