"""Runs as pages get them, made by hand."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from taskiq_flow.model.records import RunStatus, StepKind, StepStatus
from taskiq_flow.operations import EdgeState, GraphEdge, GraphNode, RunGraph, StepDetail
from taskiq_flow.visualization import NodeView

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def step(name: str, status: StepStatus = StepStatus.COMPLETED, **facts: Any) -> StepDetail:
    given = {"index": 0, "task": f"shop:{name.rstrip('0123456789')}", "kind": StepKind.TASK,
             "queue": "shop", "after": ()}  # fmt: skip
    return StepDetail(name=name, status=status, **{**given, **facts})


def graph(
    steps: Iterable[StepDetail],
    edges: Iterable[tuple[str, str]],
    states: Mapping[tuple[str, str], EdgeState] | None = None,
) -> RunGraph:
    nodes = tuple(GraphNode(one, NodeView(one.name, one.name), 0) for one in steps)
    drawn = tuple(
        GraphEdge(source, target, "", (states or {}).get((source, target), EdgeState.WAITING))
        for source, target in edges
    )
    return RunGraph("run", "title", RunStatus.RUNNING, nodes, drawn)
