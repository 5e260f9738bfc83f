"""Observers: who is told what tasks say and how they fare, off the path of the tasks."""

from fastapi_taskflow.loggers.base import LifecycleEvent, LogEvent, LogLevel, TaskObserver
from fastapi_taskflow.loggers.chain import LoggerChain
from fastapi_taskflow.loggers.file import FileLogger
from fastapi_taskflow.loggers.memory import InMemoryLogger
from fastapi_taskflow.loggers.stdout import StdoutLogger

__all__ = [
    "FileLogger",
    "InMemoryLogger",
    "LifecycleEvent",
    "LogEvent",
    "LogLevel",
    "LoggerChain",
    "StdoutLogger",
    "TaskObserver",
]
