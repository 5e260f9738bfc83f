"""What is written above a task: its outputs and inputs, how it is run, what it takes."""

from taskiq_flow.dataflow import (
    BaseTaskDecorator,
    CPUProfile,
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

__all__ = [
    "BaseTaskDecorator",
    "CPUProfile",
    "RAMProfile",
    "TaskInfo",
    "get_all_pipeline_outputs",
    "get_pipeline_metadata",
    "get_task_by_output",
    "get_task_inputs",
    "get_task_outputs",
    "is_pipeline_task",
    "pipeline_task",
    "pipeline_task_multi_output",
    "resolve_task_dependencies",
    "validate_pipeline_outputs",
]
