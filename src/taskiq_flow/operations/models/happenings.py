"""What happened to runs: log lines, events, and that something changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class LogLineView:
    """A line that a step wrote; ``position`` is the place after it, to go on from."""

    at: datetime
    level: str
    message: str
    step: str
    attempt: int
    item: int | None = None


@dataclass(frozen=True, slots=True)
class LogPage:
    """Lines in order; ``position`` asks for those after them. ``is_end``: no more for now."""

    lines: tuple[LogLineView, ...]
    position: int
    is_end: bool


@dataclass(frozen=True, slots=True)
class EventView:
    """One thing that happened to a run; ``seq`` counts from 1 without gaps.

    ``name`` is that of its pipeline, ``pipeline_id`` the name given to this run, else its id.
    """

    seq: int
    at: datetime
    type: str
    run_id: str
    pipeline_id: str
    name: str = ""
    step: str | None = None
    slot: int | None = None
    attempt: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in order; ``position`` asks for those after them."""

    events: tuple[EventView, ...]
    position: int
    is_end: bool


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Events of all runs in order; ``position`` is opaque, and asks for those after them."""

    events: tuple[EventView, ...]
    position: str


@dataclass(frozen=True, slots=True)
class Change:
    """Something changed: of which runs (few are named, see ``is_many``), and in which regions.

    Regions are ``run``, ``steps``, ``items``, ``progress``, ``logs`` and ``events`` of a run, and
    ``runs`` for all. ``position`` is where a watcher that was interrupted goes on.
    """

    position: str
    run_ids: frozenset[str]
    regions: frozenset[str]
    is_many: bool = False
