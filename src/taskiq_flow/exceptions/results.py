"""Results and progress of plain tasks."""

from __future__ import annotations

from taskiq.exceptions import ResultGetError as HostResultGetError
from taskiq.exceptions import ResultIsReadyError as HostResultIsReadyError

from taskiq_flow.exceptions.root import ConfigurationError, TaskiqFlowError


class ResultGetError(TaskiqFlowError, HostResultGetError):
    """A result backend cannot give the result of a task."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class ResultNotFoundError(ResultGetError, LookupError):
    """There is no result of a task, or none any more."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(
            f"There is no result of task {task_id!r}: it has not ended, keeps none, or its result "
            f"has expired."
        )


class ResultIsReadyError(TaskiqFlowError, HostResultIsReadyError):
    """A result backend cannot say whether a task has a result."""

    def __init__(self, task_id: str, why: object) -> None:
        self.task_id, self.why = task_id, why
        super().__init__(f"Whether task {task_id!r} has a result cannot be said: {why}.")


class ResultOptionError(ConfigurationError):
    """A result backend was made with an option that makes no sense."""

    def __init__(self, name: str, value: object, rule: str) -> None:
        self.name, self.value = name, value
        super().__init__(f"{name}={value!r} {rule}.")


class ProgressError(ConfigurationError):
    """Progress was reported that is no progress."""

    def __init__(self, name: str, value: object, rule: str) -> None:
        self.name, self.value = name, value
        super().__init__(f"{name}={value!r} {rule}.")
