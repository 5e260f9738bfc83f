"""A documented name for reading what is stored; there are no snapshots to be scheduled."""

from __future__ import annotations

from typing import Any

from fastapi_taskflow.backends.base import StoreBackend


class SnapshotScheduler:
    """Reads the tasks of a backend.

    Every task is stored before its response and every end when it happens, so there is nothing to
    be flushed: ``interval`` is accepted without effect.
    """

    def __init__(self, backend: StoreBackend, *, interval: float = 60.0) -> None:
        self.backend, self.interval = backend, interval

    def query(
        self, status: str | None = None, func_name: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """The newest stored tasks; see `StoreBackend.query`."""
        return self.backend.query(status, func_name, limit)

    async def flush(self) -> int:
        """Store what is not stored yet: nothing, ever."""
        return 0
