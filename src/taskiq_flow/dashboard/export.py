"""Writes all runs of a view as CSV, page by page, so that nothing is held in memory."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterable
from datetime import datetime

from starlette.responses import Response, StreamingResponse

from taskiq_flow.dashboard.addresses import RunView
from taskiq_flow.dashboard.views import View
from taskiq_flow.dashboard.words import visible
from taskiq_flow.operations import RunPage, RunQuery, RunSummary

EXPORTED_MOST = 100_000
"""A file ends after so many runs, the newest ones."""

_PAGE = 500
_COLUMNS = (
    "run_id", "name", "kind", "status", "created_at", "started_at", "ended_at", "duration_ms",
    "steps_done", "steps_total", "failures", "tags", "error", "reason",
)  # fmt: skip
# What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


async def export_runs(view: View) -> Response:
    """The runs that the list of the same address shows, without its pages."""
    query = RunView.of(view.params).query(view.now)
    # Read before the answer begins, so that a store that is away is said and not cut off.
    first = await view.operations.runs(query, limit=_PAGE)
    name = f"runs-{view.now:%Y%m%d-%H%M%S}.csv"
    return StreamingResponse(
        _pieces(view, query, first),
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


async def _pieces(view: View, query: RunQuery, page: RunPage) -> AsyncIterator[str]:
    yield _lines([_COLUMNS])
    written = 0
    while True:
        seen = [run for run in page.runs if view.may_see(run)]
        written += len(seen)
        yield _lines(map(_row, seen))
        if page.cursor is None or written >= EXPORTED_MOST:
            return
        page = await view.operations.runs(query, limit=_PAGE, cursor=page.cursor)


def _row(run: RunSummary) -> list[str]:
    facts = [getattr(run, name) for name in _COLUMNS[:-3]]
    return [_cell(fact) for fact in (*facts, " ".join(run.tags), run.error, run.reason)]


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    text = "" if value is None else visible(str(value))
    return f"'{text}" if text.startswith(_FORMULA) else text


def _lines(rows: Iterable[Iterable[str]]) -> str:
    written = io.StringIO(newline="")
    csv.writer(written).writerows(rows)
    return written.getvalue()
