"""Dead letters: what failed for good, looked into one by one, and replayed by the dozen."""

from __future__ import annotations

from collections import Counter
from typing import Any

from taskiq_flow.dashboard.addresses import SPANS, LetterFilter
from taskiq_flow.dashboard.views import Page, Region, View
from taskiq_flow.exceptions import RunNotFoundError
from taskiq_flow.operations import LetterPage, LetterView, RunDetail

ROWS = 50
KINDS = 5


def _looked_at(view: View) -> LetterFilter:
    return LetterFilter.of(view.params)


async def _page(view: View) -> LetterPage:
    looked = _looked_at(view)
    return await view.once(
        "letters",
        lambda: view.operations.dead_letters(
            looked.query(view.now), limit=ROWS, cursor=looked.cursor or None
        ),
    )


def _visible(view: View, page: LetterPage) -> list[LetterView]:
    return [letter for letter in page.letters if view.may_see(letter)]


async def _frame(view: View) -> dict[str, Any]:
    looked = _looked_at(view)
    return {
        "heading": "Dead letters",
        "looked": looked,
        "spans": SPANS,
        "opened": await _opened(view),
        "is_soft": True,
        "close_url": view.here(open=None),
        "filter_words": ", ".join(looked.filters) or "no filter: all of them",
    }


async def _kinds(view: View) -> dict[str, Any]:
    """The kinds of error on this page, each of which is a filter."""
    looked = _looked_at(view)
    letters = _visible(view, await _page(view))
    kinds = Counter(letter.error.type for letter in letters).most_common(KINDS)
    if looked.error and not kinds:
        kinds = [(looked.error, 0)]
    return {
        "kinds": [
            (kind, count, view.url("dead-letters", **looked.params(error=kind, cursor="", open="")))
            for kind, count in kinds
        ],
        "count": len(letters),
        "all_url": view.url("dead-letters", **looked.params(error="", cursor="", open="")),
        "looked": looked,
    }


async def _opened(view: View) -> dict[str, Any] | None:
    """The letter that is looked into, beside the list, with those around it."""
    wanted = view.params.get("open")
    if not wanted:
        return None
    letters = _visible(view, await _page(view))
    try:
        run: RunDetail = await view.operations.run(wanted)
    except RunNotFoundError:
        return None
    if not view.may_see(run.summary):
        return None
    ids = [letter.run_id for letter in letters]
    place = ids.index(run.run_id) if run.run_id in ids else -1
    step = run.step(run.failed_step) if run.failed_step else None
    return {
        "run": run,
        "step": step,
        "error": (step.error if step else None) or run.error,
        "before": view.here(open=ids[place - 1]) if place > 0 else None,
        "after": view.here(open=ids[place + 1]) if 0 <= place < len(ids) - 1 else None,
    }


async def _letters(view: View) -> dict[str, Any]:
    looked = _looked_at(view)
    page = await _page(view)
    return {
        "letters": _visible(view, page),
        "looked": looked,
        "older": view.url("dead-letters", **looked.params(cursor=page.cursor, open=""))
        if page.cursor
        else None,
        "newest": view.url("dead-letters", **looked.params(cursor="")) if looked.cursor else None,
        "clear_url": view.url("dead-letters"),
    }


LETTERS = Page(
    "dead-letters",
    "dead",
    _frame,
    {
        "kinds": Region(_kinds, "runs", wait=2000, lines=1),
        "letters": Region(_letters, "runs", mode="rows", wait=1000, lines=12),
    },
)
