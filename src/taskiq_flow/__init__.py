"""Durable pipelines on Taskiq: kill any process, the run goes on."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from taskiq_flow import tracking
from taskiq_flow.cache import BaseCacheAdapter, InMemoryCacheAdapter
from taskiq_flow.codec import register_codec, register_exception
from taskiq_flow.compile import Continue
from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.context import PipelineContext
from taskiq_flow.dataflow import (
    DAG,
    CachePolicy,
    CPUProfile,
    DAGBuilder,
    DAGNode,
    DataCache,
    DataflowRegistry,
    DataNode,
    RAMProfile,
    TaskInfo,
    get_all_pipeline_outputs,
    get_pipeline_metadata,
    get_task_by_output,
    get_task_inputs,
    get_task_outputs,
    is_pipeline_task,
    pipeline_task,
    pipeline_task_multi_output,
    resolve_task_dependencies,
    validate_pipeline_outputs,
)
from taskiq_flow.events import EventType, RunEvent
from taskiq_flow.exceptions import (
    AbortPipeline,
    ChildRunError,
    ConfigurationError,
    CycleError,
    DuplicatePipelineError,
    EventTimeoutError,
    NoCaseError,
    PipelineCancelledError,
    PipelineError,
    PipelineTimeoutError,
    RunEndedError,
    RunNotFoundError,
    StoreUnavailableError,
    TaskiqFlowError,
    TaskNotFoundError,
    TrackingError,
)
from taskiq_flow.execution_engine import ExecutionEngine
from taskiq_flow.hooks import EventFilter, HookManager
from taskiq_flow.limits import limit
from taskiq_flow.map_reduce import MapReduce
from taskiq_flow.metrics import MetricsCollector
from taskiq_flow.middleware import PipelineMiddleware
from taskiq_flow.middlewares import (
    CacheMiddleware,
    DLQManager,
    PipelineRetryMiddleware,
    RetryMiddleware,
    StorageMiddleware,
    calculate_exponential_backoff_delay,
)
from taskiq_flow.model.records import Limit
from taskiq_flow.not_shipped import refusing
from taskiq_flow.pipeline import DataflowPipeline, Pipeline
from taskiq_flow.plan import RetryPolicy
from taskiq_flow.scheduling import PipelineScheduler
from taskiq_flow.sending import send_event
from taskiq_flow.storage import (
    BaseStorageAdapter,
    InMemoryStorageAdapter,
    StorageAdapterFactory,
    StorageEntry,
)
from taskiq_flow.task import PipelineTask, Task
from taskiq_flow.tracking import (
    InMemoryPipelineStorage,
    PipelineStatus,
    PipelineTrackingManager,
    StepStatus,
    TrackingMetrics,
    TrackingStorage,
    TrackingStorageFactory,
)
from taskiq_flow.visualization import DAGVisualizer, MermaidGenerator, visualize_pipeline

if TYPE_CHECKING:
    from taskiq_flow.api import PipelineVisualizationAPI, create_visualization_api
    from taskiq_flow.tracking import RedisPipelineStorage, SQLPipelineStorage

__all__ = [
    "DAG",
    "AbortPipeline",
    "BaseCacheAdapter",
    "BaseStorageAdapter",
    "CPUProfile",
    "CacheMiddleware",
    "CachePolicy",
    "ChildRunError",
    "ConfigurationError",
    "Continue",
    "CycleError",
    "DAGBuilder",
    "DAGNode",
    "DAGVisualizer",
    "DLQManager",
    "DataCache",
    "DataNode",
    "DataflowPipeline",
    "DataflowRegistry",
    "DuplicatePipelineError",
    "EventFilter",
    "EventTimeoutError",
    "EventType",
    "ExecutionEngine",
    "HookManager",
    "InMemoryCacheAdapter",
    "InMemoryPipelineStorage",
    "InMemoryStorageAdapter",
    "Limit",
    "MapReduce",
    "MermaidGenerator",
    "MetricsCollector",
    "NoCaseError",
    "Pipeline",
    "PipelineCancelledError",
    "PipelineContext",
    "PipelineError",
    "PipelineMiddleware",
    "PipelineRetryMiddleware",
    "PipelineScheduler",
    "PipelineStatus",
    "PipelineTask",
    "PipelineTimeoutError",
    "PipelineTrackingManager",
    "PipelineVisualizationAPI",
    "RAMProfile",
    "RedisPipelineStorage",
    "RetryMiddleware",
    "RetryPolicy",
    "RunEndedError",
    "RunEvent",
    "RunNotFoundError",
    "SQLPipelineStorage",
    "StepStatus",
    "StorageAdapterFactory",
    "StorageEntry",
    "StorageMiddleware",
    "StoreUnavailableError",
    "Task",
    "TaskInfo",
    "TaskNotFoundError",
    "TaskiqFlowConfig",
    "TaskiqFlowError",
    "TrackingError",
    "TrackingMetrics",
    "TrackingStorage",
    "TrackingStorageFactory",
    "calculate_exponential_backoff_delay",
    "create_visualization_api",
    "get_all_pipeline_outputs",
    "get_pipeline_metadata",
    "get_task_by_output",
    "get_task_inputs",
    "get_task_outputs",
    "is_pipeline_task",
    "limit",
    "pipeline_task",
    "pipeline_task_multi_output",
    "register_codec",
    "register_exception",
    "resolve_task_dependencies",
    "send_event",
    "validate_pipeline_outputs",
    "visualize_pipeline",
]

_refuse = refusing(__name__)


def __getattr__(name: str) -> Any:
    if name in {"RedisPipelineStorage", "SQLPipelineStorage"}:  # these need extras
        return getattr(tracking, name)
    if name in {"PipelineVisualizationAPI", "create_visualization_api"}:
        return getattr(import_module("taskiq_flow.api"), name)
    return _refuse(name)
