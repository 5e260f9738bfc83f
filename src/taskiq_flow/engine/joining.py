"""Joins the ways of a branch, and copies results, without building the values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from taskiq_flow.codec import decode, encode
from taskiq_flow.compile import Ways
from taskiq_flow.compile.builtin import StepOption
from taskiq_flow.engine.program import Loaded, Program, evaluate
from taskiq_flow.model.records import (
    NONE_VALUE,
    Done,
    DoneSequence,
    Grant,
    ItemMark,
    Outcome,
    SequenceValue,
    Value,
)
from taskiq_flow.plan import Binding, Source, sources_of
from taskiq_flow.stores.base import CHUNK

Page = Callable[[SequenceValue, int], Awaitable[list[bytes | None]]]
Put = Callable[[int, list[bytes]], Awaitable[None]]
Read = Callable[[SequenceValue], Awaitable[Loaded]]


async def merge(grant: Grant, program: Program, page: Page, put: Put, read: Read) -> Outcome:
    """Give the value of the way that was taken."""
    known: dict[int, Value] = dict(zip(program.sources, grant.values, strict=True))
    chooser, *ends = program.step.args
    ways = Ways.from_json(program.step.options[StepOption.WAYS])
    taken = ends[ways.taken(program.step.name, await _chosen_by(chooser, known, read))]
    if isinstance(taken, Source) and taken.part is None:
        whole = known.get(taken.key, NONE_VALUE)
        if isinstance(whole, SequenceValue):
            return DoneSequence(await copy_sequence(whole, page, put))
        return Done(whole)
    return Done(encode(await _loaded(taken, known, read), where="value of a branch", limit=None))


async def copy_sequence(whole: SequenceValue, page: Page, put: Put) -> int:
    """Copy a value that is stored item by item, in pages; returns its length."""
    for start in range(0, whole.length, CHUNK):
        found = await page(whole, start)
        await put(start, [ItemMark.FAILED if item is None else item for item in found])
    return whole.length


async def _chosen_by(chooser: Binding, known: dict[int, Value], read: Read) -> object:
    value = await _loaded(chooser, known, read)
    return decode(encode(value, where="value of a branch", limit=None))


async def _loaded(binding: Binding, known: dict[int, Value], read: Read) -> object:
    loaded: dict[int, Loaded] = {}
    for key in sources_of(binding):
        value = known[key]
        loaded[key] = await read(value) if isinstance(value, SequenceValue) else value
    return evaluate(binding, loaded)
