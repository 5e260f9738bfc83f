"""Where results and progress of plain Taskiq tasks are kept; without pickle."""

from typing import TYPE_CHECKING

from taskiq_flow.exceptions import ResultGetError, ResultIsReadyError
from taskiq_flow.first_use import loading
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

if not TYPE_CHECKING:  # with a `__getattr__`, a checker would let any name pass
    __getattr__, __dir__ = loading(
        __name__,
        {
            "RedisResultBackend": "taskiq_flow.result_backends.redis",
            "SQLResultBackend": "taskiq_flow.result_backends.sql",
        },
    )
