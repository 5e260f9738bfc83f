"""Says how a run has to end, from its plan and what its steps do; without engine, store or time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from taskiq_flow.model.records import Join, OnFailure, StepKind
from taskiq_flow.plan import Binding, Item, ListOf, MapMode, PlanStep, Source
from taskiq_flow.testing.simulation.workload import Script, Work, Workload

_MODULUS = 1_000_003

DROPPED = object()
"""Stands where an item was filtered out, or failed where errors are skipped."""

Value = Any
"""A number, a list of such, or None: what simulated steps give and take."""


def mix(salt: int, parts: Sequence[Value]) -> int:
    """One number out of all that a step was given; another order gives another number."""
    total = salt + 1
    for part in parts:
        if isinstance(part, list):
            several = cast("list[Value]", part)
            number = mix(len(several), several)
        else:
            number = 5 if part is None else int(part)
        total = (total * 31 + number) % _MODULUS
    return total


def payload_of(work: Workload) -> int:
    """What the event carries that the steps of a run wait for."""
    return mix(77, work.inputs)


@dataclass(slots=True)
class Expected:
    """How a run may end when nobody cancels it and it is not late.

    ``failing`` are the steps of which any one may end it as FAILED, ``aborting`` those that may
    end it as CANCELLED. With neither it is COMPLETED with ``result``.
    """

    result: Value = None
    failing: set[int] = field(default_factory=set[int])
    aborting: set[int] = field(default_factory=set[int])


@dataclass(slots=True)
class _Ends:
    """How each step ended, as far as known."""

    values: dict[int, Value] = field(default_factory=dict[int, Value])
    not_run: set[int] = field(default_factory=set[int])  # skipped, or never reached
    cut_off: set[int] = field(default_factory=set[int])  # failed, and its followers are skipped


def expect(work: Workload) -> Expected:
    """Walk through the plan once, in its order."""
    expected, ends = Expected(), _Ends()
    ends.values.update({-1 - number: value for number, value in enumerate(work.inputs)})
    stopped: set[int] = set()
    for index, (step, script) in enumerate(zip(work.plan.steps, work.scripts, strict=True)):
        ends.values[index] = None
        if any(one in stopped for one in step.after):
            stopped.add(index)  # behind a step that ends the run: never reached
        elif _is_skipped(step, ends):
            ends.not_run.add(index)
        elif not _run_step(work, index, script, ends, expected):
            stopped.add(index)
    expected.result = _bound(work.plan.result, ends, None)
    return expected


def _is_skipped(step: PlanStep, ends: _Ends) -> bool:
    skipped = [one for one in step.after if one in ends.not_run or one in ends.cut_off]
    if not skipped:
        return False
    return step.join is Join.ALL or len(skipped) == len(step.after)


def _run_step(work: Workload, index: int, script: Script, ends: _Ends, expected: Expected) -> bool:
    """Note what a step gives; False when it ends the run."""
    step = work.plan.steps[index]
    if step.kind is StepKind.TIMER:
        return True
    if step.kind is StepKind.EVENT:
        if step.delay_seconds is None:
            ends.values[index] = payload_of(work)
            return True
        return _fail(step, index, ends, expected)
    if step.kind is StepKind.MAP:
        return _run_items(work, index, script, ends, expected)
    if script.aborts:
        expected.aborting.add(index)
        return False
    if None in script.broken:
        return _fail(step, index, ends, expected)
    ends.values[index] = answer(step, index, script, _arguments(step, ends, None))
    return True


def _run_items(work: Workload, index: int, script: Script, ends: _Ends, expected: Expected) -> bool:
    step = work.plan.steps[index]
    spec = step.map
    assert spec is not None
    items = work.items[index] if spec.items is None else ends.values[spec.items.key]
    found: list[Value] = []
    for number, item in enumerate(items):
        if item is DROPPED:
            found.append(DROPPED)  # items keep their numbers
            continue
        if script.aborts:
            expected.aborting.add(index)
            return False
        if number in script.broken:
            if spec.skip_errors:
                found.append(DROPPED)
                continue
            if step.on_failure is OnFailure.STOP:
                return _fail(step, index, ends, expected)
            found.append(None)
            continue
        value = answer(step, index, script, _arguments(step, ends, item))
        if spec.mode is MapMode.MAP:
            found.append(value)
        else:
            found.append(item if value else DROPPED)
    ends.values[index] = found
    return True


def _fail(step: PlanStep, index: int, ends: _Ends, expected: Expected) -> bool:
    if step.on_failure is OnFailure.STOP:
        expected.failing.add(index)
        return False
    if step.on_failure is OnFailure.SKIP:
        ends.cut_off.add(index)
    return True


def _arguments(step: PlanStep, ends: _Ends, item: Value) -> list[Value]:
    (binding,) = step.args
    return cast("list[Value]", _bound(binding, ends, item))


def _bound(binding: Binding, ends: _Ends, item: Value) -> Value:
    match binding:
        case Source(key=key):
            value = ends.values[key]
            if not isinstance(value, list):
                return value
            return [one for one in cast("list[Value]", value) if one is not DROPPED]
        case Item():
            return item
        case ListOf(parts=parts):
            return [_bound(part, ends, item) for part in parts]
        case _:
            raise TypeError(f"simulated plans have no {binding!r}")


def answer(step: PlanStep, index: int, script: Script, parts: Sequence[Value]) -> Value:
    """What the function of a step returns (or a stream yields, as a list)."""
    value = mix(index, parts)
    if step.task in (Work.LIST, Work.STREAM):
        return [(value + number) % 1000 for number in range(script.length)]
    return value % 2 == 0 if script.filters else value
