"""Tells hooks of every run that a tracking manager hears of."""

from __future__ import annotations

from typing import Any

from taskiq_flow.events import EventType, RunEvent
from taskiq_flow.hooks.events import (
    TOLD,
    HookEvent,
    PipelineCompleteEvent,
    PipelineErrorEvent,
    PipelineStartEvent,
    StepCompleteEvent,
    StepErrorEvent,
    StepStartEvent,
)
from taskiq_flow.hooks.manager import HookManager
from taskiq_flow.tracking import PipelineStatus, PipelineTrackingManager, StepStatus


class TrackingEventBroadcaster:
    """A listener of a tracking manager that hands what it hears to hooks.

    ``tracking.add_listener(broadcaster.on_status_update)``, where the runs need no ``with_hooks``.
    """

    def __init__(self, tracking: PipelineTrackingManager, hook_manager: HookManager) -> None:
        self.tracking, self.hook_manager = tracking, hook_manager

    @property
    def on_status_update(self) -> TrackingEventBroadcaster:
        """What to add as a listener; the same as the broadcaster itself."""
        return self

    async def on_event(self, event: RunEvent) -> None:
        """Tell the hooks of one event; called by the tracking manager."""
        if event.type in TOLD:
            status = await self.tracking.get_status(event.run_id)
            if status is not None:  # else deleted meanwhile
                await self.hook_manager.dispatch(_hook_event(event, status))


def _hook_event(event: RunEvent, status: PipelineStatus) -> HookEvent:
    facts: dict[str, Any] = {
        "pipeline_id": event.pipeline_id,
        "run_id": event.run_id,
        "pipeline_type": status.pipeline_type,
        "timestamp": event.moment,
    }
    if event.step is not None:
        facts |= {
            "step_name": event.step_name,
            "step_index": event.step,
            "task_id": f"{event.run_id}:{event.step}",
            "attempt": max(event.attempt, 1),
        }
        return _of_step(event, status, facts)
    if event.type is EventType.RUN_STARTED:
        return PipelineStartEvent(**facts)
    facts |= {"status": str(status), "duration_ms": status.duration_ms}
    if event.type is EventType.RUN_COMPLETED:
        return PipelineCompleteEvent(**facts, result=status.result)
    return PipelineErrorEvent(**facts, error=status.error, failed_step=status.failed_step)


def _of_step(event: RunEvent, status: PipelineStatus, facts: dict[str, Any]) -> HookEvent:
    if event.type is EventType.STEP_STARTED:
        return StepStartEvent(**facts)
    step = next(
        (step for step in status.steps if step.step_name == event.step_name),
        StepStatus(
            step_name=event.step_name or "", status=event.type.removeprefix("step_").upper()
        ),
    )
    if event.type is EventType.STEP_COMPLETED:
        return StepCompleteEvent(**facts, duration_ms=step.duration_ms, result=step.result)
    return StepErrorEvent(**facts, duration_ms=step.duration_ms, error=step.error)
