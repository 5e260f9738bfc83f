"""Documented names of other systems that Taskiq-Flow has something better for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from taskiq_flow.exceptions import NotShippedError

_FEED = "the event feed: `async for event in task.events()`"
_PARALLEL = "max_parallel, limit=, and `taskiq worker --max-async-tasks`"
_CODEC = "values of the documented types, or register_codec() for your own"
_PROFILER = "the profiler of your choice around the worker; durations are in task.get_status()"

REPLACED: dict[str, dict[str, str]] = {
    "taskiq_flow": {
        "TransportMiddleware": _FEED,
        "JobPersistenceManager": "a run store, see PipelineMiddleware(store=...)",
        "LabelBasedScheduler": "PipelineScheduler",
        "ResourceAwareWorkerPool": _PARALLEL,
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
}


def refusing(module: str) -> Callable[[str], NoReturn]:
    """Make the ``__getattr__`` of a module: it says what to use instead of a name.

    Raises:
        AttributeError: The name is not documented anywhere.
    """

    def refuse(name: str) -> NoReturn:
        instead = REPLACED[module].get(name)
        if instead is not None:
            raise NotShippedError(name, instead)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return refuse
