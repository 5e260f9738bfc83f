"""What keys, patterns and times to live may be, the same for every adapter."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from taskiq_flow.exceptions import StorageUseError

MAX_KEY_BYTES: Final = 1024
"""Bytes of UTF-8 in a key: what every index of a database takes."""

MAX_PATTERN_BYTES: Final = 8 * MAX_KEY_BYTES
"""No database sees a whole pattern, so this only bounds the work."""

MAX_TTL_SECONDS: Final = 100 * 365 * 24 * 3600
"""A hundred years; what is to stay longer has no time to live."""

_MAGIC = re.compile(r"[*?\[]")


class KeyPattern(NamedTuple):
    """A glob: the text that all its keys begin with, and the whole question."""

    prefix: str
    matches: Callable[[str], bool]


def key_bytes(key: str) -> bytes:
    """A key as databases keep it: any text has bytes of its own, NUL and lone surrogates too.

    Raises:
        StorageUseError: It is no text, is empty, or is too long.
    """
    return _bytes("key", key, MAX_KEY_BYTES)


def key_text(data: bytes) -> str:
    """The key that `key_bytes` was given."""
    return data.decode("utf-8", "surrogatepass")


def parse_pattern(pattern: str) -> KeyPattern:
    """Read a glob as `fnmatch.fnmatchcase` does: ``*``, ``?``, ``[abc]``, ``[!abc]``.

    Raises:
        StorageUseError: It is no text, is empty, or is too long.
    """
    _bytes("pattern", pattern, MAX_PATTERN_BYTES)
    magic = _MAGIC.search(pattern)
    whole = re.compile(fnmatch.translate(pattern))

    def matches(key: str) -> bool:
        return whole.match(key) is not None

    return KeyPattern(pattern if magic is None else pattern[: magic.start()], matches)


def escape_pattern(text: str) -> str:
    """Make the part of a pattern that matches just this text."""
    return _MAGIC.sub(r"[\g<0>]", text)


def check_ttl(name: str, seconds: float | None) -> float | None:
    """Return a time to live as it came.

    Raises:
        StorageUseError: It is not a positive number of seconds up to a hundred years.
    """
    if seconds is None:
        return None
    # bool is an int, and what comes from JSON or a variable may be neither.
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise StorageUseError(name, seconds, "is no number of seconds; use None for no limit")
    if not 0 < seconds <= MAX_TTL_SECONDS or math.isnan(seconds):
        rule = "must be more than 0 and at most a hundred years; use None for no limit"
        raise StorageUseError(name, seconds, rule)
    return seconds


def _bytes(name: str, text: str, most: int) -> bytes:
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise StorageUseError(name, text, f"is a {type(text).__name__}, not a str")
    if not text:
        raise StorageUseError(name, text, "is empty")
    data = text.encode("utf-8", "surrogatepass")
    if len(data) > most:
        rule = f"takes {len(data):,} bytes of UTF-8; at most {most:,} are possible"
        raise StorageUseError(name, text, f"{rule}, so use a hash of it")
    return data
