"""One run: its graph, timeline, log, values, errors and events, all live, and what can be done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from taskiq_flow.dashboard.addresses import number
from taskiq_flow.dashboard.pictures.graph import LIST_MOST, counted, draw, group_graph
from taskiq_flow.dashboard.pictures.heat import CELLS, shades
from taskiq_flow.dashboard.pictures.timeline import chart
from taskiq_flow.dashboard.views import Page, Region, View
from taskiq_flow.dashboard.words import many, one_line, run_word, step_line, step_word
from taskiq_flow.engine.standing import LONG_SECONDS, Cause
from taskiq_flow.exceptions import RunNotFoundError
from taskiq_flow.model.records import RunStatus
from taskiq_flow.operations import ItemPage, RunDetail, RunGraph, StandingView, StepDetail

LINES = 400
"""So many log lines and events a page shows at first, the newest ones; new ones are added."""

STANDING = 6
"""So many reasons for which steps have not ended are said."""

ERRORS = 50
ITEMS = 50
LIST_ROWS = 120


def _ref(view: View) -> str:
    return str(view.request.path_params["run_id"])


async def run_id_of(view: View) -> str:
    """The id of the run that is looked at, by whatever it was asked for.

    Raises:
        RunNotFoundError: There is none, or none that they may see.
    """
    summary = await view.once("summary", lambda: view.operations.summary(_ref(view)))
    if not view.may_see(summary):
        raise RunNotFoundError(_ref(view))
    return summary.run_id


async def detail_of(view: View) -> RunDetail:
    run_id = await run_id_of(view)
    return await view.once("run", lambda: view.operations.run(run_id))


async def _graph_of(view: View) -> RunGraph:
    run_id = await run_id_of(view)
    return await view.once("graph", lambda: view.operations.graph(run_id))


def _picked(view: View) -> str:
    return view.params.get("step", "")


async def _frame(view: View) -> dict[str, Any]:
    run = await detail_of(view)
    view.namesake = run.run_id
    picked = run.step(_picked(view))
    return {
        "heading": f"{one_line(run.summary.title, 60)} {run.summary.short_id}",
        "heading_name": one_line(run.summary.title, 60),
        "short_heading": run.summary.short_id,
        "crumbs": (("Runs", view.url("runs")),),
        "run": run,
        "picked": picked,
        "first": _first_tab(run),
        "drawer": await _drawer(view, run),
        "last_minute": view.here(**{"from": -60, "to": None}),
        "fit": view.here(**{"from": None, "to": None}),
        "is_zoomed": "from" in view.params,
        "is_soft": True,
    }


async def _head(view: View) -> dict[str, Any]:
    run = await detail_of(view)
    graph = await _graph_of(view)
    steps = [node.step for node in graph.nodes]
    total = max(1, len(steps))
    words = [step_word(step) for step in steps]
    partly = sum(
        node.fraction or 0.0 for node in graph.nodes if node.step.status.value == "RUNNING"
    )
    return {
        "run": run,
        "word": run_word(run.summary.status),
        "ok": 100 * sum(w in ("completed", "skipped") for w in words) / total,
        "bad": 100 * words.count("failed") / total,
        "busy": 100 * partly / total,
        "ended": sum(step.status.is_final for step in steps),
        "total": len(steps),
        "failures": run.summary.failures,
        "lost": sum(step.lost for step in steps),
        "waits": run.waits_for,
        "standing": run.standing[:STANDING],
        "standing_calm": [each for each in run.standing[:STANDING] if _is_said(each, view.now)],
        "primary": _primary(run),
        "spoken": _spoken(run, words),
    }


def _is_said(each: StandingView, now: datetime) -> bool:
    """Whether a reason that is no trouble is worth a line: what runs says so in the graph."""
    if each.is_trouble or each.cause in (Cause.OFFERED, Cause.RETRY):
        return False
    if each.cause is not Cause.WORKS:
        return True
    return each.since is not None and (now - each.since).total_seconds() > LONG_SECONDS


def _spoken(run: RunDetail, words: list[str]) -> str:
    """The run in a sentence: ``catalogue_import is running, 6 of 8 steps ended, 1 failed``."""
    summary, ended = run.summary, sum(step.status.is_final for step in run.steps)
    status = "waits for an event" if run.waits_for else f"is {run_word(summary.status)}"
    failed = f", {words.count('failed')} failed" if "failed" in words else ""
    title = one_line(summary.title, 60)
    return f"{title} {status}, {ended} of {many(len(words), 'step')} ended{failed}"


def _primary(run: RunDetail) -> str:
    """The likeliest next action: it has the one dark button."""
    if run.waits_for:
        return "send_event"
    if run.summary.status in (RunStatus.FAILED, RunStatus.CANCELLED) and "resume" in run.can:
        return "resume"
    return ""


async def _graph(view: View) -> dict[str, Any]:
    graph = await _graph_of(view)
    wanted = view.params.get("open")
    opened = None if wanted is None else frozenset(part for part in wanted.split("~") if part)
    grouped = group_graph(graph, opened)
    shown, is_big = grouped.opened, len(grouped.parts) > LIST_MOST
    choice = view.params.get("view", "")
    is_list = choice == "list" or (is_big and choice != "graph")
    start = int(number(view.params.get("row")) or 0)
    # What is open by itself stays open: the graph keeps its layout while the run goes on.
    kept = "~".join(sorted(shown)) or "~"
    return {
        "picture": None if is_list else draw(graph, view.now, grouped),
        "count": len(grouped.parts),
        "is_big": is_big,
        "summary": counted([step_word(node.step) for node in graph.nodes]),
        "total": len(graph.nodes),
        "is_list": is_list,
        "list_url": view.here(view="list", open=kept),
        "graph_url": view.here(view="graph" if is_big else None, open=kept),
        "rows": [_list_row(view, node.step) for node in graph.nodes[start : start + LIST_ROWS]],
        "row_start": start,
        "rows_before": view.here(row=max(0, start - LIST_ROWS) or None) if start else None,
        "rows_after": view.here(row=start + LIST_ROWS)
        if start + LIST_ROWS < len(graph.nodes)
        else None,
        "picked": _picked(view),
        "open_urls": {
            part.key: view.here(open="~".join(sorted({*shown, part.key})))
            for part in grouped.parts
            if part.is_group
        },
        "close_urls": {
            key: view.here(open="~".join(sorted(shown - {key})) or "~") for key in shown
        },
        "opened": [grouped.groups[key] for key in sorted(shown)],
        "live_src": view.here(region="graph", open=kept) if grouped.groups else None,
    }


def _list_row(view: View, step: StepDetail) -> dict[str, Any]:
    share = None
    if step.items_total:
        share = 100 * step.items_done / step.items_total
    return {
        "step": step,
        "word": step_word(step),
        "line": one_line(step_line(step, view.now), 120),
        "share": share,
        "url": view.here(step=step.name, items=None),
    }


async def _timeline(view: View) -> dict[str, Any]:
    run = await detail_of(view)
    timeline = await view.operations.timeline(run.run_id)
    since, until = number(view.params.get("from")), number(view.params.get("to"))
    laid = chart(timeline, run.steps, since=since, until=until)
    return {
        "laid": laid,
        "picked": _picked(view),
        "total": len(run.steps),
    }


async def _log(view: View) -> dict[str, Any]:
    run_id = await run_id_of(view)
    step = _picked(view) or None
    after = number(view.params.get("after"))
    start = int(after) if after is not None else await _tail(
        LINES, lambda position: _has_line(view, run_id, position)
    )  # fmt: skip
    page = await view.operations.logs(run_id, after=start, limit=LINES, step=step)
    first = page.position - len(page.lines)
    return {
        "page": page,
        "first": first,
        "picked": step,
        "live_src": view.here(region="log", after=page.position),
        "is_all": start == 0,
    }


async def _has_line(view: View, run_id: str, position: int) -> bool:
    return bool((await view.operations.logs(run_id, after=position, limit=1)).lines)


async def _events(view: View) -> dict[str, Any]:
    run_id = await run_id_of(view)

    async def has_event(position: int) -> bool:
        return bool((await view.operations.events(run_id, after=position, limit=1)).events)

    start = await _tail(LINES, has_event)
    page = await view.operations.events(run_id, after=start, limit=LINES)
    return {"events": page.events[::-1], "is_all": start == 0, "count": page.position}


async def _tail(count: int, exists: Callable[[int], Awaitable[bool]]) -> int:
    """The position behind which the last ``count`` things are, in few small reads."""
    if not await exists(count):
        return 0
    low, high = count, count * 2
    while await exists(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if await exists(middle) else (low, middle)
    return high - count


async def _values(view: View) -> dict[str, Any]:
    run = await detail_of(view)
    step = run.step(_picked(view))
    outputs = dict(run.outputs)
    if step is not None:
        outputs = {name: value for name, value in outputs.items() if name == step.name}
    return {
        "run": run,
        "step": step,
        "outputs": outputs,
        "items_url": view.here(items=step.name) if step and step.is_map else None,
    }


async def _errors(view: View) -> dict[str, Any]:
    run = await detail_of(view)
    failed = [step for step in run.steps if step.error is not None]
    picked = _picked(view)
    failed.sort(key=lambda step: (step.name != picked, step_word(step) != "failed", step.index))
    return {
        "run": run,
        "failed": failed[:ERRORS],
        "left_out": max(0, len(failed) - ERRORS),
        "own": run.error if run.error is not None and run.failed_step is None else None,
        "lines": {step.name: step_line(step, view.now) for step in failed[:ERRORS]},
    }


async def _tabs(view: View) -> dict[str, Any]:
    run = await detail_of(view)
    errors = sum(step.error is not None for step in run.steps)
    return {
        "errors": errors + (run.error is not None and run.failed_step is None),
        "first": _first_tab(run),
    }


def _first_tab(run: RunDetail) -> str:
    """What is to be read first: why it has failed, or what is said as it goes on."""
    return "errors" if run.summary.status is RunStatus.FAILED else "logs"


async def _drawer(view: View, run: RunDetail) -> dict[str, Any] | None:
    """The items of a map, when they are asked for."""
    name = view.params.get("items")
    step = None if name is None else run.step(name)
    if step is None or not step.is_map:
        return None
    start = max(0, int(number(view.params.get("start"), most=1e9) or 0))
    page: ItemPage = await view.operations.items(run.run_id, step.name, start, start + ITEMS)
    heat = await view.operations.heat(run.run_id, step.name, cells=CELLS)
    total = page.total or 0
    return {
        "step": step,
        "page": page,
        "total": total,
        "heat": shades(heat.cells, x=0, y=0, pitch=8.0, is_live=not step.status.is_final),
        "is_exact": heat.is_exact,
        "close": view.here(items=None, start=None),
        "before": view.here(start=max(0, start - ITEMS)) if start else None,
        "after": view.here(start=start + ITEMS) if start + ITEMS < total else None,
    }


RUN = Page(
    "run",
    "runs",
    _frame,
    {
        "head": Region(_head, "run steps items progress events", every=5, lines=2),
        "graph": Region(_graph, "run steps items progress events", wait=100, every=5, lines=8),
        "timeline": Region(_timeline, "run steps events", wait=400, every=5, lines=8),
        "log": Region(_log, "logs", mode="append", wait=100),
        "values": Region(_values, "run steps", wait=1000),
        "errors": Region(_errors, "run steps", wait=500),
        "events": Region(_events, "events run", wait=500),
        "tabs": Region(_tabs, "run steps", wait=500, lines=1),
    },
    watches=lambda view, since: view.url("runs", view.namesake, "live", after=since),
)
