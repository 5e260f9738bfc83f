"""A run in pictures: its graph, its timeline, and the items of its maps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from taskiq_flow.model.records import RunStatus, StepStatus
from taskiq_flow.operations.models.runs import ErrorView, Preview, StepDetail
from taskiq_flow.visualization import EdgeView, GraphView, NodeView


class EdgeState(StrEnum):
    """What goes along an edge of a graph."""

    TAKEN = "taken"  # the value was there, and was taken
    FLOWING = "flowing"  # it feeds a step that runs now
    WAITING = "waiting"  # not yet
    CUT = "cut"  # never: the step before it failed, was skipped or cancelled


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A step in the graph; ``fraction`` is how much of it is done, where that is known."""

    step: StepDetail
    view: NodeView
    level: int
    fraction: float | None = None


@dataclass(frozen=True, slots=True)
class GraphEdge:
    """An edge between the names of two steps."""

    source: str
    target: str
    label: str
    state: EdgeState


@dataclass(frozen=True, slots=True)
class RunGraph:
    """The plan of a run with the state of each step."""

    run_id: str
    title: str
    status: RunStatus
    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]

    def to_view(self) -> GraphView:
        """The same for everything that draws: ``render_svg(graph)``, Mermaid, text, …"""
        edges = tuple(EdgeView(e.source, e.target, e.label) for e in self.edges)
        return GraphView(self.title, tuple(node.view for node in self.nodes), edges)


class BarKind(StrEnum):
    """What a bar of a timeline shows."""

    ATTEMPT = "attempt"
    WAITING = "waiting"  # between two attempts, or for an event, a timer, a child run
    NEXT = "next"  # the attempt that is due, after now
    LOST = "lost"  # an attempt whose worker was lost


@dataclass(frozen=True, slots=True)
class TimelineBar:
    """A stretch of time of a step, up to now where it has no end; tries are counted from 1."""

    kind: BarKind
    attempt: int
    started_at: datetime
    ended_at: datetime | None
    status: StepStatus
    detail: str = ""


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """A step that has started, with its bars in order."""

    step: StepDetail
    bars: tuple[TimelineBar, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """What happened when. ``now`` is the end of an ended run. Rows go by their first start.

    ``is_cut`` says that there were too many events, and bars may stand for several.
    """

    run_id: str
    started_at: datetime
    now: datetime
    is_live: bool
    rows: tuple[TimelineRow, ...]
    is_cut: bool = False


class ItemState(StrEnum):
    """Where an item of a map is."""

    DONE = "done"
    FAILED = "failed"
    DROPPED = "dropped"  # filtered out
    OPEN = "open"  # waits, runs or is tried again
    CANCELLED = "cancelled"  # its run ended first


@dataclass(frozen=True, slots=True)
class ItemView:
    """An item of a map: what it was given, and what became of it."""

    number: int
    state: ItemState
    given: Preview | None
    value: Preview | None
    error: ErrorView | None = None


@dataclass(frozen=True, slots=True)
class ItemPage:
    """Items ``start`` to ``stop`` of a map; ``total`` is None while it is not known."""

    step: StepDetail
    start: int
    stop: int
    total: int | None
    items: tuple[ItemView, ...]


@dataclass(frozen=True, slots=True)
class HeatCell:
    """Items ``start`` to ``stop``, counted; ``done + failed + open`` are those looked at."""

    start: int
    stop: int
    done: int
    failed: int
    open: int

    @property
    def worst(self) -> ItemState:
        if self.failed:
            return ItemState.FAILED
        return ItemState.OPEN if self.open else ItemState.DONE


@dataclass(frozen=True, slots=True)
class Heat:
    """The items of a map in few cells. Not exact: only some items of each cell were looked at."""

    total: int
    cells: tuple[HeatCell, ...]
    is_exact: bool
