"""Makes new runs of ended ones: they take over what was done, and run the rest again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from taskiq_flow.codec import decode, encode
from taskiq_flow.compile import StepOption, encode_items
from taskiq_flow.engine.ids import derived_run_id, new_run_id
from taskiq_flow.engine.results import RunResults, output_sources
from taskiq_flow.exceptions import (
    ForkOutputError,
    NothingToRunError,
    RunNotEndedError,
    RunNotFoundError,
    UnknownInputError,
    UnknownStepError,
)
from taskiq_flow.model.records import (
    NONE_VALUE,
    ItemMark,
    NewRun,
    RunSnapshot,
    RunStatus,
    SequenceValue,
    StepSnapshot,
    StepStatus,
    Value,
    bound_items_key,
)
from taskiq_flow.plan import Plan, PlanStep, Source, input_key, sources_of
from taskiq_flow.stores.base import CHUNK, RunStore

KEPT = frozenset({StepStatus.COMPLETED, StepStatus.SKIPPED})

TAKEN_MOST = 10
"""Of so many earlier runs the items of a map are looked for."""

MAX_PARALLEL, RETRY_OF, FORK_OF = "max_parallel", "retry_of", "fork_of"
"""What the meta data of a run say of it, for those that are made of it."""


def facts_of(run: RunSnapshot) -> Mapping[str, Any]:
    """The meta data of a run by name; nothing of what cannot be read."""
    try:
        stored: Any = json.loads(run.meta) if run.meta else {}
    except ValueError:
        return {}
    return cast("Mapping[str, Any]", stored) if isinstance(stored, dict) else {}


@dataclass(frozen=True, slots=True)
class Changes:
    """What a fork does differently; names are those of steps, outputs and run inputs.

    ``from_step`` runs again, and so do the steps that take a changed input. A step with a changed
    output counts as done; those that take it run again. ``whole`` runs all of them again.
    """

    from_step: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    outputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """A run that is ready to be created, with the items that are stored along with it."""

    new: NewRun
    items: Mapping[int, Sequence[bytes]]


async def draft_retry(store: RunStore, run_id: str, *, publish: bool) -> Draft:
    """Prepare the one run that goes on where an ended one failed or was cancelled.

    Its id follows from the ended run's, so however many ask for a retry, one is created.

    Raises:
        RunNotFoundError: There is no such run.
        RunNotEndedError: It still goes on.
        NothingToRunError: It completed, and no step of it failed.
    """
    source = await _Source.read(store, run_id)
    again = source.again(())
    if not again:
        raise NothingToRunError(run_id)
    run = source.run
    plan = source.renewed_plan(again, set())
    return await source.draft(retry_id(run), plan, again, RETRY_OF, key=run.key, publish=publish)


def retry_id(run: RunSnapshot) -> str:
    """The id of the run that a retry of an ended one makes, or has made."""
    return derived_run_id(run.ended_at or 0.0, run.namespace, run.run_id, RETRY_OF)


async def draft_fork(
    store: RunStore, run_id: str, changes: Changes, *, key: str | None, publish: bool
) -> Draft:
    """Prepare a new run of an ended one that differs by what was changed.

    Raises:
        RunNotFoundError: There is no such run.
        RunNotEndedError: It still goes on.
        UnknownStepError: It has no step of a name.
        UnknownInputError: It has no input of a name.
        ForkOutputError: One of several outputs of a step was given, and the others are not known.
        NothingToRunError: Nothing was changed, and nothing is left to be run.
        UnserializableValueError: A changed value cannot be stored.
    """
    source = await _Source.read(store, run_id)
    first: set[int] = set(range(len(source.plan.steps))) if changes.whole else set()
    if changes.from_step is not None:
        first.add(source.step_named(changes.from_step))
    await source.take(changes, first)
    again = source.again(first)
    if not again and not source.outputs:
        raise NothingToRunError(run_id)
    plan = source.renewed_plan(again, first)
    return await source.draft(new_run_id(), plan, again, FORK_OF, key=key, publish=publish)


@dataclass(slots=True)
class _Source:
    """The ended run that another one is made of, and what was given instead of its values."""

    store: RunStore
    run: RunSnapshot
    plan: Plan
    inputs: dict[int, bytes] = field(default_factory=dict[int, bytes])
    bound: dict[int, Sequence[bytes]] = field(default_factory=dict[int, Sequence[bytes]])
    outputs: dict[int, bytes | Sequence[bytes]] = field(
        default_factory=dict[int, "bytes | Sequence[bytes]"]
    )

    @classmethod
    async def read(cls, store: RunStore, run_id: str) -> _Source:
        run = await store.get(run_id)
        if run is None:
            raise RunNotFoundError(run_id)
        if not run.status.is_final:
            raise RunNotEndedError(run_id, run.status)
        return cls(store, run, await RunResults(store).plan(run_id))

    # -- what runs again

    def again(self, first: Iterable[int]) -> set[int]:
        """The steps that did not complete, those that are asked for, and all that need them.

        A step that was skipped because a branch was not taken stays so, unless what decided on
        it runs again. One whose effect the failed run has undone is not done any more.
        """
        known = {step.index: step for step in self.run.steps}
        has_undone = self.run.status is not RunStatus.COMPLETED
        again = set(first)
        for index, step in enumerate(self.plan.steps):
            if index in self.outputs:
                continue
            renewed = any(before in again or before in self.outputs for before in step.after)
            undone = has_undone and StepOption.COMPENSATION in step.options
            if renewed or undone or not _is_done(step, known.get(index)):
                again.add(index)
        return again - self.outputs.keys()

    def renewed_plan(self, again: set[int], first: set[int]) -> Plan:
        """The plan with what the maps that run again shall find of their items.

        Those whose items are the same take over the results of all items that did not fail.
        """
        known = {step.index for step in self.run.steps}
        has_undone = self.run.status is not RunStatus.COMPLETED
        steps: list[PlanStep] = []
        for index, step in enumerate(self.plan.steps):
            earlier = step.options.get(StepOption.TAKEN, ())
            options = {n: value for n, value in step.options.items() if n != StepOption.TAKEN}
            same = not any(before in again or before in self.outputs for before in step.after)
            undone = has_undone and StepOption.COMPENSATION in options
            if step.map and index in again - first and index in known and same and not undone:
                options[StepOption.TAKEN] = [self.run.run_id, *earlier][:TAKEN_MOST]
            steps.append(step if options == step.options else step._replace(options=options))
        unchanged = all(new is old for new, old in zip(steps, self.plan.steps, strict=True))
        return self.plan if unchanged else replace(self.plan, steps=tuple(steps))

    def step_named(self, name: str) -> int:
        for index, step in enumerate(self.plan.steps):
            if step.name == name:
                return index
        return self._output_named(name).key

    def _output_named(self, name: str) -> Source:
        found = dict(output_sources(self.plan)).get(name)
        if found is None or found.key < 0:
            raise UnknownStepError(name, [step.name for step in self.plan.steps])
        return found

    # -- what was changed

    async def take(self, changes: Changes, first: set[int]) -> None:
        """Encode the changed values, and note the steps that take a changed input."""
        for name, value in changes.inputs.items():
            first.update(self._take_input(name, value))
        for name, value in changes.outputs.items():
            await self._take_output(name, value)

    def _take_input(self, name: str, value: Any) -> list[int]:
        steps = self.plan.steps
        if name in self.plan.inputs:
            key = input_key(self.plan.inputs.index(name))
            self.inputs[key] = encode(value, where=f"input {name!r}")
            return [index for index, step in enumerate(steps) if key in _taken_by(step)]
        for index, step in enumerate(steps):
            if step.name == name and _has_bound_items(step):
                self.bound[index] = encode_items(name, value)
                return [index]
        bound = [step.name for step in steps if _has_bound_items(step)]
        raise UnknownInputError([name], [*self.plan.inputs, *bound])

    async def _take_output(self, name: str, value: Any) -> None:
        for index, step in enumerate(self.plan.steps):
            if step.name == name:
                self._take_whole(index, step, value)
                return
        source = self._output_named(name)
        step = self.plan.steps[source.key]
        if source.part is None:
            self._take_whole(source.key, step, value)
            return
        known = self.outputs.get(source.key)
        if known is None:
            known = (await self.store.values(self.run.run_id, [source.key])).get(source.key)
        whole: dict[Any, Any] = decode(known) if isinstance(known, bytes) else {}
        whole = {**(whole or {}), source.part: value}
        parts = {other.part for _, other in self.plan.outputs if other.key == source.key}
        if not parts <= whole.keys():
            raise ForkOutputError(step.name, sorted(str(part) for part in parts - whole.keys()))
        self._take_whole(source.key, step, whole)

    def _take_whole(self, index: int, step: PlanStep, value: Any) -> None:
        if step.map is not None:
            self.outputs[index] = encode_items(step.name, value)
        else:
            self.outputs[index] = encode(value, where=f"output of step {step.name!r}")

    # -- the new run

    async def draft(
        self, new_id: str, plan: Plan, again: set[int], link: str, *, key: str | None, publish: bool
    ) -> Draft:
        run = self.run
        meta: dict[str, Any] = decode(run.meta) if run.meta else {}
        meta = {name: value for name, value in meta.items() if name not in (RETRY_OF, FORK_OF)}
        done, items = await self._done(again)
        bound = await self._bound(again)
        new = NewRun(
            run_id=new_id,
            namespace=run.namespace,
            steps=plan.records,
            plan=plan.stored,
            kind=plan.kind,
            name=plan.name,
            key=key,
            tags=run.tags,
            inputs=await self._inputs(),
            lengths={index: len(values) for index, values in bound.items()},
            done=done,
            timeout_seconds=None if run.deadline is None else run.deadline - run.created_at,
            max_parallel=meta.get(MAX_PARALLEL),
            publish=publish or plan.is_followed,
            queue=plan.steps[0].queue,
            meta=encode({**meta, link: run.run_id}, where="meta data of the run"),
        )
        return Draft(new, {**items, **bound})

    async def _inputs(self) -> dict[int, bytes]:
        keys = [input_key(number) for number in range(len(self.plan.inputs))]
        found = await self._values([key for key in keys if key not in self.inputs])
        kept = {key: value for key, value in found.items() if isinstance(value, bytes)}
        return {**kept, **self.inputs}

    async def _done(
        self, again: set[int]
    ) -> tuple[dict[int, Value | None], dict[int, Sequence[bytes]]]:
        skipped = {s.index for s in self.run.steps if s.status is StepStatus.SKIPPED}
        kept = [index for index in range(len(self.plan.steps)) if index not in again]
        found = await self._values([i for i in kept if i not in self.outputs and i not in skipped])
        done: dict[int, Value | None] = {}
        items: dict[int, Sequence[bytes]] = {}
        for index in kept:
            value = self.outputs.get(index, found.get(index, NONE_VALUE))
            if isinstance(value, bytes):
                done[index] = None if index in skipped and index not in self.outputs else value
                continue
            if isinstance(value, SequenceValue):
                value = await self._items(value.key, value.length)
            items[index] = value
            done[index] = SequenceValue(index, len(value))
        return done, items

    async def _bound(self, again: set[int]) -> dict[int, Sequence[bytes]]:
        """The items that maps were given at the start, where they are to be run again."""
        bound = dict(self.bound)
        for index in sorted(again):
            if index not in bound and _has_bound_items(self.plan.steps[index]):
                bound[index] = await self._items(bound_items_key(index), None)
        return bound

    async def _values(self, keys: Sequence[int]) -> dict[int, Value]:
        found: dict[int, Value] = {}
        for start in range(0, len(keys), CHUNK):
            found |= await self.store.values(self.run.run_id, keys[start : start + CHUNK])
        return found

    async def _items(self, key: int, length: int | None) -> list[bytes]:
        """Items of a sequence in order, up to its first gap where its length is not known."""
        found: list[bytes] = []
        while length is None or len(found) < length:
            start = len(found)
            stop = start + CHUNK if length is None else min(start + CHUNK, length)
            page = await self.store.items(self.run.run_id, key, start, stop)
            if length is None:
                known = [entry for entry in page if entry is not None]
                found.extend(known)
                if len(known) < len(page):
                    break
            else:
                found.extend(ItemMark.FAILED if entry is None else entry for entry in page)
        return found


def _is_done(step: PlanStep, known: StepSnapshot | None) -> bool:
    """Whether nothing of a step is left; a map may have gone on past items that failed."""
    if known is None or known.status not in KEPT:
        return False
    return not known.items_failed or step.map is None or step.map.skip_errors


def _has_bound_items(step: PlanStep) -> bool:
    return step.map is not None and step.map.items is None


def _taken_by(step: PlanStep) -> set[int]:
    """The keys of all values that a step takes."""
    bindings = (*step.args, *(binding for _, binding in step.kwargs))
    keys = {key for binding in bindings for key in sources_of(binding)}
    if step.map is not None and step.map.items is not None:
        keys.add(step.map.items.key)
    return keys
