"""Why a step failed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from taskiq_flow.exceptions.root import TaskiqFlowError


class ContextUseError(TaskiqFlowError, LookupError):
    """A step asked its context for something that it cannot have."""

    def __init__(self, step: str, why: str) -> None:
        self.step, self.why = step, why
        super().__init__(f"The context of step {step!r} cannot answer: {why}.")


class StepFailedError(TaskiqFlowError):
    """Stands for a step's exception whose type is not rebuilt from storage."""

    def __init__(self, type_name: str, text: str, traceback_text: str = "") -> None:
        self.type_name, self.text, self.traceback_text = type_name, text, traceback_text
        super().__init__(f"{type_name}: {text}" if text else type_name)


class StepTimeoutError(TaskiqFlowError, asyncio.TimeoutError):
    """A step ran longer than its ``timeout``."""

    def __init__(self, step: str, timeout_seconds: float) -> None:
        self.step, self.timeout_seconds = step, timeout_seconds
        super().__init__(f"Step {step!r} ran longer than its timeout of {timeout_seconds:g} s.")


class OutputShapeError(TaskiqFlowError, ValueError):
    """A task with several outputs returned something that they cannot be read from."""

    def __init__(self, task: str, outputs: Sequence[str], why: str) -> None:
        self.task, self.outputs, self.why = task, tuple(outputs), why
        super().__init__(
            f"Task {task!r} declares the outputs {', '.join(repr(o) for o in self.outputs)} but "
            f"{why}; return a dict with these keys, or a tuple in this order."
        )


class NotIterableError(TaskiqFlowError, TypeError):
    """A map or filter step was given something that has no items."""

    def __init__(self, step: str, type_name: str) -> None:
        self.step, self.type_name = step, type_name
        super().__init__(
            f"Step {step!r} maps over the previous result, but that is a {type_name}; "
            f"return a list (or another iterable) from the step before it."
        )


class FanOutError(TaskiqFlowError, ValueError):
    """A map step was given more items than one step may have."""

    def __init__(self, step: str, items: int, limit: int) -> None:
        self.step, self.items, self.limit = step, items, limit
        super().__init__(
            f"Step {step!r} would map over {items:,} items; the limit is {limit:,}. Map over "
            f"batches of items, or raise TASKIQ_FLOW_MAX_FAN_OUT."
        )


class UnknownTaskError(TaskiqFlowError):
    """No live worker has the task that a step names."""

    def __init__(self, task_name: str, waited_seconds: float) -> None:
        self.task_name, self.waited_seconds = task_name, waited_seconds
        super().__init__(
            f"Task {task_name!r} is unknown to every live worker ({waited_seconds:.0f} s after the "
            f"step became ready); deploy a worker that imports it, then retry the run."
        )


class PoisonStepError(TaskiqFlowError):
    """A step took its worker down too often."""

    def __init__(self, step: str, lost: int) -> None:
        self.step, self.lost = step, lost
        super().__init__(
            f"Step {step!r} lost its worker {lost} times (killed, out of memory, or cut off) and "
            f"will not be tried again; look for a crash in that step, then retry the run."
        )


class NoCaseError(TaskiqFlowError, LookupError):
    """A branch has no case for the value that chooses, and no default."""

    def __init__(self, step: str, value: object, cases: Sequence[object]) -> None:
        self.step, self.value, self.cases = step, value, tuple(cases)
        listed = ", ".join(repr(case) for case in self.cases)
        super().__init__(
            f"Branch {step!r} has no case for {value!r}; its cases are {listed}. Add one, or a "
            f"default."
        )


class ConditionError(TaskiqFlowError, TypeError):
    """A condition cannot compare the value with what it was given."""

    def __init__(self, condition: str, type_name: str, why: str) -> None:
        self.condition, self.type_name, self.why = condition, type_name, why
        super().__init__(
            f"The condition {condition} cannot be asked of a value of type {type_name!r}: {why}."
        )


class EventTimeoutError(TaskiqFlowError, asyncio.TimeoutError):
    """A step waited for an event that did not come in time."""

    def __init__(
        self, step: str, event: str | None = None, timeout_seconds: float | None = None
    ) -> None:
        self.step, self.event, self.timeout_seconds = step, event, timeout_seconds
        time = "" if timeout_seconds is None else f" {timeout_seconds:g} s"
        what = "an event" if event is None else f"the event {event!r}"
        super().__init__(
            f"Step {step!r} waited{time} for {what}, which did not come; send it to the run with "
            f"send_event(), or raise the timeout of wait_for()."
        )


class ChildInputError(TaskiqFlowError, TypeError):
    """A step hands a value to a child run that needs a dict of its inputs."""

    def __init__(self, step: str, names: Sequence[str], type_name: str) -> None:
        self.step, self.names, self.type_name = step, tuple(names), type_name
        listed = ", ".join(repr(name) for name in self.names)
        super().__init__(
            f"Step {step!r} starts a pipeline with the inputs {listed}, so it needs a dict of them "
            f"from the step before it, not a value of type {type_name!r}."
        )
