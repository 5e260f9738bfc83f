"""Reads the tasks of a graph as one map and its reduction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from taskiq_flow.compile import encode_items
from taskiq_flow.compile.graph import GraphUse, MapOver, ReduceOver
from taskiq_flow.exceptions import MapReduceShapeError


def as_map_reduce(
    uses: Sequence[GraphUse],
    *,
    items: Iterable[Any] | None = None,
    map_output: str | None = None,
    reduce_output: str | None = None,
) -> tuple[list[GraphUse], str]:
    """Return the uses with these items and names, and the name of the final output.

    Two plain tasks are the map and the reduction. Of several maps the first one receives the
    items; the last reduction gives the final value, or the last map where there is none.

    Raises:
        MapReduceShapeError: There is no map, or nothing that it could be.
    """
    known = _declared(list(uses))
    maps = [place for place, use in enumerate(known) if isinstance(use.over, MapOver)]
    if not maps:
        raise MapReduceShapeError("it has no map")
    first = maps[0]
    old_name = _output(known[first])
    new_name = map_output or old_name
    over = known[first].over
    assert isinstance(over, MapOver)
    if items is not None:
        over = replace(over, items=encode_items(known[first].use.name, items))
    known[first] = replace(known[first], output=new_name, over=over)
    final = first
    for place, use in enumerate(known):
        if isinstance(use.over, ReduceOver):
            final = place
            if use.over.items == old_name:
                known[place] = replace(use, over=replace(use.over, items=new_name))
    if not isinstance(known[final].over, ReduceOver):
        final = maps[-1]
    if reduce_output is not None:
        known[final] = replace(known[final], output=reduce_output)
    return known, _output(known[final])


def _declared(uses: list[GraphUse]) -> list[GraphUse]:
    if any(use.over is not None for use in uses):
        return uses
    if len(uses) != 2:
        number = "1 task" if len(uses) == 1 else f"{len(uses)} tasks"
        raise MapReduceShapeError(f"it has {number}, which are neither a map nor a reduction")
    mapped, reduced = uses
    return [
        replace(mapped, over=MapOver("items")),
        replace(reduced, over=ReduceOver(_output(mapped))),
    ]


def _output(use: GraphUse) -> str:
    if use.output is not None:
        return use.output
    info = use.use.read()
    return info.name if info.multiple_outputs else info.outputs[0]
