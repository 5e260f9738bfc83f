"""Calls the hooks of listeners: what happened to which run, in the words of users."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

from taskiq_flow.events import EventType, RunEvent
from taskiq_flow.exceptions import TrackingStorageError
from taskiq_flow.model.records import EventRecord
from taskiq_flow.observers import call_hook
from taskiq_flow.tracking.source import RunFacts, RunSource

logger = logging.getLogger("taskiq_flow.tracking")

HOOKS = (
    "on_pipeline_start",
    "on_step_start",
    "on_step_complete",
    "on_step_error",
    "on_pipeline_complete",
    "on_pipeline_error",
    "on_event",
)


class Listener:
    """One object of a user with some of the hooks, each sync or async.

    Raises:
        TrackingStorageError: It has none of them.
    """

    def __init__(self, target: object) -> None:
        self.target = target
        self._hooks: dict[str, Callable[..., Any]] = {
            name: hook for name in HOOKS if callable(hook := getattr(target, name, None))
        }
        if not self._hooks or inspect.isclass(target):
            lacks = f"all of {', '.join(HOOKS)}" if not self._hooks else "an instance"
            raise TrackingStorageError(target, "listener", lacks)

    def __repr__(self) -> str:
        return f"listener {type(self.target).__name__}"

    async def hear(self, record: EventRecord, source: RunSource) -> None:
        """Call the hooks that an event is for.

        Raises:
            StoreUnavailableError: What they are to be told cannot be read now; none was called.
        """
        if not self._wants(record.type):
            return
        facts = await source.facts(record.run_id)
        if facts is None:
            return  # deleted meanwhile
        calls = await self._calls(record, facts, source)
        if "on_event" in self._hooks:
            calls.insert(0, ("on_event", (_public(record, facts),)))
        for name, arguments in calls:
            await self._call(name, *arguments)

    def _wants(self, kind: EventType) -> bool:
        if "on_event" in self._hooks:
            return True
        return any(name in self._hooks for name in _HOOKS_OF.get(kind, ()))

    async def _calls(
        self, record: EventRecord, facts: RunFacts, source: RunSource
    ) -> list[tuple[str, tuple[Any, ...]]]:
        wanted = [name for name in _HOOKS_OF.get(record.type, ()) if name in self._hooks]
        if not wanted:
            return []
        run = facts.pipeline_id
        if record.type is EventType.RUN_STARTED:
            return [("on_pipeline_start", (run,))]
        if record.type.ends_run:
            status = await source.status(record.run_id)
            if status is None:
                return []
            said = {
                "on_pipeline_error": (run, status.error),
                "on_pipeline_complete": (run, status),
            }
            return [(name, said[name]) for name in wanted]
        assert record.step is not None
        step = facts.step_names[record.step]
        if record.type is EventType.STEP_COMPLETED:
            value = await source.step_result(record.run_id, record.step)
            return [("on_step_complete", (run, step, value))]
        if record.type is EventType.STEP_FAILED:
            status = await source.status(record.run_id, values=False)
            return [("on_step_error", (run, step, status and status.errors.get(step)))]
        return [("on_step_start", (run, step))]

    async def _call(self, name: str, *arguments: Any) -> None:
        try:
            await call_hook(self._hooks[name], *arguments)
        except Exception:  # foreign code; neither a run nor the next hook may suffer from it
            logger.exception("%s of %r failed", name, self)


_HOOKS_OF = {
    EventType.RUN_STARTED: ("on_pipeline_start",),
    EventType.STEP_STARTED: ("on_step_start",),
    EventType.STEP_COMPLETED: ("on_step_complete",),
    EventType.STEP_FAILED: ("on_step_error",),
    EventType.RUN_COMPLETED: ("on_pipeline_complete",),
    EventType.RUN_FAILED: ("on_pipeline_error", "on_pipeline_complete"),
    EventType.RUN_CANCELLED: ("on_pipeline_complete",),
}


def _public(record: EventRecord, facts: RunFacts) -> RunEvent:
    return RunEvent(
        type=record.type,
        run_id=record.run_id,
        pipeline_id=facts.pipeline_id,
        seq=record.seq,
        at=record.at,
        step=record.step,
        step_name=None if record.step is None else facts.step_names[record.step],
        slot=record.slot,
        attempt=record.attempt,
        detail=record.detail,
    )
