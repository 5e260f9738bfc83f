"""Hooks of users: told what happens to the runs of a pipeline, in the process that has them."""

from typing import TYPE_CHECKING

from taskiq_flow.first_use import loading

if TYPE_CHECKING:
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
    from taskiq_flow.hooks.feed import HookFeed
    from taskiq_flow.hooks.manager import EventFilter, HookManager

__all__ = [
    "EventFilter",
    "HookEvent",
    "HookEventType",
    "HookFeed",
    "HookManager",
    "PipelineCompleteEvent",
    "PipelineErrorEvent",
    "PipelineStartEvent",
    "StepCompleteEvent",
    "StepErrorEvent",
    "StepStartEvent",
    "TrackingEventBroadcaster",
]

if not TYPE_CHECKING:  # with a `__getattr__`, a checker would let any name pass
    __getattr__, __dir__ = loading(
        __name__,
        {
            "EventFilter": "taskiq_flow.hooks.manager",
            "HookEvent": "taskiq_flow.hooks.events",
            "HookEventType": "taskiq_flow.hooks.events",
            "HookFeed": "taskiq_flow.hooks.feed",
            "HookManager": "taskiq_flow.hooks.manager",
            "PipelineCompleteEvent": "taskiq_flow.hooks.events",
            "PipelineErrorEvent": "taskiq_flow.hooks.events",
            "PipelineStartEvent": "taskiq_flow.hooks.events",
            "StepCompleteEvent": "taskiq_flow.hooks.events",
            "StepErrorEvent": "taskiq_flow.hooks.events",
            "StepStartEvent": "taskiq_flow.hooks.events",
            "TrackingEventBroadcaster": "taskiq_flow.hooks.broadcast",
        },
    )
