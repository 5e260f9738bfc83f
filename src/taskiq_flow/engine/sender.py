"""Sends step messages through the broker: a hint that a slot is ready, never the work itself."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from taskiq import AsyncBroker, InMemoryBroker
from taskiq.kicker import AsyncKicker

from taskiq_flow.engine.routing import labels_of, route_of
from taskiq_flow.model.records import Address, Ready

logger = logging.getLogger("taskiq_flow.engine")

STEP_TASK = "taskiq_flow:step"
"""The one task of the engine; every message of a run is for it."""

SLOTS_PER_MESSAGE = 100
"""A wide step is announced by few messages; whoever gets one shares it out, see `dispatch`."""

pending_in_place: ContextVar[deque[Ready] | None] = ContextVar("pending_in_place", default=None)
"""Inside a dispatch of a broker that awaits in place: messages to be handled after it.

Sending them at once would nest one dispatch in another until the stack ends. The user's code
runs without it, so what a step sends itself is sent at once."""


class Sender:
    """Turns ready slots into messages, as few as possible."""

    def __init__(self, broker: AsyncBroker) -> None:
        self.broker = broker
        self.sent = 0
        self._awaits_in_place = isinstance(broker, InMemoryBroker) and broker.await_inplace

    async def send(self, ready: Iterable[Ready], *, apart: bool = False) -> None:
        """Send a message for each of these slots, several in one unless ``apart``.

        A broker that fails is logged, not raised: the slots stay due in the store and are sent
        again by whichever worker asks next.
        """
        later = pending_in_place.get()
        if later is not None and self._awaits_in_place:
            later.extend(ready)
            return
        for batch in _batches(ready, 1 if apart else SLOTS_PER_MESSAGE):
            try:
                await self._kick(batch)
            except Exception as error:  # noqa: BLE001 - any broker, any error
                logger.warning(
                    "The broker did not take a message for %d step(s) of run %s; "
                    "the store sends it again when the broker is back: %r",
                    len(batch),
                    batch[0].address.run_id,
                    error.__cause__ or error,
                )

    async def _kick(self, batch: Sequence[Ready]) -> None:
        first = batch[0]
        labels: dict[str, Any] = {
            **labels_of(first.route),
            "ack_type": "manual",
            "flow_task": first.task,
        }
        slots = [list(entry.address) for entry in batch]
        self.sent += 1
        kicker: AsyncKicker[Any, Any] = AsyncKicker(STEP_TASK, self.broker, labels)
        await kicker.kiq(slots)


def _batches(ready: Iterable[Ready], most: int) -> list[list[Ready]]:
    """Group slots that one message can announce: same queue, same route, in order."""
    batches: list[list[Ready]] = []
    latest: dict[tuple[str, str], list[Ready]] = {}
    for entry in ready:
        key = (entry.queue, entry.route)
        batch = latest.get(key)
        if batch is None or len(batch) >= most:
            batch = latest[key] = []
            batches.append(batch)
        batch.append(entry)
    return batches


def announced(slots: Iterable[Sequence[Any]], labels: Mapping[str, Any]) -> list[Ready]:
    """Read the slots that a message names; its labels are kept for when they are sent on."""
    route, task = route_of(labels), str(labels.get("flow_task", ""))
    return [
        Ready(Address(str(run), int(step), int(slot)), "", route, task) for run, step, slot in slots
    ]


async def drain_in_place(
    later: deque[Ready], handle: Callable[[deque[Ready]], Awaitable[None]]
) -> None:
    """Handle what was put off during a dispatch, and what that puts off, until nothing is left."""
    while later:
        await handle(deque([later.popleft()]))
        await asyncio.sleep(0)
