"""Redraws a run in the output of a notebook's cell; needs no widgets, only IPython itself."""

from __future__ import annotations

import sys
from html import escape
from typing import Any

from taskiq_flow.display.pace import Pace
from taskiq_flow.display.picture import Gap, RunPicture, StepRow, fit
from taskiq_flow.display.text import duration, one_line, short_id

MOST_ROWS = 30

_COLOURS = {
    "RUNNING": "#0a66c9",
    "RETRYING": "#c27a12",
    "COMPLETED": "#1d9a5e",
    "FAILED": "#d0343e",
}
_SIGNS = {"RUNNING": "▸", "RETRYING": "↻", "COMPLETED": "✓", "FAILED": "✗", "SKIPPED": "»"}


def notebook_shell() -> Any:
    """The shell of the notebook that this code runs in; None anywhere else."""
    interactive = sys.modules.get("IPython")
    shell: Any = interactive.get_ipython() if interactive is not None else None
    return shell if getattr(shell, "kernel", None) is not None else None


class NotebookScreen:
    """One HTML display that is updated in place."""

    interval_seconds = 0.3

    def __init__(self) -> None:
        self._display: Any = sys.modules["IPython"].display
        self._pace = Pace()
        self._handle: Any = None
        self._shown = ""
        self._said: list[str] = []

    def begin(self) -> None:
        """The display begins with the first picture."""

    def show(self, picture: RunPicture) -> None:
        html = as_html(picture, self._pace.note(picture), self._said)
        if html == self._shown:
            return
        self._shown = html
        shown = self._display.HTML(html)
        if self._handle is None:
            self._handle = self._display.display(shown, display_id=True)
        else:
            self._handle.update(shown)

    def say(self, line: str) -> None:
        self._said.append(line)

    def end(self) -> None:
        """The last picture stays in the notebook."""


def as_html(
    picture: RunPicture, rates: dict[str, float] | None = None, said: list[str] | None = None
) -> str:
    """A picture as one HTML element, in the colours of the page that it stands in."""
    rows = "".join(
        _gap(row) if isinstance(row, Gap) else _row(row, (rates or {}).get(row.name))
        for row in fit(picture.rows, MOST_ROWS)
    )
    facts = [f"{picture.steps_done:,} of {picture.steps_total:,} steps", duration(picture.seconds)]
    if picture.seconds_left and not picture.has_ended:
        facts.append(f"about {duration(picture.seconds_left)} left")
    head = (
        f'<div style="margin-bottom:4px">{_status(picture.status)} '
        f"<b>{_safe(picture.title)}</b> "
        f'<span style="opacity:.6">{_safe(short_id(picture.run_id))} &nbsp; '
        f"{_safe(' · '.join(fact for fact in facts if fact))}</span></div>"
    )
    notes = "".join(
        f'<div style="margin-top:4px;color:{colour}">{_safe(text, 400)}</div>'
        for text, colour in (
            *((line, "inherit") for line in said or ()),
            (picture.note, _COLOURS["RETRYING"]),
            (picture.error if picture.has_ended else "", _COLOURS["FAILED"]),
        )
        if text
    )
    return (
        '<div role="group" aria-label="progress of a run" style="font:13px/1.5 system-ui,'
        f'sans-serif;max-width:760px">{head}<table style="border-collapse:collapse;width:100%">'
        f"{rows}</table>{notes}</div>"
    )


def _row(row: StepRow, rate: float | None) -> str:
    count = "" if row.done is None else f"{row.done:,}"
    if row.total is not None:
        count = f"{count} of {row.total:,}"
    if row.failed:
        count = f"{count}, {row.failed:,} failed"
    pace = f" · {rate:,.1f}/s" if rate and not row.has_ended else ""
    colour = _COLOURS.get(row.status, "currentColor")
    percent = 100 * (row.fraction or 0)
    bar = (
        '<div style="height:5px;border-radius:3px;background:rgba(128,128,128,.25)">'
        f'<div style="height:5px;border-radius:3px;width:{percent:.1f}%;background:{colour}">'
        "</div></div>"
    )
    fades = "" if row.status in _COLOURS else "opacity:.55;"
    return (
        f'<tr style="background:none;{fades}">'
        f"{_cell(_status(row.status, with_word=False), 'width:1.2em')}"
        f"{_cell(f'<code>{_safe(row.name, 60)}</code>', 'text-align:left')}"
        f"{_cell(bar, 'width:38%')}"
        f"{_cell(_safe(count + pace), 'text-align:right')}"
        f"{_cell(_safe(duration(row.seconds)), 'text-align:right;opacity:.7')}"
        f"{_cell(_safe(row.message, 120), 'text-align:left;opacity:.8')}</tr>"
    )


def _gap(gap: Gap) -> str:
    cell = '<td style="border:0"></td>'
    return (
        f'<tr style="background:none;opacity:.55">{cell}'
        f'<td colspan="5" style="border:0;text-align:left">… {_safe(str(gap))}</td></tr>'
    )


def _cell(html: str, style: str) -> str:
    return f'<td style="border:0;padding:1px 8px 1px 0;white-space:nowrap;{style}">{html}</td>'


def _status(status: str, *, with_word: bool = True) -> str:
    colour, sign = _COLOURS.get(status, "inherit"), _SIGNS.get(status, "·")
    word = f" {_safe(status)}" if with_word else ""
    title = "" if with_word else f' title="{_safe(status.lower())}"'
    return f'<span style="color:{colour}"{title}>{sign}{word}</span>'


def _safe(text: str, most: int = 200) -> str:
    return escape(one_line(text, most))
