"""Draws the items of a map as a strip of few cells, one path for each shade; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from taskiq_flow.operations.models import HeatCell

COLUMNS, ROWS = 38, 6
CELLS = COLUMNS * ROWS
"""A strip has no more cells than this, whatever the number of items."""


@dataclass(frozen=True, slots=True)
class Shade:
    """All cells of one colour: ``path`` fills them, ``name`` is their class."""

    name: str
    path: str


def spread(*, total: int, done: int, failed: int, is_live: bool) -> list[HeatCell]:
    """Cells of a map of which only counts are known, by state: done, failed, at work, the rest.

    What failed has a cell at least, however little of the whole it is.
    """
    if total <= 0:
        return []
    count = min(CELLS, total)
    bad = min(count, max(1, round(failed * count / total))) if failed else 0
    good = (done - failed) * count / total if done > failed else 0.0
    # Of a map that has ended every cell is full.
    whole = count - bad if done >= total else min(int(good), count - bad)
    cells: list[HeatCell] = []
    for index in range(count):
        start, stop = index * total // count, (index + 1) * total // count
        wide = stop - start
        if index < whole:
            cells.append(HeatCell(start, stop, wide, 0, 0))
        elif index < whole + bad:
            cells.append(HeatCell(start, stop, 0, wide, 0))
        elif index == whole + bad and is_live and done < total:
            part = min(wide - 1, int((good - whole) * wide)) if wide > 1 else 0
            cells.append(HeatCell(start, stop, part, 0, wide - part))
        else:
            cells.append(HeatCell(start, stop, 0, 0, 0))
    return cells


def shades(
    cells: Sequence[HeatCell], *, x: float, y: float, pitch: float = 5.0, is_live: bool = True
) -> list[Shade]:
    """The paths that draw cells, column by column from the upper left corner."""
    found: dict[str, list[str]] = {}
    rows = min(ROWS, max(1, math.ceil(len(cells) / COLUMNS)))
    for index, cell in enumerate(cells):
        left, top = x + index // rows * pitch, y + index % rows * (pitch + 1)
        width = pitch - 1
        found.setdefault(_shade(cell, is_live=is_live), []).append(
            f"M{left:g} {top:g}h{width:g}v{pitch:g}h-{width:g}z"
        )
    return [Shade(name, "".join(found[name])) for name in _ORDER if name in found]


def _shade(cell: HeatCell, *, is_live: bool) -> str:
    """The worst of a cell's items, else how much of it is done."""
    if cell.failed:
        return "hb"
    all_of_it = max(1, cell.stop - cell.start)
    share = cell.done / max(1, min(all_of_it, cell.done + cell.open))
    if cell.done and share >= 1:
        return "h3"
    if share > 0:
        return "h2" if share >= 0.5 else "h1"
    return "hr" if is_live and cell.open else "h0"


_ORDER = ("h0", "h1", "h2", "h3", "hr", "hb")
