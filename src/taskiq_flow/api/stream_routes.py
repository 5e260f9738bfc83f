"""Streams of events over HTTP (server-sent events), resumable where they were interrupted."""

# Without postponed annotations: FastAPI has to see the dependencies of each API.

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import StreamingResponse

from taskiq_flow.api.context import ApiContext
from taskiq_flow.api.door import Caller, door
from taskiq_flow.api.errors import FlowRoute
from taskiq_flow.api.following import Told, event_json, fits, told_events
from taskiq_flow.exceptions import OperationError, TaskiqFlowError
from taskiq_flow.metrics import MetricsCollector
from taskiq_flow.operations import EventView
from taskiq_flow.security import Role

HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
PATTERN_MOST = 200


def stream_router(context: ApiContext) -> APIRouter:
    """Make the streams of one API."""
    router = APIRouter(route_class=FlowRoute, tags=["events"])
    viewer = Depends(door(context, Role.VIEWER))

    @router.get("/stream", response_class=StreamingResponse)
    async def stream(
        caller: Annotated[Caller, viewer],
        pattern: Annotated[str, Query(max_length=PATTERN_MOST)] = "*",
        after: str | None = None,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> StreamingResponse:
        """Events of all runs that a pattern means, from now on or from a position."""
        position = last_event_id or after
        if position is not None:
            caller.operations.check_position(position)

        def wanted(event: EventView) -> bool:
            return fits(event, pattern)

        context.check_room()
        return _response(context, told_events(caller, None, after=position, wanted=wanted))

    @router.get("/runs/{ref}/stream", response_class=StreamingResponse)
    async def stream_of_run(
        caller: Annotated[Caller, viewer],
        ref: str,
        after: str | None = None,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> StreamingResponse:
        """Events of one run from its beginning (or a number) until it has ended."""
        run = await caller.run(ref)
        position = last_event_id or after
        if position is not None and not (position.isascii() and position.isdecimal()):
            raise OperationError(f"after={position[:40]!r} must be the number of an event.")
        context.check_room()
        events = told_events(caller, run.run_id, after=position, wanted=lambda _: True)
        return _response(context, events)

    return router


def _response(context: ApiContext, events: AsyncGenerator[Told]) -> StreamingResponse:
    return StreamingResponse(
        _written(context, events), media_type="text/event-stream", headers=HEADERS
    )


async def _written(context: ApiContext, events: AsyncGenerator[Told]) -> AsyncGenerator[str]:
    try:
        # Counted from here on: a response that is never begun has nobody to end it.
        with context.stream():
            async with aclosing(events):
                yield "retry: 2000\n\n"
                async for told in events:
                    yield _message(told)
                    MetricsCollector().sse_events.add()
                yield "event: end\ndata: {}\n\n"
    except TaskiqFlowError as error:
        # The response has begun: the reader comes again with its position.
        yield f"event: error\ndata: {json.dumps({'detail': str(error)})}\n\n"


def _message(told: Told) -> str:
    """One event in the form of the protocol; JSON has no line feeds that could end it early."""
    if told.event is None:
        return ": still here\n\n"
    data = json.dumps(event_json(told.event, told.position))
    return f"id: {told.position}\nevent: {told.event.type}\ndata: {data}\n\n"
