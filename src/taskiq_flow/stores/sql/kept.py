"""Rows of short runs that a connection keeps from one operation to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from taskiq_flow.model.records import StepKind, StepRecord, Value
from taskiq_flow.model.state import RunState
from taskiq_flow.stores.sql.session import Row

KEPT_MOST: Final = 2000
"""Runs whose rows are kept at the same time; the newest ones, since they are begun next."""

KEPT_BYTES: Final = 4096
"""A run whose values take more than this is read again."""


class RunRows(NamedTuple):
    """A run with the slot of a step that is looked at, as `LoadedRun` reads it.

    Kept is one that has nothing but this slot to go on with. The rows are those of `RUN_LOADED`,
    of a step (``idx``, `STEP_FIXED`, `STEP_CHANGES`) and of `SLOT_CHANGES`; ``values`` are what is
    known of those that a grant hands over.
    """

    at: tuple[int, int]
    run: Row
    step: Row
    slot: Row
    values: Mapping[int, Value]


class KeptRows:
    """True as long as nobody else writes; whoever owns them finds that out and clears them.

    What a transaction says of runs is believed when it has been committed.
    """

    def __init__(self) -> None:
        self._known: dict[str, RunRows] = {}
        self._fresh: dict[str, RunRows | None] = {}

    def get(self, run_id: str) -> RunRows | None:
        if run_id in self._fresh:
            return self._fresh[run_id]
        return self._known.get(run_id)

    def put(self, run_id: str, run: RunRows | None) -> None:
        """Keep a run from now on, if it is small; None forgets it."""
        is_small = run is not None and sum(map(len, run.values.values())) <= KEPT_BYTES
        self._fresh[run_id] = run if is_small else None

    def commit(self) -> None:
        for run_id, run in self._fresh.items():
            self._known.pop(run_id, None)
            if run is not None:
                self._known[run_id] = run
        self._fresh.clear()
        while len(self._known) > KEPT_MOST:
            del self._known[next(iter(self._known))]

    def clear(self) -> None:
        self._known.clear()
        self._fresh.clear()


def is_short(state: RunState, record: StepRecord) -> bool:
    """Whether its own rows are all that the beginning and the end of a step look at."""
    lone = record.kind is StepKind.TASK and not record.successors and not record.limits
    return lone and state.max_parallel is None
