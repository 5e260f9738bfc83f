"""Where results and progress of plain Taskiq tasks are kept; without pickle."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from taskiq_flow.exceptions import ResultGetError, ResultIsReadyError
from taskiq_flow.result_backends.base import AsyncResultBackend
from taskiq_flow.result_backends.dummy import DummyResultBackend
from taskiq_flow.result_backends.file import FileResultBackend
from taskiq_flow.result_backends.memory import InmemoryResultBackend

if TYPE_CHECKING:
    from taskiq_flow.result_backends.redis import RedisResultBackend
    from taskiq_flow.result_backends.sql import SQLResultBackend

__all__ = [
    "AsyncResultBackend",
    "DummyResultBackend",
    "FileResultBackend",
    "InmemoryResultBackend",
    "RedisResultBackend",
    "ResultGetError",
    "ResultIsReadyError",
    "SQLResultBackend",
]

_NEEDING_EXTRAS = {
    "RedisResultBackend": "taskiq_flow.result_backends.redis",
    "SQLResultBackend": "taskiq_flow.result_backends.sql",
}


def __getattr__(name: str) -> Any:
    if name in _NEEDING_EXTRAS:
        return getattr(import_module(_NEEDING_EXTRAS[name]), name)
    raise AttributeError(f"module 'taskiq_flow.result_backends' has no attribute {name!r}")
