"""The list of runs: searched, filtered and paged by the server, every view with its own address."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

from taskiq_flow.dashboard.addresses import SPANS, RunView
from taskiq_flow.dashboard.views import Page, Region, View
from taskiq_flow.dashboard.words import amount
from taskiq_flow.exceptions import AmbiguousRunError, RunNotFoundError
from taskiq_flow.model.records import RunStatus

ROWS = 50
COUNTED_MOST = 200
"""So far runs are counted that no index counts: those of a status and of what else narrows it."""

_ID = re.compile(r"[0-9a-fA-F-]{6,40}")


def _looked_at(view: View) -> RunView:
    return RunView.of(view.params)


async def _frame(view: View) -> dict[str, Any]:
    looked = _looked_at(view)
    return {
        "heading": "Runs",
        "looked": looked,
        "spans": SPANS,
        "is_first": not looked.cursor,
        "export_url": view.url("runs.csv", **looked.params(cursor="")),
    }


async def _chips(view: View) -> dict[str, Any]:
    looked = replace(_looked_at(view), cursor="")
    every = replace(looked, status="").query(view.now)
    statuses = list(RunStatus)
    counts = await asyncio.gather(
        *(
            view.operations.count(replace(every, status=status), at_most=COUNTED_MOST)
            for status in statuses
        )
    )
    is_cut = replace(every, status=RunStatus.RUNNING).is_narrow
    chips = [
        (
            status.value.lower(),
            _counted(count, is_cut=is_cut and count == COUNTED_MOST),
            view.url("runs", **looked.params(status=status.value.lower())),
        )
        for status, count in zip(statuses, counts, strict=True)
    ]
    return {
        "chips": chips,
        "total": _counted(sum(counts), is_cut=is_cut and COUNTED_MOST in counts),
        "all_url": view.url("runs", **looked.params(status="")),
        "looked": looked,
    }


def _counted(count: int, *, is_cut: bool) -> str:
    return amount(count) + ("+" if is_cut else "")


async def _rows(view: View) -> dict[str, Any]:
    looked = _looked_at(view)
    page = await view.operations.runs(
        looked.query(view.now), limit=ROWS, cursor=looked.cursor or None
    )
    wider = looked.params(cursor="", span="7d" if looked.span else "", since="", until="")
    return {
        "runs": [run for run in page.runs if view.may_see(run)],
        "looked": looked,
        "older": view.url("runs", **looked.params(cursor=page.cursor)) if page.cursor else None,
        "newest": view.url("runs", **looked.params(cursor="")) if looked.cursor else None,
        "clear_url": view.url("runs"),
        "wider_url": view.url("runs", **wider),
    }


async def found_by_id(view: View) -> str | None:
    """Where to go at once when what is searched for is the id of a run, or the end of one."""
    text = view.params.get("q", "").strip()
    if "region" in view.params or not _ID.fullmatch(text):
        return None
    try:
        return view.url("runs", await view.operations.resolve(text))
    except (RunNotFoundError, AmbiguousRunError):
        return None


RUNS = Page(
    "runs",
    "runs",
    _frame,
    {
        "chips": Region(_chips, "runs", wait=1500, lines=1),
        "rows": Region(_rows, "runs", mode="rows", wait=400, every=10, lines=20),
    },
)
