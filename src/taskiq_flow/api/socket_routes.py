"""Events over WebSocket: one run at ``/ws/{id}``, or whatever a client subscribes to."""

# Without postponed annotations: FastAPI has to see the types of its endpoints.

import asyncio
import json
from contextlib import aclosing
from typing import Any, cast

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from taskiq_flow.api.context import ApiContext
from taskiq_flow.api.door import Caller, door
from taskiq_flow.api.following import event_json, fits, told_events
from taskiq_flow.exceptions import (
    NotAllowedError,
    OperationError,
    RunNotFoundError,
    SecurityError,
    TaskiqFlowError,
    TooManyAttemptsError,
)
from taskiq_flow.metrics import MetricsCollector
from taskiq_flow.operations import EventView
from taskiq_flow.security import Role

REFUSED, UNKNOWN, BUSY = 4401, 4404, 1013
SEND_SECONDS = 30.0
"""A client that takes a message no sooner has gone."""

PATTERN_MOST = 200
MESSAGE_MOST = 16 * 1024
CHANNEL = "pipeline."


def socket_router(context: ApiContext) -> APIRouter:
    """Make the WebSockets of one API."""
    router = APIRouter()
    let_in = door(context, Role.VIEWER)

    async def serve(socket: WebSocket, pattern: str | None) -> None:
        try:
            caller = await let_in(socket)
        except SecurityError as error:
            await socket.close(REFUSED, str(error)[:100])
            return
        try:
            with context.stream():
                await _Client(socket, caller).serve(pattern, socket.query_params.get("after"))
        except TooManyAttemptsError as error:
            await socket.close(BUSY, str(error)[:100])

    @router.websocket("/ws")
    async def subscribed(socket: WebSocket) -> None:
        """Events of what the client subscribes to."""
        await serve(socket, None)

    @router.websocket("/ws/{pipeline_id}")
    async def of_run(socket: WebSocket, pipeline_id: str) -> None:
        """Events of one run from its beginning until its end, or of those that a pattern means."""
        await serve(socket, pipeline_id)

    return router


class _Client:
    """One open WebSocket."""

    def __init__(self, socket: WebSocket, caller: Caller) -> None:
        self.socket, self.caller = socket, caller
        self.patterns: set[str] = set()

    async def serve(self, pattern: str | None, after: str | None) -> None:
        run_id: str | None = None
        try:
            run_id = await self._run_of(pattern)
            if after is not None and run_id is None:
                self.caller.operations.check_position(after)
            elif after is not None and not after.isdecimal():
                raise OperationError(f"after={after[:40]!r} must be the number of an event.")
        except TaskiqFlowError as error:
            await self.socket.close(UNKNOWN, str(error)[:100])
            return
        if pattern is not None and run_id is None:
            self.patterns.add(pattern[:PATTERN_MOST])
        await self.socket.accept()
        sending = asyncio.create_task(self._send_events(run_id, after))
        receiving = asyncio.create_task(self._receive())
        try:
            done, _ = await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
            await self._close(done)
        finally:
            for task in (sending, receiving):
                task.cancel()
            await asyncio.wait({sending, receiving})

    async def _run_of(self, pattern: str | None) -> str | None:
        """The run that an address means; None for a pattern, or a name that runs may have."""
        if pattern is None:
            return None
        try:
            run = await self.caller.run(pattern)
        except RunNotFoundError:
            return None
        # A name means the runs to come as well, an id (or the end of one) this one only.
        return None if run.pipeline_id == pattern != run.run_id else run.run_id

    async def _send_events(self, run_id: str | None, after: str | None) -> None:
        def wanted(event: EventView) -> bool:
            return run_id is not None or any(fits(event, one) for one in self.patterns)

        async with aclosing(told_events(self.caller, run_id, after=after, wanted=wanted)) as all_:
            async for told in all_:
                if told.event is None:
                    await self._send({"type": "ping", "position": told.position})
                else:
                    await self._send(event_json(told.event, told.position))
        await self._send({"type": "end"})

    async def _receive(self) -> None:
        while True:
            text = await self.socket.receive_text()
            try:
                await self._obey(_read(text))
            except OperationError as error:
                await self._send({"type": "error", "detail": str(error)})

    async def _obey(self, message: dict[str, Any]) -> None:
        """Subscribe and unsubscribe, in each of the ways in which that is documented."""
        action = str(message.get("type") or message.get("action") or "subscribe")
        if action in ("ping", "pong"):
            if action == "ping":
                await self._send({"type": "pong"})
            return
        said = message.get("pipeline_id") or message.get("channel") or message.get("pattern")
        if not isinstance(said, str) or len(said) > PATTERN_MOST:
            raise OperationError("Say which runs: {'type': 'subscribe', 'pipeline_id': 'etl-*'}.")
        pattern = said.removeprefix(CHANNEL) if "channel" in message else said
        match action:
            case "subscribe":
                most = self.caller.context.config.websocket_max_subscriptions
                if len(self.patterns) >= most and pattern not in self.patterns:
                    raise OperationError(f"There are {most} subscriptions already; end some.")
                self.patterns.add(pattern)
            case "unsubscribe":
                self.patterns.discard(pattern)
            case _:
                raise OperationError(f"{action[:40]!r} is none of subscribe, unsubscribe, ping.")
        await self._send({"type": f"{action}d", "pipeline_id": pattern})

    async def _send(self, message: dict[str, Any]) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await self.socket.send_json(message)
        MetricsCollector().websocket_messages.add()

    async def _close(self, done: set[asyncio.Task[None]]) -> None:
        """Close the socket if the client has not, with what went wrong."""
        error = next((e for task in done if (e := task.exception()) is not None), None)
        if isinstance(error, (WebSocketDisconnect, TimeoutError)):
            return
        if self.socket.client_state is WebSocketState.CONNECTED:
            if isinstance(error, (NotAllowedError, OperationError)):
                await self.socket.close(UNKNOWN, str(error)[:100])
            else:
                await self.socket.close(1000 if error is None else 1011)
        if error is not None and not isinstance(error, TaskiqFlowError):
            raise error


def _read(text: str) -> dict[str, Any]:
    """A message of a client.

    Raises:
        OperationError: It is no JSON object, or too long.
    """
    try:
        found: Any = json.loads(text) if len(text) <= MESSAGE_MOST else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise OperationError("A message is a JSON object of at most 16 KiB.")
    return cast("dict[str, Any]", found)
