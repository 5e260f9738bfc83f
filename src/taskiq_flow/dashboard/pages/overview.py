"""The overview: what goes on now, what is wrong, and how the last hours were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taskiq_flow.dashboard.addresses import SPANS
from taskiq_flow.dashboard.pictures.charts import sparkline, throughput
from taskiq_flow.dashboard.views import Page, Region, View
from taskiq_flow.dashboard.words import (
    is_hot,
    many,
    one_line,
    run_word,
    step_line,
    step_word,
)
from taskiq_flow.model.records import RunStatus
from taskiq_flow.operations import Overview, RunGraph, RunSummary, StepDetail

SHOWN = 8
STEPS_MOST = 150
"""Into a run of more steps the overview does not look; it says how many are done."""

_BUCKETS = {"1h": 60, "24h": 48, "7d": 84}


@dataclass(frozen=True, slots=True)
class NowRow:
    """A run that goes on: what it does, and how much of it is done in whatever counts best."""

    run: RunSummary
    word: str
    doing: str
    is_hot: bool
    done: int
    total: int
    unit: str

    @property
    def share(self) -> float:
        return 100 * self.done / max(1, self.total)


def span_of(view: View) -> str:
    span = view.params.get("span", "24h")
    return span if span in SPANS else "24h"


async def _overview(view: View) -> Overview:
    span = span_of(view)
    return await view.once(
        "overview",
        lambda: view.operations.overview(hours=SPANS[span], buckets=_BUCKETS[span]),
    )


async def _frame(view: View) -> dict[str, Any]:
    return {
        "heading": "Overview",
        "span": span_of(view),
        "spans": SPANS,
    }


async def _problems(view: View) -> dict[str, Any]:
    return {"problems": (await _overview(view)).problems}


async def _tiles(view: View) -> dict[str, Any]:
    overview = await _overview(view)
    queues = overview.queues
    completed = [bucket.completed for bucket in overview.buckets]
    failed = [bucket.failed for bucket in overview.buckets]
    running = overview.counts.get(RunStatus.RUNNING, 0)
    return {
        "span": span_of(view),
        "running": running,
        "pending": overview.counts.get(RunStatus.PENDING, 0),
        "completed": sum(completed),
        "failed": sum(failed),
        "ended": sum(b.completed + b.failed + b.cancelled for b in overview.buckets),
        "completed_line": sparkline(completed),
        "failed_line": sparkline(failed),
        "waiting": sum(queue.ready + queue.retrying for queue in queues),
        "working": sum(queue.running for queue in queues),
        "workers": overview.workers,
        "spoken": f"{many(running, 'run')} running, {many(sum(failed), 'run')} failed",
    }


async def _now(view: View) -> dict[str, Any]:
    overview = await _overview(view)
    shown = [run for run in overview.running.runs if view.may_see(run)][:SHOWN]
    small = [run.run_id for run in shown if run.steps_total <= STEPS_MOST]
    graphs = await view.operations.graphs(small)
    rows = [_row(view, run, graphs.get(run.run_id)) for run in shown]
    return {"rows": rows, "all": overview.counts.get(RunStatus.RUNNING, 0)}


def _row(view: View, run: RunSummary, graph: RunGraph | None) -> NowRow:
    """Look into a run for the step that is to be seen first."""
    plain = NowRow(
        run, run_word(run.status), "", False, run.steps_done, run.steps_total, "step"
    )  # fmt: skip
    if graph is None:
        return plain
    going = [node.step for node in graph.nodes if not node.step.status.is_final]
    going = [step for step in going if step_word(step) != "pending" or step.note]
    if not going:
        return plain
    step = min(going, key=_rank)
    word = step_word(step)
    name = one_line(step.name, 40)
    doing = name
    if is_hot(step):
        is_event = word == "event"
        doing = f"waits for {step.event}" if is_event else f"{name}, {step_line(step, view.now)}"
    elif word == "pending":
        doing = one_line(step.note or "", 60)
    elif step.progress and step.progress.get("message"):
        doing = one_line(str(step.progress["message"]), 60)
    if len(graph.nodes) <= 3 and step.items_total:
        return NowRow(run, word, doing, is_hot(step), step.items_done, step.items_total, "")
    said = step.progress or {}
    current, total = said.get("current"), said.get("total")
    if len(graph.nodes) == 1 and isinstance(current, int) and isinstance(total, int) and total > 0:
        return NowRow(run, word, doing, is_hot(step), min(current, total), total, "")
    return NowRow(run, word, doing, is_hot(step), run.steps_done, run.steps_total, "step")


def _rank(step: StepDetail) -> int:
    return ("retrying", "event", "running", "pending").index(step_word(step))


async def _crew(view: View) -> dict[str, Any]:
    return {"workers": (await _overview(view)).workers}


async def _lanes(view: View) -> dict[str, Any]:
    queues = (await _overview(view)).queues
    most = max((queue.ready + queue.retrying + queue.running for queue in queues), default=0)
    busiest = sorted(queues, key=lambda queue: (not queue.note, -queue.ready, -queue.running))
    return {"queues": busiest[:6], "most": max(1, most)}


async def _chart(view: View) -> dict[str, Any]:
    return {"chart": throughput((await _overview(view)).buckets), "span": span_of(view)}


async def _ranks(view: View) -> dict[str, Any]:
    overview = await _overview(view)
    sees = view.desk.access.may_see
    slowest = [figure for figure in overview.slowest if sees(view.request, figure.pipeline)]
    failing = [figure for figure in overview.most_failing if sees(view.request, figure.pipeline)]
    return {
        "slowest": slowest[:4],
        "failing": [figure for figure in failing if figure.failed][:4],
        "sampled": overview.sampled,
    }


OVERVIEW = Page(
    "overview",
    "overview",
    _frame,
    {
        "problems": Region(_problems, "runs", wait=1500, every=10, lines=0),
        "tiles": Region(_tiles, "runs", wait=700, every=10, lines=2),
        "now": Region(_now, "runs", mode="calm", wait=400, every=2, lines=6),
        "crew": Region(_crew, "", every=5, lines=2),
        "lanes": Region(_lanes, "runs", wait=1500, every=10, lines=2),
        "chart": Region(_chart, "runs", wait=1500, every=30, lines=6),
        "ranks": Region(_ranks, "runs", wait=3000, lines=6),
    },
)
