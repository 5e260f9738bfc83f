"""Finds runs by what people type: an id, the end of one, or a name."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from taskiq_flow.engine.results import RunResults
from taskiq_flow.engine.status import moment
from taskiq_flow.exceptions import (
    AmbiguousRunError,
    OperationError,
    RunNotFoundError,
)
from taskiq_flow.model.numbers import is_count
from taskiq_flow.model.records import EventRecord, RunFilter, RunSnapshot
from taskiq_flow.operations.models import EventView
from taskiq_flow.stores.base import RunStore

REF_MOST = 512
ENDINGS_AMONG = 1_000
"""The end of an id is looked for among so many newest runs."""

KNOWN_RUNS = 2_000
_ENDING = re.compile(r"[0-9a-f]{6,12}")


class _Facts(NamedTuple):
    pipeline_id: str
    name: str
    steps: tuple[str, ...]


@dataclass(slots=True)
class Lookup:
    """Finds runs, and remembers what the steps of those heard of last are called."""

    store: RunStore
    _known: OrderedDict[str, _Facts] = field(default_factory=OrderedDict[str, _Facts])

    async def run(self, ref: str, *, steps: bool = False) -> RunSnapshot:
        """A run by its id, by the name given to it (its latest), or by the end of its id.

        Raises:
            RunNotFoundError: There is none.
            AmbiguousRunError: The end of an id fits several.
        """
        if not isinstance(ref, str) or not 1 <= len(ref) <= REF_MOST or not ref.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise RunNotFoundError(str(ref)[:REF_MOST])
        found = await self.store.get(ref, steps=steps)
        if found is None:
            run_id = await self.store.find(ref) or await self._by_ending(ref)
            found = None if run_id is None else await self.store.get(run_id, steps=steps)
        if found is None:
            raise RunNotFoundError(ref)
        return found

    async def event(self, record: EventRecord) -> EventView:
        """An event with the names of its run and step, where these are still known."""
        facts = await self._facts(record.run_id)
        at = moment(record.at)
        assert at is not None
        is_known = record.step is not None and record.step < len(facts.steps)
        return EventView(
            seq=record.seq,
            at=at,
            type=record.type.value,
            run_id=record.run_id,
            pipeline_id=facts.pipeline_id,
            name=facts.name,
            step=facts.steps[record.step or 0] if is_known else None,
            slot=record.slot,
            attempt=record.attempt,
            detail=record.detail,
        )

    async def _facts(self, run_id: str) -> _Facts:
        known = self._known.get(run_id)
        if known is not None:
            return known
        run = await self.store.get(run_id, steps=False)
        if run is None:
            return _Facts(run_id, "", ())  # removed meanwhile
        try:
            plan = await RunResults(self.store).plan(run_id)
        except RunNotFoundError:
            return _Facts(run_id, "", ())
        facts = _Facts(run.key or run_id, run.name, tuple(step.name for step in plan.steps))
        self._known[run_id] = facts
        if len(self._known) > KNOWN_RUNS:
            self._known.popitem(last=False)
        return facts

    async def _by_ending(self, ref: str) -> str | None:
        ending = ref.lower()
        if _ENDING.fullmatch(ending) is None:
            return None
        page = await self.store.list_runs(RunFilter(), limit=ENDINGS_AMONG)
        fitting = [run.run_id for run in page.runs if run.run_id.endswith(ending)]
        if len(fitting) > 1:
            raise AmbiguousRunError(ref, fitting)
        return fitting[0] if fitting else None


def checked_limit(limit: int, most: int) -> int:
    """A limit that a page can have.

    Raises:
        OperationError: It is below 1 or too high.
    """
    if not is_count(limit) or limit > most:
        raise OperationError(f"limit={limit!r} must be a whole number between 1 and {most}.")
    return limit
