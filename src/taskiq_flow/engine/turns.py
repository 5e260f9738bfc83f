"""Begins what a broker in memory is sent: a few messages at once, and more when those wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from taskiq_flow.model.records import Ready
from taskiq_flow.model.state import new_deque

AT_ONCE = 64
"""So many messages are begun at once. A thousand runs that are all halfway keep the garbage
collector and the processor's caches busier than their steps do."""

IDLE_TURNS = 5
"""When so many turns of the event loop have started no step, those that were begun wait for
something else than the processor, and as many again are begun: none of them keeps others waiting.
"""

Message: TypeAlias = Sequence[Ready]


@dataclass(slots=True)
class Turns:
    """Messages that wait to be handled; ``progress`` counts the steps that were started.

    ``running`` has a future while any message has not been handled, so that others can wait.
    """

    handle: Callable[[Message], Coroutine[Any, Any, None]]
    progress: Callable[[], int]
    running: set[Any]
    _waiting: deque[tuple[Message, Context]] = field(default_factory=new_deque)
    _quiet: asyncio.Future[None] | None = None
    _failure: BaseException | None = None
    _going: int = 0
    _idle: int = 0
    _seen: int = 0
    _most: int = AT_ONCE

    def add(self, message: Message) -> None:
        """Begin a message in its turn, with the caller's context variables, in a task."""
        loop = asyncio.get_running_loop()
        if self._quiet is None:
            self._be_waited_for()
        if self._waiting or self._going >= self._most:
            if not self._waiting:
                self._idle, self._seen = 0, self.progress()
                loop.call_soon(self._look)
            self._waiting.append((message, copy_context()))
        else:
            self._begin(loop.create_task(self.handle(message)))

    def _be_waited_for(self) -> None:
        self._quiet = asyncio.get_running_loop().create_future()
        self._quiet.add_done_callback(self._is_quiet)
        self.running.add(self._quiet)

    def _is_quiet(self, quiet: asyncio.Future[None]) -> None:
        self.running.discard(quiet)
        if quiet is self._quiet:  # it was cancelled, together with somebody who waited for it
            self._be_waited_for()

    def _begin(self, task: asyncio.Task[None]) -> None:
        self._going += 1
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._going -= 1
        self._begin_more()
        if not task.cancelled():
            self._failure = self._failure or task.exception()
        if self._quiet is not None and not self._going:
            quiet, failure = self._quiet, self._failure
            self._quiet = self._failure = None
            if failure is not None and not quiet.done():
                quiet.set_exception(failure)
            elif not quiet.done():
                quiet.set_result(None)

    def _begin_more(self) -> None:
        while self._waiting and self._going < self._most:
            message, context = self._waiting.popleft()
            loop = asyncio.get_running_loop()
            self._begin(loop.create_task(self.handle(message), context=context))
        if not self._waiting:
            self._most = AT_ONCE

    def _look(self) -> None:
        """In every turn of the loop, while messages wait: see whether those begun make progress."""
        if not self._waiting:
            return
        progress = self.progress()
        self._idle = 0 if progress != self._seen else self._idle + 1
        self._seen = progress
        if self._idle == IDLE_TURNS:
            self._idle = 0
            self._most = 2 * self._going
            self._begin_more()
        asyncio.get_running_loop().call_soon(self._look)
