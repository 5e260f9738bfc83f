"""What the steps of some runs came to together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from taskiq_flow.model.records import StepTotal
from taskiq_flow.stores.base import SUMMED_STEPS


class StepTimes(NamedTuple):
    """One step that ran to its end; ``attempt`` counts its failures, ``failed`` is 0 or 1."""

    name: str
    task: str
    seconds: float
    attempt: int
    failed: int


class StepSums:
    """Adds up the steps of runs, as long as these have no more than `SUMMED_STEPS` together."""

    def __init__(self) -> None:
        self._left = SUMMED_STEPS
        self._totals: dict[tuple[str, str, str], StepTotal] = {}

    @property
    def has_room(self) -> bool:
        return self._left >= 0

    def add_run(self, steps: int, name: str, times: Iterable[StepTimes]) -> None:
        """Add a run of so many steps; one that is too many ends the sum."""
        self._left -= steps
        for step in times if self.has_room else ():
            key = (name, step.name, step.task)
            known = self._totals.get(key) or StepTotal(*key, 0, 0, 0, 0.0, 0.0)
            self._totals[key] = known._replace(
                runs=known.runs + 1,
                failed=known.failed + step.failed,
                retries=known.retries + max(0, step.attempt - step.failed),
                seconds=known.seconds + step.seconds,
                longest=max(known.longest, step.seconds),
            )

    def totals(self) -> list[StepTotal]:
        return list(self._totals.values())
