"""Follows events on behalf of one client: only what it may see, only what it asked for, bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from taskiq_flow.api.door import Caller
from taskiq_flow.operations import EventView
from taskiq_flow.security import Access

AHEAD = 200
"""So many events are read ahead for a client; then reading waits for it."""


@dataclass(frozen=True, slots=True)
class Told:
    """An event with the position to go on from; None as the event is a sign of life."""

    event: EventView | None
    position: str


async def told_events(
    caller: Caller,
    run_id: str | None,
    *,
    after: str | None,
    wanted: Callable[[EventView], bool],
) -> AsyncGenerator[Told]:
    """The events of one run until it has ended, or of all, that a client may see and wants.

    Where nothing comes for a while, a sign of life does.
    """
    waiting: asyncio.Queue[Told | BaseException | None] = asyncio.Queue(AHEAD)
    position = after or ""

    async def read() -> None:
        try:
            async with aclosing(caller.operations.follow(run_id, after=after)) as events:
                async for event, place in events:
                    if is_visible(caller, event) and wanted(event):
                        await waiting.put(Told(event, place))
            await waiting.put(None)
        except Exception as error:  # noqa: BLE001 - it is raised where the events are taken
            await waiting.put(error)

    reading = asyncio.create_task(read())
    pause = caller.context.config.websocket_heartbeat_seconds
    try:
        while True:
            try:
                async with asyncio.timeout(pause):
                    told = await waiting.get()
            except TimeoutError:
                yield Told(None, position)
                continue
            if told is None:
                return
            if isinstance(told, BaseException):
                raise told
            position = told.position
            yield told
    finally:
        reading.cancel()
        await asyncio.wait([reading])


def is_visible(caller: Caller, event: EventView) -> bool:
    """Whether a client may hear of an event."""
    return caller.may(Access.READ, event.name, event.pipeline_id, event.run_id)


def fits(event: EventView, pattern: str) -> bool:
    """Whether an event is of a run that a pattern means: its id, its name, or its pipeline's."""
    names = (event.run_id, event.pipeline_id, event.name)
    return any(fnmatchcase(name, pattern) for name in names if name)


def event_json(event: EventView, position: str) -> dict[str, Any]:
    """An event as it is sent; ``timestamp``, ``step_name`` are other names of the same."""
    at = event.at.isoformat()
    return {
        "type": event.type,
        "run_id": event.run_id,
        "pipeline_id": event.pipeline_id,
        "name": event.name,
        "seq": event.seq,
        "at": at,
        "timestamp": at,
        "step": event.step,
        "step_name": event.step,
        "slot": event.slot,
        "attempt": event.attempt,
        "detail": event.detail,
        "position": position,
    }
