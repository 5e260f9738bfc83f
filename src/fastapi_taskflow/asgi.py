"""Stores the tasks of a request before its response is sent: plain ASGI, around the application."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_taskflow.exceptions import QueueFullError, TaskNotStoredError
from fastapi_taskflow.requests import RequestTasks, current

if TYPE_CHECKING:
    from fastapi_taskflow.manager import TaskManager

logger = logging.getLogger("fastapi_taskflow")

RETRY_AFTER_SECONDS = 5


class TaskMiddleware:
    """Keeps the promise that a task whose response has been sent will run.

    What a request adds is stored before the first byte of its response, what is added
    later (by a stream) before the last one. A response that answers an exception stores nothing:
    FastAPI does not run the tasks of such a request either. Where the store does not take them the
    client gets a 503 instead of the response.
    """

    def __init__(self, app: ASGIApp, manager: TaskManager) -> None:
        self.app, self.manager = app, manager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._serve_socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        tasks = RequestTasks(self.manager, self.manager.core, scope, outer=current.get())
        answer = _Answer(tasks, send)
        token = current.set(tasks)
        try:
            await self.app(scope, receive, answer.send)
            if tasks.has_news and not answer.is_replaced:
                await tasks.store()
        finally:
            current.reset(token)
            tasks.end()

    async def _serve_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """No response is to wait for: what is added is stored at once."""
        tasks = RequestTasks(self.manager, self.manager.core, scope, outer=current.get())
        tasks.close()
        token = current.set(tasks)
        try:
            await self.app(scope, receive, send)
        finally:
            current.reset(token)


class _Answer:
    """The way of a response through the middleware."""

    def __init__(self, tasks: RequestTasks, send: Send) -> None:
        self._tasks, self._send = tasks, send
        # Whoever calls the application may handle an exception meanwhile, which is none of ours.
        self._outer = sys.exc_info()[1]
        self.is_replaced = False

    async def send(self, message: Message) -> None:
        if self.is_replaced:
            return
        kind = message["type"]
        if kind == "http.response.start":
            # It is sent from within the ``except`` of whoever turned an exception into a response.
            if sys.exc_info()[1] is not self._outer:
                self._tasks.discard()
            elif self._tasks.has_news and not await self._stored():
                return
            await self._tasks.wait()
        elif not message.get("more_body", False):
            if self._tasks.has_news:
                await self._tasks.store()
            await self._tasks.wait()
        await self._send(message)

    async def _stored(self) -> bool:
        """Store the tasks, or send another response that says why not."""
        try:
            await self._tasks.store()
        except (TaskNotStoredError, QueueFullError) as error:
            logger.error("A response is replaced by a 503: %s", error)
            self.is_replaced = True
            response = JSONResponse(
                {"detail": "The background tasks of this request could not be stored."},
                status_code=503,
                headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
            await response({"type": "http"}, _nothing, self._send)
            return False
        return True


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
