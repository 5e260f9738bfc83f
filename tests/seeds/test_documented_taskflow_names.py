"""Every documented name of background tasks is where it is documented, with its parameters.

The tables follow the inventory of what such a system documents. What is not shipped says what to
use instead.
"""

import dataclasses
import importlib
import inspect
from typing import Any

import pytest

import fastapi_taskflow
from taskiq_flow.exceptions import NotShippedError

NAMES = {
    "fastapi_taskflow": """
        FileLogger InMemoryLogger LifecycleEvent LogEvent LoggerChain ManagedBackgroundTasks
        QueueConfig QueueFullError RedisBackend ScheduledOnce SnapshotScheduler SqliteBackend
        StdoutLogger TaskAdmin TaskArgumentError TaskAuthBackend TaskConfig TaskContext
        TaskExecutionContext TaskManager TaskObserver TaskRecord TaskStatus get_task_context
        task_log
    """,
    "fastapi_taskflow.models": """
        AuditEntry QueueConfig ScheduledOnce TaskConfig TaskRecord TaskStatus
    """,
    "fastapi_taskflow.backends": "PostgresBackend RedisBackend SqliteBackend",
    "fastapi_taskflow.backends.sqlite": "SqliteBackend",
    "fastapi_taskflow.backends.redis": "RedisBackend",
    "fastapi_taskflow.backends.postgres": "PostgresBackend",
    "fastapi_taskflow.loggers": """
        FileLogger InMemoryLogger LifecycleEvent LogEvent LoggerChain StdoutLogger TaskObserver
    """,
    "fastapi_taskflow.loggers.base": "LifecycleEvent LogEvent TaskObserver",
    "fastapi_taskflow.periodic": """
        DEFAULT_HORIZON DEFAULT_REFILL_INTERVAL PeriodicScheduler ScheduledEntry
    """,
    "fastapi_taskflow.exceptions": "QueueFullError TaskArgumentError",
}

NOT_SHIPPED = {
    "fastapi_taskflow": "SnapshotBackend",
    "fastapi_taskflow.backends": "MySQLBackend SnapshotBackend",
    "fastapi_taskflow.backends.base": "SnapshotBackend",
    "fastapi_taskflow.backends.mysql": "MySQLBackend",
}

MEMBERS = {
    "TaskManager": """
        add_task background_tasks cancel_scheduled fernet get_tasks init_app install list_scheduled
        queue_stats registry schedule schedule_once shutdown startup task
        update_queue_config
    """,
    "ManagedBackgroundTasks": "add_task",
    "TaskRecord": "duration from_dict to_dict",
    "TaskStatus": "CANCELLED FAILED INTERRUPTED PENDING REJECTED RUNNING SUCCESS",
    "TaskObserver": "close on_lifecycle on_log startup",
    "InMemoryLogger": "clear",
    "SqliteBackend": "query",
    "TaskAuthBackend": "authenticate_user",
}

