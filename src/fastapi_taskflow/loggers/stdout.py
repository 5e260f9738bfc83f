"""An observer that prints events, for containers whose log driver takes what is printed."""

from __future__ import annotations

import sys

from fastapi_taskflow.loggers.base import LifecycleEvent, LogEvent, LogLevel, TaskObserver
from fastapi_taskflow.loggers.lines import line_of


class StdoutLogger(TaskObserver):
    """Prints the lines that a `FileLogger` writes.

    ``min_level`` holds for status lines too: FAILED counts as an error, INTERRUPTED as a warning,
    all others as info.
    """

    own_thread = True

    def __init__(self, *, log_lifecycle: bool = False, min_level: str = "info") -> None:
        super().__init__(min_level)
        self.log_lifecycle = log_lifecycle

    async def on_log(self, event: LogEvent) -> None:
        _print(line_of(event))

    async def on_lifecycle(self, event: LifecycleEvent) -> None:
        if self.log_lifecycle and event.level.rank >= LogLevel.of(self.min_level).rank:
            _print(line_of(event))


def _print(line: str) -> None:
    out = sys.stdout  # looked up at each line: it may be redirected
    encoding = out.encoding or "utf-8"
    # One write for one line, so that lines of several threads do not mix.
    out.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    out.flush()
