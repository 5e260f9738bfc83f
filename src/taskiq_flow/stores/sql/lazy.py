"""Parts of a run's state that are fetched when a rule first looks at them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol, TypeAlias

from taskiq_flow.model.state import SlotState, StepState

At: TypeAlias = tuple[int, int]

BLOCKED_AT_ONCE = 4
"""Slots behind a run's own limit that are fetched together; one ending lets go of one."""


class Source(Protocol):
    """Where the parts come from; it puts them into the state itself."""

    def fetch_step(self, index: int) -> None: ...

    def fetch_slot(self, at: At) -> None: ...

    def fetch_blocked(self, after: int, limit: int) -> Sequence[tuple[At, int]]: ...

    def fetch_payload(self, name: str) -> bytes | None: ...


class LazySteps(dict[int, StepState]):
    """All steps of a run; ``in`` and iteration only know those that are here."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source

    def __missing__(self, index: int) -> StepState:
        self._source.fetch_step(index)
        return super().__getitem__(index)


class LazySlots(dict[At, SlotState]):
    """All slots of a run; ``in`` and iteration only know those that are here."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source

    def __missing__(self, at: At) -> SlotState:
        self._source.fetch_slot(at)
        return super().__getitem__(at)

    def get(self, at: At) -> SlotState | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if at not in self:
            self._source.fetch_slot(at)
        return super().get(at)


class LazyInbox(dict[str, bytes]):
    """The events that a run has received."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source

    def get(self, name: str) -> bytes | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().get(name) if name in self else self._source.fetch_payload(name)


class LazyBlocked(deque[At]):
    """The slots behind a run's own limit, the first ones first."""

    def __init__(self, source: Source, *, last_turn: int) -> None:
        super().__init__()
        self._source = source
        self._turn, self._last_turn = 0, last_turn

    def __bool__(self) -> bool:
        if not len(self) and self._turn < self._last_turn:
            found = self._source.fetch_blocked(self._turn, BLOCKED_AT_ONCE)
            self.extend(at for at, _ in found)
            self._turn = found[-1][1] if found else self._last_turn
        return len(self) > 0