DEFAULTS: dict[str, dict[str, Any]] = {
    "TaskManager": {
        "snapshot_db": None,
        "snapshot_backend": None,
        "snapshot_interval": 60.0,
        "requeue_pending": False,
        "merged_list_ttl": 5.0,
        "loggers": None,
        "log_file": None,
        "log_file_max_bytes": 10485760,
        "log_file_backup_count": 5,
        "log_file_mode": "rotate",
        "log_lifecycle": False,
        "encrypt_args_key": None,
        "max_concurrent_tasks": None,
        "max_sync_threads": None,
        "max_process_workers": None,
        "process_shutdown_timeout": 30.0,
        "retention_days": None,
        "retry_replaces_original": True,
        "queues": None,
        "max_size": None,
        "instance_url": None,
        "instance_tasks_prefix": "",
        "registry_ttl": 90,
        "registry_heartbeat": 30,
    },
    "TaskManager.task": {
        "executor": None,
        "retries": 0,
        "delay": 0.0,
        "backoff": 1.0,
        "persist": False,
        "name": None,
        "requeue_on_interrupt": False,
        "eager": False,
        "priority": None,
        "queue": None,
    },
    "TaskManager.schedule": {
        "every": None,
        "cron": None,
        "retries": 0,
        "delay": 0.0,
        "backoff": 1.0,
        "name": None,
        "run_on_startup": False,
        "timezone": "UTC",
        "executor": None,
        "queue": None,
    },
    "TaskManager.schedule_once": {
        "run_at": inspect.Parameter.empty,
        "run_key": inspect.Parameter.empty,
        "idempotency_key": None,
        "tags": None,
        "priority": None,
        "queue": None,
    },
    "ManagedBackgroundTasks": {"background_tasks": None},
    "ManagedBackgroundTasks.add_task": {
        "idempotency_key": None,
        "tags": None,
        "eager": None,
        "priority": None,
        "queue": None,
    },
    "TaskAdmin": {
        "path": "/tasks",
        "display_func_args": False,
        "auto_install": False,
        "auth": None,
        "token_expiry": 86400,
        "secret_key": None,
        "poll_interval": 30.0,
        "title": "fastapi-taskflow",
        "retention_days": None,
    },
    "FileLogger": {
        "max_bytes": 10485760,
        "backup_count": 5,
        "mode": "rotate",
        "log_lifecycle": False,
        "min_level": "info",
    },
    "StdoutLogger": {"log_lifecycle": False, "min_level": "info"},
    "InMemoryLogger": {"min_level": "debug"},
    "TaskObserver": {"min_level": "info"},
    "task_log": {"level": "info"},
    "SqliteBackend": {"db_path": "tasks.db", "max_workers": 4},
    "SqliteBackend.query": {"status": None, "func_name": None, "limit": 100},
    "RedisBackend": {"url": "redis://localhost:6379/0", "prefix": "fastapi_taskflow"},
    "PostgresBackend": {"url": None, "pool": None, "min_conn": 1, "max_conn": 5},
    "TaskConfig": {"retries": 0, "delay": 0.0, "backoff": 1.0, "persist": False, "name": None},
    "QueueConfig": {"concurrency": None, "max_size": None},
}

FIELDS = {
    "TaskRecord": """
        args created_at encrypted_payload end_time error executor func_name idempotency_key kwargs
        logs priority progress queue result retries_used source stacktrace start_time status tags
        task_id
    """,
    "TaskContext": "attempt func_name tags task_id",
    "AuditEntry": "action actor detail entry_id task_id timestamp",
    "QueueConfig": "concurrency max_size",
}


def _each(table: dict[str, str]) -> list[tuple[str, str]]:
    return [(place, name) for place, names in table.items() for name in names.split()]


def _found(path: str) -> Any:
    found: Any = fastapi_taskflow
    for part in path.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize(("module", "name"), _each(NAMES))
def test_a_documented_name_is_where_it_is_documented(module: str, name: str) -> None:
    assert getattr(importlib.import_module(module), name) is not None


@pytest.mark.parametrize(("module", "name"), _each(NOT_SHIPPED))
def test_a_name_that_is_not_shipped_says_what_to_use(module: str, name: str) -> None:
    with pytest.raises(NotShippedError, match=rf"^{name} is not part of Taskiq-Flow; use \w+"):
        exec(f"from {module} import {name}")


@pytest.mark.parametrize(("owner", "name"), _each(MEMBERS))
def test_a_class_has_what_is_documented_of_it(owner: str, name: str) -> None:
    assert hasattr(_found(owner), name)


@pytest.mark.parametrize("path", DEFAULTS)
def test_documented_parameters_have_their_documented_defaults(path: str) -> None:
    parameters = inspect.signature(_found(path)).parameters

    assert {name: parameters[name].default for name in DEFAULTS[path]} == DEFAULTS[path]


@pytest.mark.parametrize("name", FIELDS)
def test_a_record_has_its_documented_fields(name: str) -> None:
    fields = {field.name for field in dataclasses.fields(_found(name))}

    assert fields == set(FIELDS[name].split())


def test_the_words_of_a_status_are_the_documented_ones() -> None:
    assert [status.value for status in fastapi_taskflow.TaskStatus] == [
        "pending",
        "running",
        "success",
        "failed",
        "interrupted",
        "cancelled",
        "rejected",
    ]


def test_a_manager_has_its_documented_attributes() -> None:
    manager = fastapi_taskflow.TaskManager()

    assert manager.store.get("nobody") is None
    assert manager.logger is None
    assert manager.fernet is None


def test_all_says_what_there_is() -> None:
    documented = set(NAMES["fastapi_taskflow"].split())

    assert documented <= set(fastapi_taskflow.__all__)
    assert all(getattr(fastapi_taskflow, name) is not None for name in fastapi_taskflow.__all__)
