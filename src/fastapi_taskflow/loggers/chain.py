"""All observers of a task manager as one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from fastapi_taskflow.exceptions import LoggerOptionError
from fastapi_taskflow.loggers.base import LifecycleEvent, LogEvent, TaskEvent, TaskObserver
from fastapi_taskflow.loggers.delivery import Delivery, ThreadDelivery
from fastapi_taskflow.loggers.file import FileLogger
from fastapi_taskflow.loggers.memory import InMemoryLogger

logger = logging.getLogger("fastapi_taskflow.loggers")


class LoggerChain(TaskObserver):
    """Tells every observer of each event; tasks never wait for any of them.

    Two file loggers of one path would write every line twice: only the first one is kept.
    """

    def __init__(self, loggers: Sequence[TaskObserver] = ()) -> None:
        super().__init__(min_level="debug")
        self.loggers = _without_repeated_files(loggers)
        self._takers: list[Delivery | InMemoryLogger] = [_taker(each) for each in self.loggers]

    def tell(self, event: TaskEvent) -> None:
        """Put an event before each observer; callable in any thread, and returns at once."""
        for taker in self._takers:
            taker.put(event)

    async def on_log(self, event: LogEvent) -> None:
        self.tell(event)

    async def on_lifecycle(self, event: LifecycleEvent) -> None:
        self.tell(event)

    async def startup(self) -> None:
        """Start the observers; events from before are told first."""
        await asyncio.gather(*(each.start() for each in self._deliveries))

    async def flush(self, timeout_seconds: float = 5.0) -> None:
        """Wait until the observers have been told of all that has happened, at most so long."""
        await asyncio.gather(*(each.flush(timeout_seconds) for each in self._deliveries))

    async def close(self) -> None:
        """Tell what is left, and close the observers; `startup` may be called again."""
        await asyncio.gather(*(each.stop() for each in self._deliveries))

    @property
    def _deliveries(self) -> list[Delivery]:
        return [taker for taker in self._takers if isinstance(taker, Delivery)]


def _taker(observer: TaskObserver) -> Delivery | InMemoryLogger:
    # Keeping an event in a list takes no time, and tests look for it right after their task. A
    # subclass with methods of its own may do anything.
    if isinstance(observer, InMemoryLogger) and not observer.is_overridden:
        return observer
    return ThreadDelivery(observer) if observer.own_thread else Delivery(observer)


def _without_repeated_files(loggers: Sequence[TaskObserver]) -> tuple[TaskObserver, ...]:
    kept: list[TaskObserver] = []
    paths: set[str] = set()
    for observer in loggers:
        if not isinstance(observer, TaskObserver):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise LoggerOptionError("loggers", observer, "instances of TaskObserver")
        if isinstance(observer, FileLogger):
            if observer.real_path in paths:
                logger.warning("%s is written by another FileLogger already.", observer.path)
                continue
            paths.add(observer.real_path)
        kept.append(observer)
    return tuple(kept)
