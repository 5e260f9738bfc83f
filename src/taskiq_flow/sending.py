"""Sends events to runs that wait for them, from any process."""

from __future__ import annotations

from typing import Any

from taskiq import AsyncBroker

from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.engine.client import RunClient
from taskiq_flow.engine.deliver import deliver_event
from taskiq_flow.exceptions import ConfigurationError
from taskiq_flow.stores.base import RunStore
from taskiq_flow.stores.factory import make_store, store_options


async def send_event(
    run_id: str,
    name: str,
    payload: Any = None,
    *,
    broker: AsyncBroker | None = None,
    store: RunStore | str | None = None,
) -> None:
    """Deliver an event to a run, by id or by the name given to it; one that comes early is kept.

    With ``broker`` the next step starts at once. With only ``store`` (its URL, of the namespace in
    the settings) no message can be sent: the workers find the step at their next look, within about
    a second. Given as an object it says itself when they look for lost messages, by default after
    10 s: its ``kick_seconds``.

    Raises:
        RunNotFoundError: There is no such run.
        RunEndedError: It has ended.
        UnserializableValueError: The payload cannot be stored.
        ConfigurationError: Not exactly one of ``broker`` and ``store`` was given.
    """
    if (broker is None) is (store is None):
        raise ConfigurationError(
            "send_event() needs to know where the run is; pass either broker= or store=."
        )
    if broker is not None:
        await RunClient.of(broker).send_event(run_id, name, payload)
    elif isinstance(store, RunStore):
        await store.open()
        await deliver_event(store, run_id, name, payload)
    elif store is not None:
        opened = make_store(store, store_options(TaskiqFlowConfig(), sends=False))
        await opened.open()
        try:
            await deliver_event(opened, run_id, name, payload)
        finally:
            await opened.close()
