"""The log of a run: what its steps said, kept in the store, a bounded number of bounded lines."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from taskiq_flow.exceptions import StoreError
from taskiq_flow.model.state import new_list
from taskiq_flow.stores.base import RunStore

logger = logging.getLogger("taskiq_flow.engine")

LINE_BYTES = 16 * 1024
"""A longer line is cut; the store itself keeps the newest 10,000 lines of a run."""

PENDING_LINES = 1000
"""So many lines wait for the store; a step that writes quicker loses the rest, which is said."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that a step wrote; ``at`` is the clock of the worker, in UTC."""

    at: datetime
    level: str
    message: str
    step: str
    attempt: int
    item: int | None = None

    @classmethod
    def read(cls, stored: bytes) -> LogLine:
        """Read a line back from a store."""
        data: dict[str, Any] = json.loads(stored)
        data["at"] = datetime.fromisoformat(data["at"])
        return cls(**data)

    def stored(self) -> bytes:
        """The line as it is stored."""
        facts = {
            "at": self.at.isoformat(),
            "level": self.level,
            "message": _cut(self.message),
            "step": self.step,
            "attempt": self.attempt,
            "item": self.item,
        }
        return json.dumps(facts).encode()


@dataclass(slots=True)
class StepLog:
    """Hands the lines of one grant to the store, in batches, without holding up who writes them."""

    store: RunStore
    run_id: str
    step: str
    loop: asyncio.AbstractEventLoop
    _pending: list[bytes] = field(default_factory=new_list)
    _lost: int = 0
    _writing: asyncio.Task[None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, level: int, message: str, attempt: int, item: int | None) -> None:
        """Take a line, in any thread."""
        now = datetime.now(UTC)
        line = LogLine(now, logging.getLevelName(level), message, self.step, attempt, item)
        with self._lock:
            if len(self._pending) >= PENDING_LINES:
                self._lost += 1
                return
            self._pending.append(line.stored())
            first = len(self._pending) == 1
        if first and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._write_soon)

    async def flush(self) -> None:
        """Wait until the store has what was written: who sees the end of a step finds its lines."""
        if self._pending or self._writing is not None:
            self._write_soon()
            if self._writing is not None:
                await asyncio.wait([self._writing])

    def _write_soon(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = self.loop.create_task(self._write_pending())

    async def _write_pending(self) -> None:
        while self._pending:
            with self._lock:
                lines, lost = list(self._pending), self._lost
                self._pending.clear()
                self._lost = 0
            if lost:
                lines.append(self._about(lost).stored())
            try:
                await self.store.append_log(self.run_id, lines)
            except StoreError as error:
                many = len(lines)
                logger.warning("%d log lines of run %s are lost: %s", many, self.run_id, error)

    def _about(self, lost: int) -> LogLine:
        message = f"{lost} lines were written quicker than they could be stored, and are lost"
        return LogLine(datetime.now(UTC), "WARNING", message, self.step, 0)


def _cut(message: str) -> str:
    data = message.encode(errors="replace")
    if len(data) <= LINE_BYTES:
        return message
    kept = data[:LINE_BYTES].decode(errors="ignore")
    return f"{kept}… ({len(data) - len(kept.encode()):,} bytes more)"
