"""Ids of runs: UUIDs of version 7, which sort by the time they were made."""

from __future__ import annotations

import os
import time
import uuid

_last = 0


def new_run_id() -> str:
    """A fresh UUIDv7 (RFC 9562): 48 bits of milliseconds, then random; later ones sort later.

    Within a millisecond 12 bits count up, so ids of one process never sort against their order.
    """
    global _last  # noqa: PLW0603 - the one counter of the process
    now = time.time_ns() // 1_000_000 << 12
    _last = max(_last + 1, now)
    stamp, counter = _last >> 12, _last & 0xFFF
    tail = int.from_bytes(os.urandom(8)) & ((1 << 62) - 1)
    value = (stamp & ((1 << 48) - 1)) << 80 | 7 << 76 | counter << 64 | 2 << 62 | tail
    return str(uuid.UUID(int=value))
