"""Reads the items of a map: a page of them, or all of them in a few cells."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from taskiq_flow.exceptions import OperationError
from taskiq_flow.model.records import ItemMark, RunSnapshot, SequenceValue, bound_items_key
from taskiq_flow.operations.models import (
    Heat,
    HeatCell,
    ItemPage,
    ItemState,
    ItemView,
    StepDetail,
)
from taskiq_flow.operations.previews import Previewer
from taskiq_flow.plan import MapMode, Plan
from taskiq_flow.stores.base import CHUNK, RunStore

PAGE_MOST = 500
CELLS_MOST = 1_000

EXACT_ITEMS = 5_000
"""A map of at most so many items is looked at whole; of a longer one, some items of each cell."""

SAMPLE_OF_CELL = 4
READS_AT_ONCE = 16


async def item_page(
    store: RunStore,
    run: RunSnapshot,
    plan: Plan,
    step: StepDetail,
    span: tuple[int, int],
    previewer: Previewer,
) -> ItemPage:
    """Read the items of a map in a span, with what they were given where that is still known.

    Raises:
        OperationError: The step is no map.
    """
    _check_is_map(step)
    start = max(0, span[0])
    most = min(max(span[1], start), start + PAGE_MOST)
    stop = most if step.items_total is None else min(most, step.items_total)
    stop = max(stop, start)
    values = await _ended(store, run, plan, step, (start, stop)) if stop > start else []
    given = await _given(store, run, plan, step, (start, stop))
    items = tuple(
        _view(start + place, value, given[place], run, step, previewer)
        for place, value in enumerate(values)
    )
    return ItemPage(step, start, stop, step.items_total, items)


async def heat(
    store: RunStore, run: RunSnapshot, plan: Plan, step: StepDetail, *, cells: int
) -> Heat:
    """Count the items of a map by cells; of a long map only some of each cell are looked at.

    Raises:
        OperationError: The step is no map.
    """
    _check_is_map(step)
    total = step.items_total or 0
    if not total:
        return Heat(0, (), is_exact=True)
    count = max(1, min(cells, CELLS_MOST, total))
    bounds = [(total * cell // count, total * (cell + 1) // count) for cell in range(count)]
    if total <= EXACT_ITEMS:
        values: list[bytes | None] = []
        for start in range(0, total, CHUNK):
            stop = min(start + CHUNK, total)
            values += await _ended(store, run, plan, step, (start, stop))
        found = [_cell(start, stop, values[start:stop]) for start, stop in bounds]
        return Heat(total, tuple(found), is_exact=True)
    gate = asyncio.Semaphore(READS_AT_ONCE)

    async def look(start: int, stop: int) -> HeatCell:
        # The last ones of a cell: workers take items in order, so these say whether it is done.
        first = max(start, stop - SAMPLE_OF_CELL)
        async with gate:
            seen = await _ended(store, run, plan, step, (first, stop))
        return _cell(start, stop, seen)

    found = await asyncio.gather(*(look(start, stop) for start, stop in bounds))
    return Heat(total, tuple(found), is_exact=False)


def _check_is_map(step: StepDetail) -> None:
    if not step.is_map:
        raise OperationError(f"Step {step.name!r} does not run over items; only a map has some.")


async def _ended(
    store: RunStore, run: RunSnapshot, plan: Plan, step: StepDetail, span: tuple[int, int]
) -> list[bytes | None]:
    """The items of a span; what a map that skips errors has dropped itself counts as failed."""
    values = await store.items(run.run_id, step.index, *span)
    spec = plan.steps[step.index].map
    if spec is None or not spec.skip_errors or spec.mode is not MapMode.MAP:
        return values
    if ItemMark.DROPPED not in values:
        return values
    given = await _given(store, run, plan, step, span)
    return [
        ItemMark.FAILED if value == ItemMark.DROPPED and before != ItemMark.DROPPED else value
        for value, before in zip(values, given, strict=True)
    ]


def _cell(start: int, stop: int, values: Sequence[bytes | None]) -> HeatCell:
    failed = sum(value is not None and value[:1] == ItemMark.FAILED for value in values)
    still_open = sum(value is None for value in values)
    return HeatCell(start, stop, len(values) - failed - still_open, failed, still_open)


async def _given(
    store: RunStore, run: RunSnapshot, plan: Plan, step: StepDetail, span: tuple[int, int]
) -> list[bytes | None]:
    """What the items of a span were given; None where it is not stored item by item (any more)."""
    start, stop = span
    if stop <= start:
        return []
    found: list[bytes | None] = []
    spec = plan.steps[step.index].map
    source = None if spec is None else spec.items
    if source is not None and source.part is None and source.key >= 0:
        value = (await store.values(run.run_id, [source.key])).get(source.key)
        if isinstance(value, SequenceValue):
            found = await store.items(run.run_id, value.key, start, stop)
    if not found:
        found = await store.items(run.run_id, bound_items_key(step.index), start, stop)
    return [*found, *[None] * (stop - start - len(found))]


def _view(
    number: int,
    value: bytes | None,
    given: bytes | None,
    run: RunSnapshot,
    step: StepDetail,
    previewer: Previewer,
) -> ItemView:
    path = f"items.{step.name}.{number}"
    shown = None if given is None else previewer.of_item(f"{path}.given", given)
    if value is None:
        ended = run.status.is_final or step.ended_at is not None
        state = ItemState.CANCELLED if ended else ItemState.OPEN
        return ItemView(number, state, shown, None)
    match value[:1]:
        case ItemMark.FAILED:
            error = previewer.error(value[1:], None, path) if len(value) > 1 else None
            return ItemView(number, ItemState.FAILED, shown, None, error)
        case ItemMark.DROPPED:
            return ItemView(number, ItemState.DROPPED, shown, None)
        case _:
            return ItemView(number, ItemState.DONE, shown, previewer.of_item(path, value))
