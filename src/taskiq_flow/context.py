"""What a running step may ask: who it is, which run it belongs to, whether it should stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic_core import core_schema

if TYPE_CHECKING:
    from taskiq.abc.broker import AsyncBroker

logger = logging.getLogger("taskiq_flow.step")

ReportProgress = Callable[["dict[str, Any]"], None]


@dataclass(slots=True)
class Flag:
    """Says that something has happened; set in one thread, read in any."""

    is_set: bool = False


@dataclass(slots=True)
class PipelineContext:
    """A step's view of its run; a parameter annotated with this class receives one.

    ``pipeline_id`` is the name given to the run, else its id. ``step_index`` counts from 0 in
    plan order; ``item_index`` is set inside a map. ``attempt`` counts from 1. ``started_at`` and
    ``deadline`` are aware UTC times. In a process pool ``broker`` is None.
    """

    pipeline_id: str
    run_id: str
    step_index: int
    step_name: str
    task_id: str
    execution_mode: str
    started_at: datetime
    attempt: int = 1
    item_index: int | None = None
    deadline: datetime | None = None
    broker: AsyncBroker | None = None
    _cancelled: Flag = field(default_factory=Flag, repr=False)
    _report: ReportProgress | None = field(default=None, repr=False)

    @property
    def cancelled(self) -> bool:
        """Whether the run has ended or the lease is lost: what this step returns is dropped.

        Becomes true within 2 s on any worker. Async steps get ``CancelledError`` as well.
        """
        return self._cancelled.is_set

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose lines carry the run, the step and the attempt as fields."""
        facts = {"run_id": self.run_id, "step": self.step_name, "attempt": self.attempt}
        return logging.LoggerAdapter(logger, facts)

    def raise_if_cancelled(self) -> None:
        """Stop a sync step at a safe point.

        Raises:
            asyncio.CancelledError: The run has ended.
        """
        if self.cancelled:
            raise asyncio.CancelledError(f"run {self.run_id} has ended")

    def progress(
        self, current: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Say how far this step is; shown with the run, the newest value wins."""
        if self._report is not None:
            self._report({"current": current, "total": total, "message": message})

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what cannot leave the process: broker, cancellation, progress."""
        hidden = {"broker", "_cancelled", "_report"}
        return {name: getattr(self, name) for name in self.__slots__ if name not in hidden}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self.broker, self._cancelled, self._report = None, Flag(), None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        # Taskiq parses parameters by annotation; without a schema it logs a traceback each time.
        return core_schema.is_instance_schema(cls)
