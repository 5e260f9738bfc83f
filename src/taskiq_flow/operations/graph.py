"""Draws a run as a graph: the stored plan, with the state of each step and edge; pure."""

from __future__ import annotations

from dataclasses import replace

from taskiq_flow.compile.view import plan_view
from taskiq_flow.model.records import RunSnapshot, StepStatus
from taskiq_flow.operations.models import (
    EdgeState,
    GraphEdge,
    GraphNode,
    RunGraph,
    StepDetail,
)
from taskiq_flow.plan import Plan
from taskiq_flow.visualization import NodeView

_CUT = frozenset({StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED})
_AT_WORK = frozenset({StepStatus.RUNNING, StepStatus.RETRYING})


def run_graph(run: RunSnapshot, plan: Plan, steps: tuple[StepDetail, ...]) -> RunGraph:
    """Put what is known of the steps of a run into the picture of its plan."""
    view = plan_view(plan)
    levels = view.ordering().level
    by_name = {step.name: step for step in steps}
    nodes = tuple(
        GraphNode(
            step=by_name[node.id],
            view=_drawn(node, by_name[node.id]),
            level=levels[number],
            fraction=_fraction(by_name[node.id]),
        )
        for number, node in enumerate(view.nodes)
    )
    edges = tuple(
        GraphEdge(
            edge.source,
            edge.target,
            edge.label,
            _edge_state(by_name[edge.source], by_name[edge.target]),
        )
        for edge in view.edges
    )
    title = plan.name or run.key or run.run_id
    return RunGraph(run.run_id, title, run.status, nodes, edges)


def _drawn(node: NodeView, step: StepDetail) -> NodeView:
    """A node as it is drawn; a step that waits for an event is drawn as that."""
    status = step.status.value
    if step.event is not None and step.status is StepStatus.READY:
        status = "event"
    detail = node.detail
    if step.items_total is not None:
        detail = f"{step.items_done:,} of {step.items_total:,}"
    return replace(node, status=status, detail=detail)


def _fraction(step: StepDetail) -> float | None:
    if step.items_total is not None:
        return step.items_done / step.items_total if step.items_total else 1.0
    said = step.progress or {}
    current, total = said.get("current"), said.get("total")
    if isinstance(current, (int, float)) and isinstance(total, (int, float)) and total > 0:
        return min(1.0, max(0.0, current / total))
    return None


def _edge_state(source: StepDetail, target: StepDetail) -> EdgeState:
    if target.status in _AT_WORK:
        return EdgeState.FLOWING
    if source.status in _CUT or target.status is StepStatus.SKIPPED:
        # A join may run all the same: then the value was not taken from here.
        return EdgeState.CUT
    if source.status is StepStatus.COMPLETED and target.status not in (
        StepStatus.WAITING,
        StepStatus.READY,
        StepStatus.CANCELLED,
    ):
        return EdgeState.TAKEN
    return EdgeState.WAITING
