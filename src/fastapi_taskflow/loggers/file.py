"""An observer that writes events to a text file."""

from __future__ import annotations

import logging
import os
from enum import StrEnum
from logging.handlers import RotatingFileHandler, WatchedFileHandler

from fastapi_taskflow.exceptions import LoggerOptionError
from fastapi_taskflow.loggers.base import LifecycleEvent, LogEvent, LogLevel, TaskObserver
from fastapi_taskflow.loggers.lines import line_of
from taskiq_flow.model.numbers import is_count


class FileMode(StrEnum):
    """Who makes a new file when one has become too large."""

    ROTATE = "rotate"  # the logger itself
    WATCHED = "watched"  # logrotate or the like; the logger follows


class FileLogger(TaskObserver):
    """Writes one line for each event to a file, which it makes if there is none.

    ``rotate`` is for one process a file: two would rename it under each other. Several processes
    that share a file use ``watched`` and a rotation from outside. ``min_level`` holds for status
    lines too: FAILED counts as an error, INTERRUPTED as a warning, all others as info.
    """

    own_thread = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = 10 * 1024 * 1024,
        backup_count: int = 5,
        mode: str = "rotate",
        log_lifecycle: bool = False,
        min_level: str = "info",
    ) -> None:
        super().__init__(min_level)
        if mode not in set(FileMode):
            raise LoggerOptionError("mode", mode, "'rotate', 'watched'")
        for option, value in (("max_bytes", max_bytes), ("backup_count", backup_count)):
            if not is_count(value, 0):
                raise LoggerOptionError(option, value, "0 (never rotate) and positive numbers")
        self.path, self.mode = os.fspath(path), FileMode(mode)
        self.max_bytes, self.backup_count = max_bytes, backup_count
        self.log_lifecycle = log_lifecycle
        self._handler: logging.Handler | None = None

    @property
    def real_path(self) -> str:
        """The path without links and relative parts."""
        return os.path.realpath(self.path)

    async def startup(self) -> None:
        """Make the file, so that a path that cannot be written shows at the start."""
        self._open()

    async def on_log(self, event: LogEvent) -> None:
        self._write(line_of(event))

    async def on_lifecycle(self, event: LifecycleEvent) -> None:
        if self.log_lifecycle and event.level.rank >= LogLevel.of(self.min_level).rank:
            self._write(line_of(event))

    async def close(self) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.close()

    def _open(self) -> logging.Handler:
        if self._handler is None:
            self._handler = self._make_handler()
        return self._handler

    def _make_handler(self) -> logging.Handler:
        if self.mode is FileMode.WATCHED:
            return _Watched(self.path, encoding="utf-8")
        return _Rotating(
            self.path, maxBytes=self.max_bytes, backupCount=self.backup_count, encoding="utf-8"
        )

    def _write(self, line: str) -> None:
        self._open().handle(logging.LogRecord("", logging.INFO, "", 0, line, None, None))


class _Raising(logging.Handler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - stdlib's
        """Leave the error to who asked for the line: it is counted and logged there."""
        raise  # noqa: PLE0704 - called where an exception is handled


class _Rotating(_Raising, RotatingFileHandler):
    """Renames the file when it is full."""


class _Watched(_Raising, WatchedFileHandler):
    """Opens the file again when its path leads to another one."""
