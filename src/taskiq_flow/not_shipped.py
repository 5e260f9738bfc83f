"""Documented names of other systems that Taskiq-Flow has something better for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from taskiq_flow.exceptions import NotShippedError

_FEED = "the event feed: `async for event in task.events()`"
_PARALLEL = "max_parallel, limit=, and `taskiq worker --max-async-tasks`"
_CODEC = "values of the documented types, or register_codec() for your own"
_PROFILER = "the profiler of your choice around the worker; durations are in task.get_status()"
_SOCKETS = "create_visualization_api(broker), which serves WebSockets at /ws and /ws/{id}"
_BACKEND = "SqliteBackend, RedisBackend, PostgresBackend, or the URL of a run store"

REPLACED: dict[str, dict[str, str]] = {
    "taskiq_flow": {
        "TransportMiddleware": _FEED,
        "setup_websocket_bridge": _SOCKETS,
        "JobPersistenceManager": "a run store, see PipelineMiddleware(store=...)",
        "LabelBasedScheduler": "PipelineScheduler",
        "ResourceAwareWorkerPool": _PARALLEL,
    },
    "taskiq_flow.scheduling": {
        "JobPersistenceManager": "PipelineScheduler(broker, store=...), which stores its jobs",
        "LabelBasedScheduler": "PipelineScheduler, or pipeline.schedule_with_labels()",
    },
    "taskiq_flow.scheduling.storage": {
        "JobPersistenceManager": "PipelineScheduler(broker, store=...), which stores its jobs",
        "PipelineExecution": "the runs with the tag schedule:<job id>",
        "SchedulerJob": "ScheduledJob, which get_job() and list_jobs() return",
    },
    "taskiq_flow.transport": {
        "TransportMiddleware": _FEED,
        "WebSocketTransport": _FEED,
        "HTTPStreamTransport": _FEED,
        "RedisPubSubTransport": _FEED,
        "get_http_stream_transport": _FEED,
    },
    "taskiq_flow.profiling": {
        "Profiler": _PROFILER,
        "profile": _PROFILER,
        "generate_flamegraph": _PROFILER,
    },
    "taskiq_flow.serialization": {
        "dumps_scientific": _CODEC,
        "loads_scientific": _CODEC,
    },
    "taskiq_flow.integration": {
        "DAGViewer": "DAGVisualizer(dag).to_svg(), or the dashboard",
    },
    "taskiq_flow.integration.websocket": {
        "PipelineWebSocketServer": _SOCKETS,
        "get_websocket_server": _SOCKETS,
        "setup_websocket_bridge": _SOCKETS,
    },
    "fastapi_taskflow": {"SnapshotBackend": _BACKEND},
    "fastapi_taskflow.backends": {
        "SnapshotBackend": _BACKEND,
        "MySQLBackend": "PostgresBackend, SqliteBackend or RedisBackend",
    },
}


def refusing(module: str) -> Callable[[str], NoReturn]:
    """Make the ``__getattr__`` of a module: it says what to use instead of a name.

    Raises:
        AttributeError: The name is not documented anywhere.
    """

    def refuse(name: str) -> NoReturn:
        instead = REPLACED.get(module, {}).get(name)
        if instead is not None:
            raise NotShippedError(name, instead)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return refuse
