"""What a graph does about failed tasks, in the documented words, and what it knows of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class ErrorHandlingMode(StrEnum):
    """What `ExecutionEngine` does when a task has failed for good."""

    FAIL_FAST = "fail_fast"  # the run fails, what has not ended is cancelled
    CONTINUE_ON_ERROR = "continue_on_error"  # all runs that does not need the failed task
    SKIP_FAILED = "skip_failed"  # the same: what needs the failed task is skipped
    DEAD_LETTER = "dead_letter"  # the same; the run can be taken up again from there


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
