"""The times that a store works with."""

from __future__ import annotations

from typing import NamedTuple


class Pace(NamedTuple):
    """The times that a store works with, in seconds: a lease, and the base of re-kicks."""

    lease: float
    kick: float
