"""Ends what a manager has in a worker of its broker, when that worker stops."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from taskiq import TaskiqMiddleware


class WorkerEnd(TaskiqMiddleware):
    """Comes after the engine's middleware, so that the tasks have ended, or were given back."""

    def __init__(self, end: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._end = end

    async def shutdown(self) -> None:
        """End it in a worker; in an application the manager ends with that."""
        if self.broker.is_worker_process:
            await self._end()
