"""What observers are given, and what they offer to the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from taskiq_flow.model.records import EventRecord, RunStatus

Observer: TypeAlias = Callable[[EventRecord], None]
"""Is called in the event loop for each event, in order: puts it aside, and returns at once."""


class Feed(Protocol):
    """The part of a run store that events are read from; see `RunStore`."""

    async def feed(
        self, *, after: str | None = None, limit: int = 1000, wait_seconds: float = 0.0
    ) -> tuple[list[EventRecord], str]: ...

    async def events(
        self, run_id: str, *, after: int = 0, limit: int = 1000
    ) -> list[EventRecord]: ...

    async def ended_among(self, run_ids: Sequence[str]) -> dict[str, RunStatus]: ...


class Follower(Protocol):
    """One that hears of the runs of a broker's store in this process.

    None of these may raise, or take longer than a moment: runs and their callers wait for them.
    """

    async def begin(self) -> None:
        """Be ready to hear of what happens from now on; called before each start of a run."""
        ...

    async def settle(self, run_id: str) -> None:
        """Catch up with a run that has ended; its caller is about to be told."""
        ...

    async def end(self) -> None:
        """Leave; the broker shuts down in this process."""
        ...
