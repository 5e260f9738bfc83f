"""Values in the form in which adapters write them."""

from __future__ import annotations

import reprlib
from typing import Any

from taskiq_flow.codec import decode, encode


def read_value(body: bytes) -> Any:
    """The value that `write_value` was given."""
    return decode(body)


def write_value(key: str, value: object, limit: int | None = None) -> bytes:
    """Write a value as JSON, the same bytes for the same value in every process.

    Raises:
        UnserializableValueError: There is something in it that has no stored form.
        PayloadTooLargeError: It takes more bytes than ``limit``.
    """
    return encode(value, where=f"value of {reprlib.repr(key)}", limit=limit)
