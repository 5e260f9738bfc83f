"""One use of a task in a pipeline, with what was bound to it when it was added."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

from taskiq_flow.codec import encode
from taskiq_flow.dataflow import TaskInfo, read_task
from taskiq_flow.dataflow.signature import AnyTask, function_name
from taskiq_flow.exceptions import NotATaskError
from taskiq_flow.model.retry import NO_RETRY, RetryPolicy
from taskiq_flow.plan import Const

T_co = TypeVar("T_co", covariant=True)


class AsyncTask(Protocol[T_co]):
    """A decorated task whose function is a coroutine function."""

    task_name: str

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, T_co]: ...


class SyncTask(Protocol[T_co]):
    """A decorated task whose function is an ordinary one."""

    task_name: str

    def __call__(self, *args: Any, **kwargs: Any) -> T_co: ...


@dataclass(frozen=True, slots=True)
class Routing:
    """Where a step with certain labels goes: its queue, and the labels of its messages.

    ``retry`` is the policy of the broker's steps where nobody says anything nearer.
    """

    queue: Callable[[Mapping[str, Any]], str] = lambda _labels: ""
    route: Callable[[Mapping[str, Any]], str] = lambda _labels: ""
    retry: RetryPolicy = NO_RETRY


@dataclass(frozen=True, slots=True)
class TaskUse:
    """A task as one step uses it.

    Arguments and labels are taken when the step is added, so what happens to them later changes
    nothing. ``name`` is the function's; ``param_name`` the parameter of the previous value.
    """

    task: AnyTask
    task_name: str
    name: str
    labels: Mapping[str, Any] = field(default_factory=dict[str, Any])
    args: tuple[Const, ...] = ()
    kwargs: Mapping[str, Const] = field(default_factory=dict[str, Const])
    param_name: str | None = None

    def read(self, *, context_by_name: bool = False) -> TaskInfo:
        """What the task takes and gives."""
        return read_task(self.task, context_by_name=context_by_name)


def use_task(
    task: AnyTask,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    param_name: str | None = None,
) -> TaskUse:
    """Take a task, or a kicker with labels, as a step with some arguments bound.

    Raises:
        NotATaskError: It is something else.
        UnserializableValueError: An argument cannot be stored.
    """
    name, labels = getattr(task, "task_name", None), getattr(task, "labels", None)
    if not isinstance(name, str) or not isinstance(labels, Mapping):
        raise NotATaskError(cast("object", task))
    known = task
    if not hasattr(task, "original_func"):
        # A kicker: its broker knows the function, and what ``@pipeline_task`` said about it.
        known = task.broker.find_task(name) or task
    step = function_name(known)
    return TaskUse(
        task=known,
        task_name=name,
        name=step,
        labels=dict(cast("Mapping[str, Any]", labels)),
        args=tuple(constant(value, f"argument {n}", step) for n, value in enumerate(args, 1)),
        kwargs={n: constant(value, f"argument {n!r}", step) for n, value in (kwargs or {}).items()},
        param_name=param_name,
    )


def constant(value: Any, what: str, step: str) -> Const:
    """Encode a value that is bound to a step."""
    return Const(encode(value, where=f"{what} of step {step!r}").decode())
