"""The words for where runs and steps are, and what makes them go on."""

from __future__ import annotations

from enum import StrEnum


class RunStatus(StrEnum):
    """Where a run is; the last three are final."""

    PENDING = "PENDING"  # stored, no step has started
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    is_final: bool

    def __init__(self, word: str) -> None:
        self.is_final = word in {"COMPLETED", "FAILED", "CANCELLED"}


class StepStatus(StrEnum):
    """Where a step is; the last four are final."""

    WAITING = "WAITING"  # for the steps it needs
    READY = "READY"  # a worker may take it
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"  # between two attempts
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    CANCELLED = "CANCELLED"  # its run ended first

    is_final: bool

    def __init__(self, word: str) -> None:
        self.is_final = word in {"COMPLETED", "FAILED", "SKIPPED", "CANCELLED"}


class StepKind(StrEnum):
    """What makes a step complete."""

    TASK = "task"  # a worker ran it
    MAP = "map"  # workers ran it for every item
    TIMER = "timer"  # time passed; no worker needed
    EVENT = "event"  # an event of its name arrived; no worker needed


class Join(StrEnum):
    """When a step with skipped dependencies runs all the same."""

    ALL = "all"  # never: one skipped dependency skips it
    ANY = "any"  # if at least one dependency was not skipped


class OnFailure(StrEnum):
    """What the final failure of a step does to its run."""

    STOP = "stop"  # the run fails
    PASS = "pass"  # noqa: S105 - dependants run, with ``None`` in its place
    SKIP = "skip"  # dependants are skipped, all others run
    LATER = "later"  # the same, and then the run fails
