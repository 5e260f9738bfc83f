"""What users read and hear of runs."""

from typing import TYPE_CHECKING

from taskiq_flow.first_use import loading

if TYPE_CHECKING:
    from taskiq_flow.tracking.factory import TrackingStorageFactory
    from taskiq_flow.tracking.manager import PipelineTrackingManager
    from taskiq_flow.tracking.memory import InMemoryPipelineStorage
    from taskiq_flow.tracking.models import (
        PipelineState,
        PipelineStatus,
        StatusPage,
        StepState,
        StepStatus,
        TrackingMetrics,
    )
    from taskiq_flow.tracking.query import HistoryQuery
    from taskiq_flow.tracking.redis import RedisPipelineStorage
    from taskiq_flow.tracking.sql import SQLPipelineStorage
    from taskiq_flow.tracking.storage import TrackingStorage

__all__ = [
    "HistoryQuery",
    "InMemoryPipelineStorage",
    "PipelineState",
    "PipelineStatus",
    "PipelineTrackingManager",
    "RedisPipelineStorage",
    "SQLPipelineStorage",
    "StatusPage",
    "StepState",
    "StepStatus",
    "TrackingMetrics",
    "TrackingStorage",
    "TrackingStorageFactory",
]

if not TYPE_CHECKING:  # with a `__getattr__`, a checker would let any name pass
    __getattr__, __dir__ = loading(
        __name__,
        {
            "HistoryQuery": "taskiq_flow.tracking.query",
            "InMemoryPipelineStorage": "taskiq_flow.tracking.memory",
            "PipelineState": "taskiq_flow.tracking.models",
            "PipelineStatus": "taskiq_flow.tracking.models",
            "PipelineTrackingManager": "taskiq_flow.tracking.manager",
            "RedisPipelineStorage": "taskiq_flow.tracking.redis",
            "SQLPipelineStorage": "taskiq_flow.tracking.sql",
            "StatusPage": "taskiq_flow.tracking.models",
            "StepState": "taskiq_flow.tracking.models",
            "StepStatus": "taskiq_flow.tracking.models",
            "TrackingMetrics": "taskiq_flow.tracking.models",
            "TrackingStorage": "taskiq_flow.tracking.storage",
            "TrackingStorageFactory": "taskiq_flow.tracking.factory",
        },
    )
