"""What ties a tracking manager to the runs of one broker in this process."""

from __future__ import annotations

import logging
from collections import OrderedDict
from functools import partial

from taskiq import AsyncBroker

from taskiq_flow.exceptions import StoreError
from taskiq_flow.model.records import EventRecord
from taskiq_flow.observers import Delivery, EventBus
from taskiq_flow.tracking.listeners import Listener
from taskiq_flow.tracking.mirror import Mirror
from taskiq_flow.tracking.source import RunSource

logger = logging.getLogger("taskiq_flow.tracking")

WATCHED_MOST = 20_000
"""Of so many runs, those started last, it is known that they are to be copied."""


class Attachment:
    """Hears of the runs of a broker; see `Follower` for what the engine calls.

    The mirror copies every run of the namespace, or those that were named with `watch`. Without a
    mirror and listeners nothing is subscribed to.
    """

    def __init__(self, broker: AsyncBroker, source: RunSource) -> None:
        self.broker, self.source = broker, source
        self.mirror: Mirror | None = None
        self.mirrors_all = False
        self._deliveries: dict[int, Delivery] = {}
        self._watched: OrderedDict[str, None] = OrderedDict()
        self._bus: EventBus | None = None

    def watch(self, run_id: str) -> None:
        """Mirror a run that was started here."""
        if self.mirror is None:
            return
        self._watched[run_id] = None
        if len(self._watched) > WATCHED_MOST:
            self._watched.popitem(last=False)
        self.mirror.mark(run_id, self.source)

    def add(self, listener: Listener) -> None:
        name = f"The {listener!r}"
        handle = partial(listener.hear, source=self.source)
        self._deliveries[id(listener.target)] = Delivery(name, handle)

    def remove(self, target: object) -> None:
        self._deliveries.pop(id(target), None)

    async def begin(self) -> None:
        if self.mirror is None and not self._deliveries:
            return
        bus = self.source.bus
        if self._bus is not bus:  # the first time, or in another event loop
            self._bus = bus
            bus.add(self._hear)
        try:
            await bus.begin()
        except StoreError as error:
            logger.warning("Tracking begins later, the store does not answer: %s", error)

    async def settle(self, run_id: str) -> None:
        if self.mirror is not None and self._mirrors(run_id):
            await self.mirror.settle(run_id, self.source)
            self._watched.pop(run_id, None)

    async def end(self) -> None:
        if self._bus is not None:
            await self._bus.catch_up()
            self._bus.discard(self._hear)
            self._bus = None
        for delivery in self._deliveries.values():
            await delivery.close(timeout_seconds=1.0)
        if self.mirror is not None:
            await self.mirror.close()

    def _hear(self, event: EventRecord) -> None:
        for delivery in self._deliveries.values():
            delivery.put(event)
        if self.mirror is not None and self._mirrors(event.run_id):
            self.mirror.mark(event.run_id, self.source, at_once=event.type.ends_run)

    def _mirrors(self, run_id: str) -> bool:
        return self.mirrors_all or run_id in self._watched
