"""Sends step messages through the broker: a hint that a slot is ready, never the work itself."""

from __future__ import annotations

import asyncio
import logging
import reprlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from taskiq import AsyncBroker, InMemoryBroker
from taskiq.kicker import AsyncKicker

from taskiq_flow.engine.hooks import Hooks
from taskiq_flow.engine.ids import new_token
from taskiq_flow.engine.routing import labels_of, queue_key, route_of
from taskiq_flow.engine.together import Together
from taskiq_flow.model.records import Address, Ready

logger = logging.getLogger("taskiq_flow.engine")

STEP_TASK = "taskiq_flow:step"
"""The one task of the engine; every message of a run is for it."""

SEND_SECONDS = 5.0
"""A broker that takes a message for longer than this counts as away."""

SLOTS_PER_MESSAGE = 100
"""A wide step is announced by few messages; whoever gets one shares it out, see `spread`."""

pending_in_place: ContextVar[deque[Ready] | None] = ContextVar("pending_in_place", default=None)
"""Inside a dispatch of a broker that awaits in place: messages to be handled after it.

Sending them at once would nest one dispatch in another until the stack ends. The user's code
runs without it, so what a step sends itself is sent at once."""


class Sender:
    """Turns ready slots into messages, as few as possible."""

    def __init__(self, broker: AsyncBroker, hooks: Hooks) -> None:
        self.broker = broker
        self.hand_over: Callable[[Sequence[Ready]], None] | None = None
        """Set for a broker in memory: takes a message without writing and parsing it."""
        self.elsewhere: Callable[[Sequence[Ready], bool], Awaitable[list[Ready]]] | None = None
        """Set where the broker works in another event loop: `send` there."""
        self._hooks = hooks
        self.awaits_in_place = isinstance(broker, InMemoryBroker) and broker.await_inplace
        self._patience = None if isinstance(broker, InMemoryBroker) else SEND_SECONDS
        self._together = Together(self._send_batches)

    async def send(self, ready: Iterable[Ready], *, apart: bool = False) -> list[Ready]:
        """Send a message for each of these slots, several in one unless ``apart``.

        Runs that are started together, and steps that end together, share messages. A broker that
        fails is logged, not raised: the slots stay due in the store and are sent again by
        whichever worker asks next. Returns those for which no message was taken.
        """
        later = pending_in_place.get()
        if later is not None and self.awaits_in_place:
            later.extend(ready)
            return []
        own = tuple(ready)
        if not own:
            return []
        if self.hand_over is not None and not self._hooks.meet_messages:
            for batch in _batches(own, 1 if apart else SLOTS_PER_MESSAGE):
                self.hand_over(batch)
            return []
        if self.elsewhere is not None and not self.awaits_in_place:
            return await self.elsewhere(own, apart)
        if apart or isinstance(self.broker, InMemoryBroker) or self._hooks.see_departures:
            return await self._send_batches(own, apart=apart)
        unsent = frozenset(await self._together.add(own))
        return [entry for entry in own if entry in unsent] if unsent else []

    async def _send_batches(self, ready: Sequence[Ready], *, apart: bool = False) -> list[Ready]:
        unsent: list[Ready] = []
        hangs = False
        for batch in _batches(ready, 1 if apart else SLOTS_PER_MESSAGE):
            if hangs:
                unsent.extend(batch)
                continue
            try:
                async with asyncio.timeout(self._patience):
                    await self._kick(batch)
            except Exception as error:  # noqa: BLE001 - any broker, any error
                unsent.extend(batch)
                hangs = isinstance(error, TimeoutError)
                why = (
                    f"no answer for {self._patience} s"
                    if hangs
                    else f"{error.__cause__ or error!r}"
                )
                logger.warning(
                    "The broker did not take a message for %d step(s) of run %s; "
                    "the store sends it again when the broker is back: %s",
                    len(batch),
                    batch[0].address.run_id,
                    why,
                )
        return unsent

    def serves(self, ready: Ready) -> bool:
        """Whether a slot is worked on by those who take messages of this broker."""
        return queue_key(self.broker, labels_of(ready.route)) == ready.queue

    async def _kick(self, batch: Sequence[Ready]) -> None:
        first = batch[0]
        labels: dict[str, Any] = {
            **labels_of(first.route),
            "ack_type": "manual",
            "flow_task": first.task,
        }
        slots = [list(entry.address) for entry in batch]
        kicker: AsyncKicker[Any, Any] = AsyncKicker(STEP_TASK, self.broker, labels)
        await kicker.with_task_id(new_token()).kiq(slots)


def _batches(ready: Sequence[Ready], most: int) -> Sequence[Sequence[Ready]]:
    """Group slots that one message can announce: same queue, same route, in order."""
    if len(ready) == 1:
        return (ready,)
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


def announced(slots: Any, labels: Mapping[str, Any]) -> list[Ready]:
    """Read the slots that a message names; its labels are kept for when they are sent on.

    None of a message that cannot be read: it is a hint at most, and must not come again and again.
    """
    route, task = route_of(labels), str(labels.get("flow_task", ""))
    try:
        return [
            Ready(Address(str(run), int(step), int(slot)), "", route, task)
            for run, step, slot in slots
        ]
    except (TypeError, ValueError, OverflowError):
        logger.warning("A message of %s names no slots: %s", STEP_TASK, reprlib.repr(slots))
        return []


async def drain_in_place(
    later: deque[Ready], handle: Callable[[deque[Ready]], Awaitable[None]]
) -> None:
    """Handle what was put off during a dispatch, and what that puts off, until nothing is left."""
    while later:
        await handle(deque([later.popleft()]))
        await asyncio.sleep(0)
