"""Hooks of users: told what happens to the runs of a pipeline, in the process that has them."""

from taskiq_flow.hooks.broadcast import TrackingEventBroadcaster
from taskiq_flow.hooks.events import (
    HookEvent,
    HookEventType,
    PipelineCompleteEvent,
    PipelineErrorEvent,
    PipelineStartEvent,
    StepCompleteEvent,
    StepErrorEvent,
    StepStartEvent,
)
from taskiq_flow.hooks.manager import EventFilter, HookManager

__all__ = [
    "EventFilter",
    "HookEvent",
    "HookEventType",
    "HookManager",
    "PipelineCompleteEvent",
    "PipelineErrorEvent",
    "PipelineStartEvent",
    "StepCompleteEvent",
    "StepErrorEvent",
    "StepStartEvent",
    "TrackingEventBroadcaster",
]
