"""The graph of a pipeline: what its tasks take and give, and the order that follows from it."""

from typing import TYPE_CHECKING

from taskiq_flow.first_use import loading

if TYPE_CHECKING:
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

if not TYPE_CHECKING:  # with a `__getattr__`, a checker would let any name pass
    __getattr__, __dir__ = loading(
        __name__,
        {
            "DAG": "taskiq_flow.dataflow.dag",
            "BaseTaskDecorator": "taskiq_flow.dataflow.decorators",
            "CPUProfile": "taskiq_flow.dataflow.decorators",
            "CachePolicy": "taskiq_flow.dataflow.caching",
            "DAGBuilder": "taskiq_flow.dataflow.builder",
            "DAGNode": "taskiq_flow.dataflow.node",
            "DataCache": "taskiq_flow.dataflow.cache",
            "DataNode": "taskiq_flow.dataflow.node",
            "DataflowRegistry": "taskiq_flow.dataflow.registry",
            "EdgeSet": "taskiq_flow.dataflow.dag",
            "InputBinding": "taskiq_flow.dataflow.task_info",
            "RAMProfile": "taskiq_flow.dataflow.decorators",
            "TaskInfo": "taskiq_flow.dataflow.task_info",
            "TaskOptions": "taskiq_flow.dataflow.options",
            "TypeMismatch": "taskiq_flow.dataflow.type_check",
            "check_types": "taskiq_flow.dataflow.type_check",
            "get_all_pipeline_outputs": "taskiq_flow.dataflow.inspection",
            "get_pipeline_metadata": "taskiq_flow.dataflow.inspection",
            "get_task_by_output": "taskiq_flow.dataflow.inspection",
            "get_task_inputs": "taskiq_flow.dataflow.inspection",
            "get_task_outputs": "taskiq_flow.dataflow.inspection",
            "is_pipeline_task": "taskiq_flow.dataflow.inspection",
            "pipeline_task": "taskiq_flow.dataflow.decorators",
            "pipeline_task_multi_output": "taskiq_flow.dataflow.decorators",
            "read_task": "taskiq_flow.dataflow.task_info",
            "resolve_task_dependencies": "taskiq_flow.dataflow.inspection",
            "split_outputs": "taskiq_flow.dataflow.outputs",
            "validate_pipeline_outputs": "taskiq_flow.dataflow.inspection",
        },
    )
