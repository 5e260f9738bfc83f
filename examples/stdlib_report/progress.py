"""Keeps count of a run for whoever shows it: what is done, how fast, and how long it will take."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from examples.stdlib_report.measure import FileMeasure
from taskiq_flow import PipelineStatus, StepStatus

WINDOW_SECONDS = 8.0
"""The rate is that of the last seconds: it follows what other work leaves of the machine."""

RECENT = 5
"""How many of the files measured last are kept."""

MEASURES = "measures"
"""The step with an item for every file."""

TITLES = {
    "files": "discover",
    MEASURES: "measure",
    "summary": "put together",
    "report": "write report",
}
"""What the steps are called on the screen, in their order."""


@dataclass(slots=True)
class Progress:
    """A run as it was seen last; ``earlier`` files were done before this process began."""

    earlier: int = 0
    status: PipelineStatus | None = None
    recent: deque[FileMeasure] = field(default_factory=lambda: deque(maxlen=RECENT))
    _samples: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])

    def note(self, status: PipelineStatus, now: float) -> None:
        """Take in how the run stands at this moment of the monotonic clock."""
        self.status = status
        done = self.done
        if done is None:
            return
        self._samples.append((now, done))
        while self._samples[0][0] < now - WINDOW_SECONDS:
            self._samples.popleft()

    def saw(self, measure: FileMeasure) -> None:
        """Take in a file whose measure was recorded just now."""
        self.recent.append(measure)

    def step(self, name: str) -> StepStatus | None:
        """A step, if it has started."""
        steps = self.status.steps if self.status else ()
        return next((step for step in steps if step.name == name), None)

    @property
    def done(self) -> int | None:
        """How many files are recorded as measured; None before the first may be."""
        measures = self.step(MEASURES)
        return None if measures is None else measures.items_done

    @property
    def total(self) -> int | None:
        """How many files there are, once that is known."""
        measures = self.step(MEASURES)
        return None if measures is None else measures.items_total

    @property
    def is_waiting(self) -> bool:
        """Whether no worker has taken the run yet: they may still be starting."""
        return self.status is None or self.status.status == "PENDING"

    @property
    def is_taking_over(self) -> bool:
        """Whether a resumed run still waits for the leases of the process that was killed."""
        return bool(self.earlier) and self.done == self.earlier

    @property
    def rate(self) -> float | None:
        """Files a second in the last seconds, while there are any."""
        if len(self._samples) < 2:
            return None
        (then, before), (now, done) = self._samples[0], self._samples[-1]
        return (done - before) / (now - then) if now > then and done > before else None

    @property
    def seconds_left(self) -> float | None:
        """How long the files that are left will take at this rate."""
        rate, done, total = self.rate, self.done, self.total
        if rate is None or done is None or total is None:
            return None
        return (total - done) / rate


def resumed(status: PipelineStatus) -> str:
    """Say what a run had done before this process took it up."""
    measures = next((step for step in status.steps if step.name == MEASURES), None)
    run = f"resumed run …{status.run_id[-8:]}"
    if measures is None or measures.items_total is None:
        return f"{run}: no file was measured yet"
    return f"{run}: {measures.items_done:,} of {measures.items_total:,} files were done already"


def duration(seconds: float) -> str:
    """Seconds in at most two units, the way people say them."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} m {seconds % 60:02.0f} s"
