"""The tasks of one request, kept until its response is about to be sent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import MutableMapping, Sequence
from contextlib import AsyncExitStack
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fastapi_taskflow.drafts import Draft

if TYPE_CHECKING:
    from fastapi_taskflow.core import TaskCore
    from fastapi_taskflow.manager import TaskManager


_NOTHING: MutableMapping[str, Any] = {}


@dataclass(slots=True, eq=False)
class RequestTasks:
    """What a request has added so far; ``outer`` is that of an application around this one."""

    manager: TaskManager
    core: TaskCore
    scope: MutableMapping[str, Any]
    outer: RequestTasks | None = None
    # None and no empty lists: a task that waits has its request's context, and with it this.
    drafts: list[Draft] | None = None
    going: list[asyncio.Task[None]] | None = None
    stored: tuple[str, ...] = ()
    is_open: bool = True
    _is_watched: bool = False
    _lock: ClassVar[threading.Lock] = threading.Lock()
    """One for all requests: it is held for moments."""

    def add(self, draft: Draft) -> bool:
        """Keep a task until the response; False when the request has ended."""
        with self._lock:
            if self.is_open:
                if self.drafts is None:
                    self.drafts = [draft]
                else:
                    self.drafts.append(draft)
                self._watch()
            return self.is_open

    def _watch(self) -> None:
        """Hear of an exception that leaves the route, also where a middleware hides it from us."""
        stack = self.scope.get("fastapi_inner_astack")
        if not self._is_watched and isinstance(stack, AsyncExitStack):
            self._is_watched = True
            stack.push(self._leave_route)

    def _leave_route(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        if error is not None:
            self.discard()

    def holds(self, draft: Draft | None) -> bool:
        """Whether a task was added here, and waits for the response."""
        return draft is not None and any(each is draft for each in self.drafts or ())

    def follow(self, storing: asyncio.Task[None]) -> bool:
        """Let the response wait for a task that is being stored; False when it has been sent."""
        with self._lock:
            if self.is_open:
                self.going = [*(self.going or ()), storing]
            return self.is_open

    @property
    def has_news(self) -> bool:
        return bool(self.drafts or self.going)

    async def store(self) -> None:
        """Store what was added since the last call.

        Raises:
            TaskNotStoredError: The store does not take them.
            QueueFullError: Their queue is full.
        """
        with self._lock:
            going, self.going = self.going, None
        for storing in going or ():
            await storing
        with self._lock:
            drafts, self.drafts = self.drafts, None
        if drafts is not None:
            await self.core.commit(drafts)
            self.note(drafts)

    def note(self, drafts: Sequence[Draft]) -> None:
        """In tests, let the response wait for the ends of tasks."""
        if self.manager.run_synchronously:
            self.stored += tuple([draft.task_id for draft in drafts])

    async def wait(self) -> None:
        """In tests, wait for the ends of what was stored."""
        if self.stored:
            await self.core.endings.wait(self.stored, None)

    def discard(self) -> None:
        """Forget what was added and is not stored: the request has failed."""
        with self._lock:
            drafts, self.drafts = self.drafts, None
        for draft in drafts or ():
            self.core.discard(draft)

    def close(self) -> None:
        """From now on nothing is kept here."""
        with self._lock:
            self.is_open = False

    def end(self) -> None:
        """The request is over: forget it, and what was not stored."""
        self.close()
        if self.drafts:
            self.discard()
        self.scope = _NOTHING


current: ContextVar[RequestTasks | None] = ContextVar("fastapi_taskflow_request", default=None)
"""The tasks of the request that is handled here."""


def tasks_of_request(core: TaskCore) -> RequestTasks | None:
    """The tasks of the request that is handled here, as far as they belong to a manager."""
    found = current.get()
    while found is not None and found.core is not core:
        found = found.outer
    return found
