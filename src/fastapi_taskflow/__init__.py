"""Background tasks for FastAPI: a face on the durable engine of `taskiq_flow`."""

from typing import TYPE_CHECKING, Any

from fastapi_taskflow.task_log import task_log
from taskiq_flow.exceptions import MissingExtraError
from taskiq_flow.first_use import loading

if TYPE_CHECKING:
    from fastapi_taskflow.admin import TaskAdmin
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
    from fastapi_taskflow.manager import TaskManager
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

if not TYPE_CHECKING:  # with a `__getattr__`, a checker would let any name pass
    _load, __dir__ = loading(
        __name__,
        {
            "AuditEntry": "fastapi_taskflow.models",
            "FileLogger": "fastapi_taskflow.loggers",
            "InMemoryLogger": "fastapi_taskflow.loggers",
            "LifecycleEvent": "fastapi_taskflow.loggers",
            "LogEvent": "fastapi_taskflow.loggers",
            "LoggerChain": "fastapi_taskflow.loggers",
            "ManagedBackgroundTasks": "fastapi_taskflow.tasks",
            "PostgresBackend": "fastapi_taskflow.backends",
            "QueueConfig": "fastapi_taskflow.models",
            "QueueFullError": "fastapi_taskflow.exceptions",
            "RedisBackend": "fastapi_taskflow.backends",
            "ScheduledOnce": "fastapi_taskflow.models",
            "SnapshotScheduler": "fastapi_taskflow.snapshot",
            "SqliteBackend": "fastapi_taskflow.backends",
            "StdoutLogger": "fastapi_taskflow.loggers",
            "TaskAdmin": "fastapi_taskflow.admin",
            "TaskArgumentError": "fastapi_taskflow.exceptions",
            "TaskAuthBackend": "fastapi_taskflow.auth",
            "TaskConfig": "fastapi_taskflow.models",
            "TaskContext": "fastapi_taskflow.models",
            "TaskExecutionContext": "fastapi_taskflow.models",
            "TaskManager": "fastapi_taskflow.manager",
            "TaskObserver": "fastapi_taskflow.loggers",
            "TaskRecord": "fastapi_taskflow.models",
            "TaskStatus": "fastapi_taskflow.models",
            "get_task_context": "fastapi_taskflow.context",
            "task_progress": "fastapi_taskflow.runner",
        },
    )

    def __getattr__(name: str) -> Any:
        try:
            return _load(name)
        except ModuleNotFoundError as error:
            if error.name not in ("fastapi", "starlette"):
                raise
            raise MissingExtraError(name, "fastapi", error.name) from error
