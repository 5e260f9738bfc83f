"""What tracking needs of the engine: the runs of one broker's store, as users read them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from taskiq import AsyncBroker

from taskiq_flow.model.records import RunFilter
from taskiq_flow.observers import EventBus, Follower
from taskiq_flow.tracking.models import PipelineStatus, StatusPage


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What does not change about a run: how it is called, and its steps by number."""

    run_id: str
    pipeline_id: str
    step_names: tuple[str, ...]


class RunSource(Protocol):
    """The runs of one broker's store. Where it is away, all raise `StoreUnavailableError`."""

    @property
    def scheme(self) -> str:
        """The kind of the store, as in its URL."""
        ...

    @property
    def bus(self) -> EventBus: ...

    def follow(self, follower: Follower) -> None: ...

    def retain(self, most: int) -> None:
        """Keep at most so many ended runs, where the store keeps them in memory."""
        ...

    async def open(self) -> None: ...

    async def status(self, pipeline_id: str, *, values: bool = True) -> PipelineStatus | None:
        """A run by its id, or the latest one of a name; None when there is none."""
        ...

    async def page(self, which: RunFilter, *, cursor: str | None, limit: int) -> StatusPage:
        """Runs, newest first, without their steps."""
        ...

    async def facts(self, run_id: str) -> RunFacts | None: ...

    async def failed_step(self, run_id: str) -> str | None: ...

    async def step_result(self, run_id: str, step: int) -> Any:
        """What a step returned, by its number; None where that is very long, or not there."""
        ...

    async def delete(self, pipeline_id: str) -> bool: ...

    async def purge(self, *, before: float, limit: int) -> int: ...


def source_of(broker: AsyncBroker) -> RunSource:
    """How the runs of a broker's store are read."""
    # By name: the engine, which knows it, is above (imports go down).
    source: RunSource = import_module("taskiq_flow.engine.tracked").TrackedRuns.of(broker)
    return source
