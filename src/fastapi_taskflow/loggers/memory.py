"""An observer that keeps what it is told, for tests."""

from __future__ import annotations

from fastapi_taskflow.loggers.base import (
    LifecycleEvent,
    LogEvent,
    LogLevel,
    TaskEvent,
    TaskObserver,
)


class InMemoryLogger(TaskObserver):
    """Keeps events in lists; an event is in its list as soon as it has happened.

    It keeps all of them: call `clear` between tests, and use another observer in production.
    """

    def __init__(self, *, min_level: str = "debug") -> None:
        super().__init__(min_level)
        self.log_events: list[LogEvent] = []
        self.lifecycle_events: list[LifecycleEvent] = []

    async def on_log(self, event: LogEvent) -> None:
        self.log_events.append(event)

    async def on_lifecycle(self, event: LifecycleEvent) -> None:
        self.lifecycle_events.append(event)

    def put(self, event: TaskEvent) -> None:
        """Keep an event at once, in any thread."""
        if isinstance(event, LifecycleEvent):
            self.lifecycle_events.append(event)
        elif LogLevel.of(event.level).rank >= LogLevel.of(self.min_level).rank:
            self.log_events.append(event)

    def clear(self) -> None:
        """Forget everything."""
        self.log_events.clear()
        self.lifecycle_events.clear()

    @property
    def is_overridden(self) -> bool:
        """Whether a subclass wants to be told itself."""
        own = type(self)
        return (
            own.on_log is not InMemoryLogger.on_log
            or own.on_lifecycle is not InMemoryLogger.on_lifecycle
        )
