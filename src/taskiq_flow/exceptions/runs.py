"""What a stored run cannot be asked, told or made into."""

from __future__ import annotations

from collections.abc import Sequence

from taskiq_flow.exceptions.root import ConfigurationError, TaskiqFlowError


class DuplicatePipelineError(ConfigurationError):
    """A run of this name has not ended, so another one was not started."""

    def __init__(self, name: str, run_id: str) -> None:
        self.name, self.run_id = name, run_id
        super().__init__(
            f"A run named {name!r} is still going (run {run_id}); wait for it, cancel it, "
            f"or start this one under another id."
        )


class RunNotFoundError(TaskiqFlowError, LookupError):
    """No run has this id, or its record has expired."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"No run has the id {run_id!r}; it never existed, or its record has expired."
        )


class AmbiguousRunError(TaskiqFlowError, LookupError):
    """The end of an id fits several runs."""

    def __init__(self, ending: str, run_ids: Sequence[str]) -> None:
        self.ending, self.run_ids = ending, tuple(run_ids)
        super().__init__(
            f"{len(run_ids)} runs have an id that ends with {ending!r}; give more of it: "
            f"{', '.join(run_ids[:5])}."
        )


class RunEndedError(TaskiqFlowError):
    """A run that has ended was sent an event."""

    def __init__(self, run_id: str, event: str, status: str) -> None:
        self.run_id, self.event, self.status = run_id, event, status
        super().__init__(
            f"The event {event!r} was not delivered: run {run_id} has ended ({status})."
        )


class RunNotEndedError(TaskiqFlowError):
    """A run was to be retried, forked or deleted that still goes on."""

    def __init__(self, run_id: str, status: str) -> None:
        self.run_id, self.status = run_id, status
        super().__init__(
            f"Run {run_id} is {status}; wait for its end, or cancel it, before it is made into "
            f"a new one or removed."
        )


class NotADeadLetterError(TaskiqFlowError, LookupError):
    """A run was treated as a dead letter that has not failed."""

    def __init__(self, run_id: str, status: str) -> None:
        self.run_id, self.status = run_id, status
        super().__init__(
            f"Run {run_id} is {status}, and only FAILED runs are dead letters; steer it with "
            f"Task(task_id=..., broker=...)."
        )


class NothingToRunError(ConfigurationError):
    """A new run was to be made of one of which every step completed."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"Every step of run {run_id} completed, so there is nothing to run again; name a "
            f"step, fork(from_step=...), or change inputs= or outputs=."
        )


class UnknownStepError(ConfigurationError, LookupError):
    """A step was named that a run has not got."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name, self.known = name, tuple(known)
        shown = ", ".join(repr(step) for step in self.known[:20])
        more = f" and {len(self.known) - 20} more" if len(self.known) > 20 else ""
        super().__init__(f"The run has no step {name!r}; its steps are: {shown}{more}.")


class ForkOutputError(ConfigurationError):
    """One of several outputs of a step was changed, and the run has not got the others."""

    def __init__(self, step: str, missing: Sequence[str]) -> None:
        self.step, self.missing = step, tuple(missing)
        listed = ", ".join(repr(name) for name in self.missing)
        super().__init__(
            f"Step {step!r} has several outputs and did not complete, so all of them have to be "
            f"given; missing: {listed}."
        )


class BacklogFullError(ConfigurationError):
    """A queue holds as many waiting runs as it may; nothing was stored."""

    def __init__(self, key: str, most: int) -> None:
        self.key, self.most = key, most
        super().__init__(
            f"Queue {key!r} is full: {most} runs wait already. Try again later, or raise its limit."
        )


class TaskNotFoundError(TaskiqFlowError, LookupError):
    """A task was asked for that is not registered."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"No task {name!r} is registered.")


class OperationError(TaskiqFlowError):
    """What an operator asked for cannot be shown or done here."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
