"""The graph of a pipeline: what its tasks take and give, and the order that follows from it."""

from taskiq_flow.dataflow.builder import DAGBuilder
from taskiq_flow.dataflow.cache import DataCache
from taskiq_flow.dataflow.caching import CachePolicy
from taskiq_flow.dataflow.dag import DAG, EdgeSet
from taskiq_flow.dataflow.decorators import (
    BaseTaskDecorator,
    CPUProfile,
    RAMProfile,
    pipeline_task,
    pipeline_task_multi_output,
)
from taskiq_flow.dataflow.inspection import (
    get_all_pipeline_outputs,
    get_pipeline_metadata,
    get_task_by_output,
    get_task_inputs,
    get_task_outputs,
    is_pipeline_task,
    resolve_task_dependencies,
    validate_pipeline_outputs,
)
from taskiq_flow.dataflow.node import DAGNode, DataNode
from taskiq_flow.dataflow.options import TaskOptions
from taskiq_flow.dataflow.outputs import split_outputs
from taskiq_flow.dataflow.registry import DataflowRegistry
from taskiq_flow.dataflow.task_info import InputBinding, TaskInfo, read_task
from taskiq_flow.dataflow.type_check import TypeMismatch, check_types

__all__ = [
    "DAG",
    "BaseTaskDecorator",
    "CPUProfile",
    "CachePolicy",
    "DAGBuilder",
    "DAGNode",
    "DataCache",
    "DataNode",
    "DataflowRegistry",
    "EdgeSet",
    "InputBinding",
    "RAMProfile",
    "TaskInfo",
    "TaskOptions",
    "TypeMismatch",
    "check_types",
    "get_all_pipeline_outputs",
    "get_pipeline_metadata",
    "get_task_by_output",
    "get_task_inputs",
    "get_task_outputs",
    "is_pipeline_task",
    "pipeline_task",
    "pipeline_task_multi_output",
    "read_task",
    "resolve_task_dependencies",
    "split_outputs",
    "validate_pipeline_outputs",
]
