"""Questions about tasks and what they declare."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from taskiq_flow.dataflow.options import TaskOptions, declaration_of, live_declarations
from taskiq_flow.dataflow.signature import AnyTask
from taskiq_flow.dataflow.task_info import read_task
from taskiq_flow.exceptions import DuplicateOutputError


def is_pipeline_task(task: AnyTask) -> bool:
    """Say whether a task or function carries ``@pipeline_task``."""
    return declaration_of(task) is not None


def get_task_outputs(task: AnyTask) -> list[str]:
    """Return the outputs that a task declares, the primary one first; else none."""
    return list(read_task(task).outputs) if is_pipeline_task(task) else []


def get_task_inputs(task: AnyTask) -> list[str]:
    """Return the data that a task needs, declared or read from its signature."""
    return list(read_task(task).inputs)


def get_pipeline_metadata(task: AnyTask) -> dict[str, Any]:
    """Return what a task declares as a dict; empty for a task without ``@pipeline_task``."""
    if not is_pipeline_task(task):
        return {}
    info = read_task(task)
    options = {f.name: getattr(info.options, f.name) for f in fields(TaskOptions)}
    return {
        **options,
        "is_pipeline_task": True,
        "output": info.outputs[0],
        "outputs": list(info.outputs),
        "multiple_outputs": info.multiple_outputs,
        "inputs": list(info.inputs),
        "retries": info.options.retries or 0,
        "resources": dict(info.options.resources),
        "description": info.description,
    }


def resolve_task_dependencies(tasks: Iterable[AnyTask]) -> dict[AnyTask, list[str]]:
    """Map each task to those of its inputs that another of these tasks produces."""
    infos = [(task, read_task(task)) for task in tasks]
    produced = {name for _, info in infos for name in info.outputs}
    return {
        task: [
            name
            for name in dict.fromkeys((*info.inputs, *info.optional_inputs))
            if name in produced and name not in info.outputs
        ]
        for task, info in infos
    }


def get_all_pipeline_outputs(tasks: Iterable[AnyTask] | None = None) -> dict[str, AnyTask]:
    """Map each declared output to its task, of these tasks or of all that are alive.

    Where two tasks declare one name, the later one is returned; `validate_pipeline_outputs` finds
    such pairs.
    """
    candidates = live_declarations() if tasks is None else list(tasks)
    return {name: task for task in candidates for name in get_task_outputs(task)}


def get_task_by_output(name: str, tasks: Iterable[AnyTask] | None = None) -> AnyTask | None:
    """Return the task that declares this output, of these tasks or of all that are alive."""
    return get_all_pipeline_outputs(tasks).get(name)


def validate_pipeline_outputs(tasks: Iterable[AnyTask]) -> None:
    """Check that no two of these tasks write the same name.

    Raises:
        DuplicateOutputError: Two of them do.
    """
    writers: dict[str, str] = {}
    for task in tasks:
        info = read_task(task)
        for name in info.outputs:
            if name in writers:
                raise DuplicateOutputError(name, writers[name], info.name)
            writers[name] = info.name
