"""How much is done at once in one process, and hints on how much that should be."""

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
