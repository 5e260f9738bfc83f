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

    ``running`` has a future for each message until its end, so that others can wait for all.
    """

    handle: Callable[[Message], Coroutine[Any, Any, None]]
    progress: Callable[[], int]
    running: set[Any]
    _waiting: deque[tuple[Message, asyncio.Future[None], Context]] = field(
        default_factory=new_deque
    )
    _going: int = 0
    _idle: int = 0
    _seen: int = 0
    _most: int = AT_ONCE

    def add(self, message: Message) -> None:
        """Begin a message in its turn, with the caller's context variables, in a task."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        self.running.add(ended)
        if self._waiting or self._going >= self._most:
            if not self._waiting:
                self._idle, self._seen = 0, self.progress()
                loop.call_soon(self._look)
            self._waiting.append((message, ended, copy_context()))
        else:
            self._begin(loop.create_task(self.handle(message)), ended)

    def _begin(self, task: asyncio.Task[None], ended: asyncio.Future[None]) -> None:
        self._going += 1
        task.add_done_callback(lambda _: self._end(task, ended))

    def _end(self, task: asyncio.Task[None], ended: asyncio.Future[None]) -> None:
        self._going -= 1
        self._begin_more()
        self.running.discard(ended)
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            ended.cancel()
        elif error is not None:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    def _begin_more(self) -> None:
        while self._waiting and self._going < self._most:
            message, ended, context = self._waiting.popleft()
            task = asyncio.get_running_loop().create_task(self.handle(message), context=context)
            self._begin(task, ended)
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
