"""Errors that a store records itself."""

from __future__ import annotations

from typing import Final

DEADLINE_ERROR: Final = b"#deadline"
POISON_ERROR: Final = b"#poison"
EVENT_TIMEOUT_ERROR: Final = b"#event-timeout"
"""Errors that the store itself records have a code; everybody else's are JSON."""
