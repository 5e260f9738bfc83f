"""What a store and its twins have in common."""

from __future__ import annotations

from dataclasses import dataclass, field

from taskiq_flow.model.records import RunStatus
from taskiq_flow.stores.base import EndListener
from taskiq_flow.stores.sql.delays import QueueDelays


@dataclass(slots=True)
class Common:
    """How long messages take in each queue, and who hears of runs that end here."""

    delays: QueueDelays
    listeners: list[EndListener] = field(default_factory=list[EndListener])

    def announce_end(self, run_id: str, status: RunStatus) -> None:
        for listener in self.listeners:
            listener(run_id, status)
