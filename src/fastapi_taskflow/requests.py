"""The tasks of one request, kept until its response is about to be sent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import MutableMapping
from contextlib import AsyncExitStack
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi_taskflow.drafts import Draft
from taskiq_flow.model.state import new_list

if TYPE_CHECKING:
    from fastapi_taskflow.core import TaskCore
    from fastapi_taskflow.manager import TaskManager


@dataclass(slots=True, eq=False)
class RequestTasks:
    """What a request has added so far; ``outer`` is that of an application around this one."""

    manager: TaskManager
    core: TaskCore
    scope: MutableMapping[str, Any]
    outer: RequestTasks | None = None
    drafts: list[Draft] = field(default_factory=new_list)
    going: list[asyncio.Task[None]] = field(default_factory=new_list)
    stored: list[str] = field(default_factory=new_list)
    is_open: bool = True
    _is_watched: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, draft: Draft) -> bool:
        """Keep a task until the response; False when the request has ended."""
        with self._lock:
            if self.is_open:
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

    def follow(self, storing: asyncio.Task[None]) -> bool:
        """Let the response wait for a task that is being stored; False when it has been sent."""
        with self._lock:
            if self.is_open:
                self.going.append(storing)
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
            drafts, self.drafts = self.drafts, []
            going, self.going = self.going, []
        for storing in going:
            await storing
        if drafts:
            await self.core.commit(drafts)
            self.stored.extend(draft.task_id for draft in drafts)

    def discard(self) -> None:
        """Forget what was added and is not stored: the request has failed."""
        with self._lock:
            drafts, self.drafts = self.drafts, []
        for draft in drafts:
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
        # A task that waits has the context of its request, and with it this object.
        self.scope = {}


current: ContextVar[RequestTasks | None] = ContextVar("fastapi_taskflow_request", default=None)
"""The tasks of the request that is handled here."""


def tasks_of_request(core: TaskCore) -> RequestTasks | None:
    """The tasks of the request that is handled here, as far as they belong to a manager."""
    found = current.get()
    while found is not None and found.core is not core:
        found = found.outer
    return found
