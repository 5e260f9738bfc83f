"""Says how far a run is in single lines: in logs, pipes and CI."""

from __future__ import annotations

import time
from typing import TextIO

from taskiq_flow.display.picture import RunPicture, StepRow
from taskiq_flow.display.text import duration, one_line, short_id

PLAIN_SECONDS = 5.0
"""How often a step that goes on is spoken of."""

MOST_STEPS = 40
"""A run of more steps is spoken of as a whole only; its failed steps are named all the same."""


class PlainScreen:
    """A line when a step has ended, and now and then one on how far the run is."""

    interval_seconds = 0.5

    def __init__(self, file: TextIO, *, every_seconds: float = PLAIN_SECONDS) -> None:
        self._file, self._every = file, every_seconds
        self._told: set[str] = set()
        self._note = ""
        self._next = time.monotonic() + every_seconds

    def begin(self) -> None:
        """Nothing is to be set up."""

    def show(self, picture: RunPicture) -> None:
        for row in picture.rows:
            is_told = row.status == "FAILED" or len(picture.rows) <= MOST_STEPS
            if row.has_ended and row.seconds is not None and row.name not in self._told:
                self._told.add(row.name)
                if is_told:
                    self.say(_ended(row))
        if picture.note and picture.note != self._note:
            self._note = picture.note
            self.say(picture.note)
        if picture.has_ended:
            if "" not in self._told:
                self._told.add("")
                took = f" after {duration(picture.seconds)}" if picture.seconds else ""
                self.say(f"run {short_id(picture.run_id)} {picture.status}{took}")
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every
            self.say(_going_on(picture))

    def say(self, line: str) -> None:
        self._file.write(f"{one_line(line, 2000)}\n")
        self._file.flush()

    def end(self) -> None:
        """Nothing is left open."""


def _ended(row: StepRow) -> str:
    count = f", {row.done:,} of {row.total:,}" if row.total is not None else ""
    failed = f", {row.failed:,} failed" if row.failed else ""
    why = f": {one_line(row.message)}" if row.message and row.status == "FAILED" else ""
    name = one_line(row.name, 60)
    return f"{name}: {row.status.lower()} after {duration(row.seconds)}{count}{failed}{why}"


def _going_on(picture: RunPicture) -> str:
    active = [row for row in picture.rows if row.status in ("RUNNING", "RETRYING")]
    parts = [f"{picture.steps_done:,} of {picture.steps_total:,} steps done"]
    for row in active[:3]:
        count = f" {row.done:,} of {row.total:,}" if row.total is not None else ""
        retry = " (retrying)" if row.status == "RETRYING" else ""
        parts.append(f"{one_line(row.name, 60)}{count}{retry}")
    more = len(active) - 3
    tail = f", and {more:,} more" if more > 0 else ""
    return f"run {short_id(picture.run_id)}: {', '.join(parts)}{tail}"
