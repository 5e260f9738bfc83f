"""A clock that a test moves by hand."""

from __future__ import annotations


class ManualClock:
    """Seconds since the epoch, which pass only when told to.

    It begins at a date of today's size, so that a store which keeps too few digits of a time is
    found out.
    """

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            ValueError: The time would go back.
        """
        if seconds < 0:
            raise ValueError(f"A clock goes forward only, not by {seconds} s.")
        self._now += seconds
