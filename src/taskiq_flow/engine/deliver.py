"""Delivers events to runs that wait for them, or will."""

from __future__ import annotations

from typing import Any

from taskiq_flow.codec import encode
from taskiq_flow.exceptions import RunEndedError, RunNotFoundError
from taskiq_flow.model.names import check_name, is_name
from taskiq_flow.model.records import Ready
from taskiq_flow.stores.base import RunStore


async def deliver_event(store: RunStore, run_id: str, name: str, payload: Any) -> tuple[Ready, ...]:
    """Deliver an event to a run, by id or name; returns what is to be sent.

    Raises:
        RunNotFoundError: There is no such run.
        RunEndedError: It has ended.
        InvalidNameError: No run can wait for an event of this name.
        UnserializableValueError: The payload cannot be stored.
    """
    if not is_name(run_id):
        raise RunNotFoundError(run_id)
    check_name("Event", name)
    data = encode(payload, where=f"payload of event {name!r}")
    ready = await store.send_event(run_id, name, data)
    if ready is not None:
        return ready
    run = await store.get(run_id, steps=False)
    if run is None:
        latest = await store.find(run_id)
        if latest is None:
            raise RunNotFoundError(run_id)
        ready = await store.send_event(latest, name, data)
        if ready is not None:
            return ready
        run = await store.get(latest, steps=False)
    raise RunEndedError(run_id, name, "its record has expired" if run is None else str(run.status))
