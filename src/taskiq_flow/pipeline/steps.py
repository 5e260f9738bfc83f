"""The steps of a chain that wait, choose, or bring a list together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, cast, overload

from taskiq_flow.compile import (
    Arm,
    AsyncTask,
    Branch,
    ChildUse,
    Compensate,
    Link,
    Next,
    Reduce,
    Reduction,
    Sleep,
    Startable,
    SyncTask,
    TaskUse,
    Use,
    WaitFor,
    case_keys,
    constant,
)
from taskiq_flow.conditions import Condition, ValueAt
from taskiq_flow.dataflow.signature import MISSING
from taskiq_flow.exceptions import (
    BadArgumentsError,
    EmptyPipelineError,
    ForeignPipelineError,
    InvalidTaskOptionError,
)
from taskiq_flow.launch import use_on
from taskiq_flow.model.names import check_name
from taskiq_flow.model.numbers import check_seconds
from taskiq_flow.pipeline.base import BasePipeline

if TYPE_CHECKING:
    from taskiq_flow.pipeline.sequential import Pipeline

T = TypeVar("T")


class AddsItself(Protocol):
    """A step, or several of them, made beforehand."""

    def add_to(self, pipeline: Pipeline[Any]) -> Pipeline[Any]:
        """Add what this stands for, by the methods of the pipeline."""
        ...


class ChainSteps(BasePipeline):
    """What a chain can do beside calling tasks."""

    _links: list[Link]

    # -- lists

    @overload
    def reduce(
        self,
        task: AsyncTask[T],
        *,
        initial: Any = ...,
        chunk_size: int | None = None,
        output: str | None = None,
        param_name: str | None = None,
        max_parallel: int | None = None,
        **kwargs: Any,
    ) -> Pipeline[T]: ...
    @overload
    def reduce(
        self,
        task: SyncTask[T],
        *,
        initial: Any = ...,
        chunk_size: int | None = None,
        output: str | None = None,
        param_name: str | None = None,
        max_parallel: int | None = None,
        **kwargs: Any,
    ) -> Pipeline[T]: ...
    def reduce(
        self,
        task: Any,
        *,
        initial: Any = MISSING,
        chunk_size: int | None = None,
        output: str | None = None,
        param_name: str | None = None,
        max_parallel: int | None = None,
        **kwargs: Any,
    ) -> Pipeline[Any]:
        """Make one value of the previous list.

        The task is called with the whole list. With ``chunk_size`` it is called with so many
        elements at a time, ``max_parallel`` of these calls at once, then with their results, as a
        tree: it must be associative. ``initial`` is put before the first element.

        Raises:
            InvalidTaskOptionError: ``chunk_size`` is less than 2, or ``max_parallel`` than 1.
        """
        use = use_on(self.broker, task, (), kwargs, param_name=param_name)
        first = None if initial is MISSING else constant(initial, "the initial value", use.name)
        how = Reduction(chunk_size, first, max_parallel=max_parallel)
        return self._add(Reduce(use, how, output))

    # -- choosing

    def condition(self, test: Any, then: Any, otherwise: Any = None) -> Pipeline[Any]:
        """Go on with ``then`` if a test is true of the previous value, else with ``otherwise``.

        ``test`` is a task that is called with the previous value, or a comparison of
        `taskiq_flow.conditions`. Each way is a task or a pipeline and receives the previous value;
        without ``otherwise`` the value passes by. Steps of the way not taken are skipped. A chain
        becomes part of this run; a dataflow pipeline, and a chain with a timeout or a
        ``max_parallel`` of its own, a run of its own.
        """
        arms = (("true", self._arm(then)), ("false", self._arm(otherwise)))
        return self._add(Branch(self._test(test), arms, by_truth=True))

    def branch(self, on: Any, cases: Mapping[Any, Any], default: Any = None) -> Pipeline[Any]:
        """Go on with the case that ``on`` chooses, else with ``default``.

        ``on`` is a task that is called with the previous value and returns a key of ``cases``, or
        says where the key is in that value: ``value_at("status")``. Cases are as in `condition`.
        Without a default, a run fails with `NoCaseError` when there is no case for the key.

        Raises:
            InvalidTaskOptionError: There are no cases, or a key is not a plain value.
        """
        keys = case_keys(cases)
        arms = tuple(zip(keys, map(self._arm, cases.values()), strict=True))
        last = None if default is None else self._arm(default)
        return self._add(Branch(self._test(on), arms, last))

    def _test(self, test: Any) -> TaskUse | Condition | ValueAt:
        return test if isinstance(test, (Condition, ValueAt)) else use_on(self.broker, test)

    def _arm(self, way: Any) -> Arm:
        if way is None:
            return Arm()
        use = self._use(way)
        inline = isinstance(way, ChainSteps) and isinstance(use, ChildUse)
        if inline and use.timeout_seconds is None and use.max_parallel is None:
            return Arm(tuple(way._links), way._policies)
        return Arm((Next(use),))

    # -- waiting

    def sleep(self, seconds: float | timedelta) -> Self:
        """Wait so long before the next step, without a worker; the previous value passes by.

        Raises:
            InvalidTaskOptionError: It is no positive time.
        """
        wanted = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        return self._add(Sleep(_duration("sleep", wanted)))

    def wait_for(
        self, event: str, *, timeout: float | timedelta | None = None, output: str | None = None
    ) -> Pipeline[Any]:
        """Wait for an event, without a worker; its payload is the next value.

        It is sent with `send_event`, by the run's id or name. One that was sent before this step
        began counts too. After ``timeout`` seconds the run fails with `EventTimeoutError`.

        Raises:
            InvalidNameError: The event has no name, or one that not every store can keep.
            InvalidTaskOptionError: The timeout is not positive.
        """
        check_name("Event", event)
        wanted = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        limit = None if wanted is None else _duration("timeout", wanted)
        return self._add(WaitFor(event, limit, output))

    # -- taking back

    def on_failure(self, task: Any, /, **kwargs: Any) -> Self:
        """Take back the step before this when the run fails or is cancelled after it.

        When that happens, the tasks of all steps that had completed are called, the last one
        first, in a run of its own that the workers start; each with its step's result, and with
        the failure (a dict of ``run_id``, ``status``, ``failed_step``, ``error``, ``reason``) if
        it has a second parameter without a default, or one called ``failure``. One that fails is
        tried again as the pipeline's steps are, and does not keep the others from running.

        Raises:
            EmptyPipelineError: There is no step before it.
        """
        if not self._links:
            fix = "add the step that on_failure() takes back before it"
            raise EmptyPipelineError("pipeline", fix)
        return self._add(Compensate(use_on(self.broker, task, (), kwargs)))

    # -- tasks and pipelines as steps

    def add_step(self, step: AddsItself) -> Pipeline[Any]:
        """Add a step that was made beforehand: one of `taskiq_flow.steps`, or one of your own.

        Raises:
            InvalidTaskOptionError: It does not say how it is added.
        """
        if isinstance(step, type) or not callable(getattr(step, "add_to", None)):
            raise InvalidTaskOptionError("step", step, "must have a method add_to(pipeline)")
        return step.add_to(cast("Pipeline[Any]", self))

    def _use(
        self,
        step: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        param_name: str | None = None,
    ) -> Any:
        if not isinstance(step, Startable):
            return use_on(self.broker, step, args, kwargs, param_name=param_name)
        use: Use = step.as_child()
        if step.broker is not self.broker:
            raise ForeignPipelineError(use.name)
        if args or kwargs or param_name is not None:
            why = "arguments cannot be bound to a pipeline; bind them to its steps"
            raise BadArgumentsError(use.name, "pipeline", why)
        return use

    def _add(self, link: Link) -> Any:
        self._links.append(link)
        self._changed()
        return self


def _duration(option: str, seconds: float) -> float:
    check_seconds(option, seconds)
    return float(seconds)
