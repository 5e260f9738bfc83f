"""What a run does about failed tasks, in the documented words, and what it knows of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class ErrorHandlingMode(StrEnum):
    """What `ExecutionEngine` does when a task has failed for good.

    But for the first, all tasks run that do not need a failed one, and what does is skipped.
    """

    FAIL_FAST = "fail_fast"  # the run fails, what has not ended is cancelled
    CONTINUE_ON_ERROR = "continue_on_error"  # the run completes with what there is
    SKIP_FAILED = "skip_failed"  # the same
    DEAD_LETTER = "dead_letter"  # the run fails at its end: a dead letter, to be retried from there


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """One failed task of a run; ``context`` is whatever its reporter knew."""

    task: str
    error: BaseException | str
    context: dict[str, Any] = field(default_factory=dict[str, Any])


class PipelineErrorAggregator:
    """Collects what went wrong in one run."""

    def __init__(self) -> None:
        self.errors: list[TaskFailure] = []
        self.skipped_tasks: list[str] = []

    def add_error(
        self, task: str, error: BaseException | str, context: dict[str, Any] | None = None
    ) -> None:
        self.errors.append(TaskFailure(task, error, dict(context or {})))

    def add_skipped(self, task: str) -> None:
        """Note a task that was not run because one that it needs failed."""
        self.skipped_tasks.append(task)

    @property
    def failed_tasks(self) -> list[str]:
        return list(dict.fromkeys(failure.task for failure in self.errors))

    @property
    def has_errors(self) -> bool:
        return bool(self.errors)


@dataclass(frozen=True, slots=True)
class StepFailure:
    """A step that failed for good: with which error, after how many tries."""

    step: str
    task: str
    error: str
    error_type: str
    attempts: int
    traceback: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionReport:
    """What became of the steps of one run; names are in plan order, times in milliseconds.

    ``unfinished`` are steps that had not ended when the run did, or when it was asked. ``skipped``
    ones need a failed step, or were not chosen. ``taken_over`` are those of ``completed`` that an
    earlier run did: ``retry_of`` or ``fork_of``. ``attempts`` counts the tries of each step, where
    one was made. ``items_failed`` counts items of maps that went on past errors.
    """

    run_id: str
    pipeline_id: str
    status: str
    completed: tuple[str, ...] = ()
    failed: tuple[StepFailure, ...] = ()
    skipped: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    taken_over: tuple[str, ...] = ()
    attempts: Mapping[str, int] = field(default_factory=dict[str, int])
    items_failed: Mapping[str, int] = field(default_factory=dict[str, int])
    durations_ms: Mapping[str, float] = field(default_factory=dict[str, float])
    duration_ms: float = 0.0
    retry_of: str | None = None
    fork_of: str | None = None

    @property
    def total_steps(self) -> int:
        groups = (self.completed, self.failed, self.skipped, self.unfinished)
        return sum(len(group) for group in groups)

    @property
    def success_rate(self) -> float:
        """The completed share of all steps; 1.0 where there are none."""
        return len(self.completed) / self.total_steps if self.total_steps else 1.0

    @property
    def has_errors(self) -> bool:
        """Whether a step failed, or an item of a map, however the run ended."""
        return bool(self.failed) or any(self.items_failed.values())

    def errors(self) -> PipelineErrorAggregator:
        """The failures, and what did not run because of them, as an aggregator of its own."""
        found = PipelineErrorAggregator()
        for failure in self.failed:
            context = {"run_id": self.run_id, "attempts": failure.attempts}
            found.add_error(failure.step, failure.error, context)
        for step in (*self.skipped, *self.unfinished):
            found.add_skipped(step)
        return found
