"""Makes one call of what many coroutines ask within one turn of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Together(Generic[T, R]):
    """Gathers entries until the event loop comes round, and hands them to ``work`` as one list.

    Whoever added some gets the answer for all. A caller that is cancelled takes nothing back:
    the others still wait.
    """

    def __init__(self, work: Callable[[list[T]], Coroutine[Any, Any, R]]) -> None:
        self._work = work
        self._entries: list[T] = []
        self._call: asyncio.Task[R] | None = None

    async def add(self, entries: Iterable[T]) -> R:
        """Add entries to the next call and wait for its answer; its error is raised here."""
        loop = asyncio.get_running_loop()
        if self._call is None or self._call.get_loop() is not loop:
            self._entries = []  # of a loop that was closed before it came round
            self._call = loop.create_task(self._make())
        self._entries.extend(entries)
        return await asyncio.shield(self._call)

    async def _make(self) -> R:
        entries, self._entries, self._call = self._entries, [], None
        return await self._work(entries)
