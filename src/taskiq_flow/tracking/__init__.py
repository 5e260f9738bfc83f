"""What users read and hear of runs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
from taskiq_flow.tracking.storage import TrackingStorage

if TYPE_CHECKING:
    from taskiq_flow.tracking.redis import RedisPipelineStorage
    from taskiq_flow.tracking.sql import SQLPipelineStorage

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

_NEEDING_EXTRAS = {
    "RedisPipelineStorage": "taskiq_flow.tracking.redis",
    "SQLPipelineStorage": "taskiq_flow.tracking.sql",
}


def __getattr__(name: str) -> Any:
    if name in _NEEDING_EXTRAS:
        return getattr(import_module(_NEEDING_EXTRAS[name]), name)
    raise AttributeError(f"module 'taskiq_flow.tracking' has no attribute {name!r}")
