"""Stored values, as bytes or as a sequence of them."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

NONE_VALUE = b"null"
"""The stored form of ``None``, which a failed step leaves for those who read it."""


class SequenceValue(NamedTuple):
    """Stands for a value that is stored item by item, under ``key``."""

    key: int
    length: int


Value: TypeAlias = bytes | SequenceValue
