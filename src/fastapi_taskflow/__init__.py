"""Background tasks for FastAPI: a face on the durable engine of `taskiq_flow`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastapi_taskflow.auth import TaskAuthBackend
from fastapi_taskflow.backends import PostgresBackend, RedisBackend, SqliteBackend
from fastapi_taskflow.context import get_task_context
from fastapi_taskflow.exceptions import QueueFullError, TaskArgumentError
from fastapi_taskflow.loggers import (
    FileLogger,
    InMemoryLogger,
    LifecycleEvent,
    LogEvent,
    LoggerChain,
    StdoutLogger,
    TaskObserver,
)
from fastapi_taskflow.models import (
    AuditEntry,
    QueueConfig,
    ScheduledOnce,
    TaskConfig,
    TaskContext,
    TaskExecutionContext,
    TaskRecord,
    TaskStatus,
)
from fastapi_taskflow.runner import task_progress
from fastapi_taskflow.snapshot import SnapshotScheduler
from fastapi_taskflow.task_log import task_log
from taskiq_flow.exceptions import MissingExtraError
from taskiq_flow.not_shipped import refusing

if TYPE_CHECKING:
    from fastapi_taskflow.admin import TaskAdmin
    from fastapi_taskflow.manager import TaskManager
    from fastapi_taskflow.tasks import ManagedBackgroundTasks

__all__ = [
    "AuditEntry",
    "FileLogger",
    "InMemoryLogger",
    "LifecycleEvent",
    "LogEvent",
    "LoggerChain",
    "ManagedBackgroundTasks",
    "PostgresBackend",
    "QueueConfig",
    "QueueFullError",
    "RedisBackend",
    "ScheduledOnce",
    "SnapshotScheduler",
    "SqliteBackend",
    "StdoutLogger",
    "TaskAdmin",
    "TaskArgumentError",
    "TaskAuthBackend",
    "TaskConfig",
    "TaskContext",
    "TaskExecutionContext",
    "TaskManager",
    "TaskObserver",
    "TaskRecord",
    "TaskStatus",
    "get_task_context",
    "task_log",
    "task_progress",
]

_NEEDING_FASTAPI = {
    "ManagedBackgroundTasks": "fastapi_taskflow.tasks",
    "TaskAdmin": "fastapi_taskflow.admin",
    "TaskManager": "fastapi_taskflow.manager",
}
_refuse = refusing("fastapi_taskflow")


def __getattr__(name: str) -> Any:
    if name not in _NEEDING_FASTAPI:
        return _refuse(name)
    try:
        return getattr(import_module(_NEEDING_FASTAPI[name]), name)
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "starlette"):
            raise
        raise MissingExtraError(name, "fastapi", error.name) from error
