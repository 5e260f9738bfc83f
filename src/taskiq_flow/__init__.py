"""Durable pipelines on Taskiq: kill any process, the run goes on."""

from typing import NoReturn

from taskiq_flow.codec import register_codec, register_exception
from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.context import PipelineContext
from taskiq_flow.dataflow import (
    DAG,
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
from taskiq_flow.exceptions import (
    AbortPipeline,
    ConfigurationError,
    CycleError,
    DuplicatePipelineError,
    NotShippedError,
    PipelineCancelledError,
    PipelineError,
    PipelineTimeoutError,
    RunNotFoundError,
    StoreUnavailableError,
    TaskiqFlowError,
    TaskNotFoundError,
    TrackingError,
)
from taskiq_flow.execution_engine import ExecutionEngine
from taskiq_flow.map_reduce import MapReduce
from taskiq_flow.middleware import PipelineMiddleware
from taskiq_flow.pipeline import DataflowPipeline, Pipeline
from taskiq_flow.plan import RetryPolicy
from taskiq_flow.task import PipelineTask, Task
from taskiq_flow.tracking.models import PipelineStatus, StepStatus
from taskiq_flow.visualization import DAGVisualizer, MermaidGenerator, visualize_pipeline

__all__ = [
    "DAG",
    "AbortPipeline",
    "CPUProfile",
    "ConfigurationError",
    "CycleError",
    "DAGBuilder",
    "DAGNode",
    "DAGVisualizer",
    "DataCache",
    "DataNode",
    "DataflowPipeline",
    "DataflowRegistry",
    "DuplicatePipelineError",
    "ExecutionEngine",
    "MapReduce",
    "MermaidGenerator",
    "Pipeline",
    "PipelineCancelledError",
    "PipelineContext",
    "PipelineError",
    "PipelineMiddleware",
    "PipelineStatus",
    "PipelineTask",
    "PipelineTimeoutError",
    "RAMProfile",
    "RetryPolicy",
    "RunNotFoundError",
    "StepStatus",
    "StoreUnavailableError",
    "Task",
    "TaskInfo",
    "TaskNotFoundError",
    "TaskiqFlowConfig",
    "TaskiqFlowError",
    "TrackingError",
    "get_all_pipeline_outputs",
    "get_pipeline_metadata",
    "get_task_by_output",
    "get_task_inputs",
    "get_task_outputs",
    "is_pipeline_task",
    "pipeline_task",
    "pipeline_task_multi_output",
    "register_codec",
    "register_exception",
    "resolve_task_dependencies",
    "validate_pipeline_outputs",
    "visualize_pipeline",
]

_REPLACED = {
    "TransportMiddleware": "the event feed: `async for event in task.events()`",
    "JobPersistenceManager": "a run store, see PipelineMiddleware(store=...)",
    "LabelBasedScheduler": "PipelineScheduler",
    "ResourceAwareWorkerPool": "max_parallel, and `taskiq worker --max-async-tasks`",
}


def __getattr__(name: str) -> NoReturn:
    if name in _REPLACED:
        raise NotShippedError(name, _REPLACED[name])
    raise AttributeError(f"module 'taskiq_flow' has no attribute {name!r}")
