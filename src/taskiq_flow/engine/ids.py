"""Ids of runs (UUIDs of version 7, which sort by the time they were made) and tokens of leases."""

from __future__ import annotations

import hashlib
import os
import random
import time

MARK = 6
"""So many characters of a worker's id are its mark, for people: nothing relies on it."""

MARKED = MARK + 16
"""So long is a token with a mark."""

_last = 0

# Seeded by the system once in each process. Asking the system each time costs more than the rest
# of a step's bookkeeping. Ids and tokens tell things apart; they are no secrets.
_random = random.Random()  # noqa: S311
os.register_at_fork(after_in_child=_random.seed)


def new_run_id() -> str:
    """A fresh UUIDv7 (RFC 9562): 48 bits of milliseconds, then random; later ones sort later.

    Within a millisecond 12 bits count up, so ids of one process never sort against their order.
    """
    global _last  # noqa: PLW0603 - the one counter of the process
    _last = max(_last + 1, time.time_ns() // 1_000_000 << 12)
    stamp, counter = (_last >> 12) & ((1 << 48) - 1), _last & 0xFFF
    tail = _random.getrandbits(62) | 2 << 62
    return _written(stamp, counter, tail)


def derived_run_id(at: float, *facts: object) -> str:
    """The one UUIDv7 that follows from a time and some facts: whoever asks gets the same.

    A run under it is created once, however many processes try to.
    """
    digest = hashlib.sha256(repr(facts).encode()).digest()
    stamp, counter = int(at * 1000) & ((1 << 48) - 1), int.from_bytes(digest[:2]) & 0xFFF
    tail = int.from_bytes(digest[2:10]) & ((1 << 62) - 1) | 2 << 62
    return _written(stamp, counter, tail)


def new_token(mark: str = "") -> str:
    """A fresh token, made by the worker for its next lease: 64 random bits behind its mark."""
    return f"{mark}{_random.getrandbits(64):016x}"


def _written(stamp: int, counter: int, tail: int) -> str:
    text = f"{stamp << 16 | 7 << 12 | counter:016x}{tail:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
