"""How a run ended that did not complete."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from taskiq.exceptions import TaskiqResultTimeoutError

from taskiq_flow.exceptions.root import TaskiqFlowError

if TYPE_CHECKING:
    from taskiq.result import TaskiqResult


class PipelineError(TaskiqFlowError):
    """A run ended without its result: a step failed, or the run was cancelled.

    ``__cause__`` is the step's own exception where it could be rebuilt.
    """

    def __init__(
        self,
        message: str,
        *,
        run_id: str | None = None,
        failed_step: str | None = None,
        partial_results: Mapping[str, Any] | None = None,
        result: TaskiqResult[Any] | None = None,
    ) -> None:
        self.run_id = run_id
        self.failed_step = failed_step
        self.partial_results: dict[str, Any] = dict(partial_results or {})
        self.result = result
        super().__init__(message)


class PipelineCancelledError(PipelineError):
    """The run was cancelled before it could complete."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message, **facts)


class PipelineTimeoutError(TaskiqResultTimeoutError, PipelineError, asyncio.TimeoutError):
    """A wait, or a run with ``with_timeout``, took longer than it may.

    A wait that timed out does not cancel its run.
    """

    def __init__(self, message: str, *, timeout: float | None = None, **facts: Any) -> None:
        self.timeout = timeout
        PipelineError.__init__(self, message, **facts)

    def __str__(self) -> str:
        return self.message


class AbortPipeline(TaskiqFlowError):  # noqa: N818 - the documented name
    """Raised by a step to end its run as CANCELLED, with a reason."""

    def __init__(self, reason: str = "aborted by a step") -> None:
        self.reason = reason
        super().__init__(reason)


class ChildRunError(PipelineError):
    """The child run of a step failed or was cancelled; ``run_id`` is the child's."""

    def __init__(self, step: str, run_id: str, how: str, **facts: Any) -> None:
        self.step = step
        super().__init__(
            f"Step {step!r} ran pipeline {run_id}, which {how}", run_id=run_id, **facts
        )
