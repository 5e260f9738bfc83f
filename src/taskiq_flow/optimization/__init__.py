"""How much is done at once in one process, and hints on how much that should be."""

from typing import TYPE_CHECKING

from taskiq_flow.first_use import loading

if TYPE_CHECKING:
    from taskiq_flow.optimization.parallel import max_parallel_tasks, set_max_parallel_tasks
    from taskiq_flow.optimization.resources import (
        ResourceAwareExecutor,
        TaskResourceProfile,
        get_default_executor,
    )

__all__ = [
    "ResourceAwareExecutor",
    "TaskResourceProfile",
    "get_default_executor",
    "max_parallel_tasks",
    "set_max_parallel_tasks",
]

if not TYPE_CHECKING:  # with a `__getattr__`, a checker would let any name pass
    __getattr__, __dir__ = loading(
        __name__,
        {
            "ResourceAwareExecutor": "taskiq_flow.optimization.resources",
            "TaskResourceProfile": "taskiq_flow.optimization.resources",
            "get_default_executor": "taskiq_flow.optimization.resources",
            "max_parallel_tasks": "taskiq_flow.optimization.parallel",
            "set_max_parallel_tasks": "taskiq_flow.optimization.parallel",
        },
    )
