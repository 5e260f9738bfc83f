"""Pipelines whose steps follow one another: each takes what the one before it gave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Generic, Self, cast, overload

from taskiq import AsyncBroker
from taskiq.kicker import AsyncKicker
from typing_extensions import TypeVar

from taskiq_flow import visualization
from taskiq_flow.compile import (
    After,
    AsyncTask,
    ChildPlan,
    ChildUse,
    Compiled,
    Group,
    Link,
    Map,
    Next,
    Shape,
    Sleep,
    Startable,
    SyncTask,
    Use,
    WaitFor,
    compile_chain,
    encode_items,
)
from taskiq_flow.compile.view import plan_view
from taskiq_flow.exceptions import EmptyPipelineError, InvalidTaskOptionError
from taskiq_flow.launch import launch
from taskiq_flow.model.numbers import check_count
from taskiq_flow.pipeline.steps import ChainSteps
from taskiq_flow.plan import MapMode
from taskiq_flow.task import PipelineTask

R = TypeVar("R", default=Any)
T = TypeVar("T")

MOST_SHAPES = 64
"""A chain that is started in more ways than this is compiled again now and then."""


class Pipeline(ChainSteps, Generic[R]):
    """A chain of tasks; its type parameter is what a run returns.

    >>> pipeline = Pipeline(broker).call_next(add, 1).map(double, max_parallel=8)
    >>> task = await pipeline.kiq(41)
    """

    @overload
    def __init__(
        self: Pipeline[Any],
        broker: AsyncBroker,
        task: None = None,
        *,
        max_parallel: int | None = None,
        timeout: float | None = None,
        pipeline_id: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: Pipeline[T],
        broker: AsyncBroker,
        task: AsyncTask[T],
        *,
        max_parallel: int | None = None,
        timeout: float | None = None,
        pipeline_id: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: Pipeline[T],
        broker: AsyncBroker,
        task: SyncTask[T],
        *,
        max_parallel: int | None = None,
        timeout: float | None = None,
        pipeline_id: str | None = None,
    ) -> None: ...
    def __init__(
        self,
        broker: AsyncBroker,
        task: Any = None,
        *,
        max_parallel: int | None = None,
        timeout: float | None = None,
        pipeline_id: str | None = None,
    ) -> None:
        """Begin a chain on a broker, with a first task if one is given.

        ``max_parallel`` bounds how many steps and items of one run are worked on at once,
        ``timeout`` (seconds) how long a run may take, and ``pipeline_id`` names its runs.
        """
        super().__init__(
            broker, max_parallel=max_parallel, timeout=timeout, pipeline_id=pipeline_id
        )
        self._links: list[Link] = []
        self._compiled: dict[Shape, Compiled] = {}
        if task is not None:
            self.call_next(task)

    # -- steps

    @overload
    def call_next(self, task: Pipeline[T], /) -> Pipeline[T]: ...
    @overload
    def call_next(self, task: Startable, /) -> Pipeline[Any]: ...
    @overload
    def call_next(
        self, task: AsyncTask[T], /, *args: Any, param_name: str | None = None, **kwargs: Any
    ) -> Pipeline[T]: ...
    @overload
    def call_next(
        self, task: SyncTask[T], /, *args: Any, param_name: str | None = None, **kwargs: Any
    ) -> Pipeline[T]: ...
    @overload
    def call_next(
        self,
        task: AsyncKicker[Any, Any],
        /,
        *args: Any,
        param_name: str | None = None,
        **kwargs: Any,
    ) -> Pipeline[Any]: ...
    def call_next(
        self, task: Any, /, *args: Any, param_name: str | None = None, **kwargs: Any
    ) -> Pipeline[Any]:
        """Call a task with the previous result, and go on with what it returns.

        A pipeline in its place runs as a run of its own, started with the previous result; that
        run's result, or failure, is the step's.

        The previous result is the task's first free parameter, or the one named ``param_name``;
        ``args`` fill the parameters after it, ``kwargs`` those of their names.

        Raises:
            NotATaskError: This is not a Taskiq task.
            ForeignTaskError: It belongs to another broker.
        """
        return self._add(Next(self._use(task, args, kwargs, param_name)))

    def call_after(self, task: Any, /, *args: Any, replace: bool = False, **kwargs: Any) -> Self:
        """Call a task without the previous result, which passes by to the next step.

        With ``replace`` the flow goes on with what this task returns.
        """
        return self._add(After(self._use(task, args, kwargs), replace))

    @overload
    def map(
        self,
        task: Pipeline[T],
        items: Iterable[Any] | None = None,
        *,
        output: str | None = None,
        max_parallel: int | None = None,
        skip_errors: bool = False,
    ) -> Pipeline[list[T]]: ...
    @overload
    def map(
        self,
        task: Startable,
        items: Iterable[Any] | None = None,
        *,
        output: str | None = None,
        max_parallel: int | None = None,
        skip_errors: bool = False,
    ) -> Pipeline[list[Any]]: ...
    @overload
    def map(
        self,
        task: AsyncTask[T],
        items: Iterable[Any] | None = None,
        *,
        output: str | None = None,
        max_parallel: int | None = None,
        param_name: str | None = None,
        skip_errors: bool = False,
        **kwargs: Any,
    ) -> Pipeline[list[T]]: ...
    @overload
    def map(
        self,
        task: SyncTask[T],
        items: Iterable[Any] | None = None,
        *,
        output: str | None = None,
        max_parallel: int | None = None,
        param_name: str | None = None,
        skip_errors: bool = False,
        **kwargs: Any,
    ) -> Pipeline[list[T]]: ...
    @overload
    def map(
        self,
        task: AsyncKicker[Any, Any],
        items: Iterable[Any] | None = None,
        *,
        output: str | None = None,
        max_parallel: int | None = None,
        param_name: str | None = None,
        skip_errors: bool = False,
        **kwargs: Any,
    ) -> Pipeline[list[Any]]: ...
    def map(
        self,
        task: Any,
        items: Iterable[Any] | None = None,
        *,
        output: str | None = None,
        max_parallel: int | None = None,
        param_name: str | None = None,
        skip_errors: bool = False,
        **kwargs: Any,
    ) -> Pipeline[Any]:
        """Call a task for each element, and go on with the list of results, in order.

        A pipeline in its place is run once for each, as a run of its own.

        The elements are those of ``items``, else of the previous result (of the first argument of
        ``kiq`` for a first step). ``max_parallel`` of them are worked on at once, on any workers.
        A failed element fails the run, unless ``skip_errors`` leaves it out.
        """
        use = self._use(task, (), kwargs, param_name)
        return self._add(Map(use, _taken(use, items), output, _checked(max_parallel), skip_errors))

    def filter(
        self,
        task: Any,
        items: Iterable[Any] | None = None,
        *,
        output: str | None = None,
        max_parallel: int | None = None,
        param_name: str | None = None,
        skip_errors: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Keep the elements for which a task returns something true; else as `map`."""
        use = self._use(task, (), kwargs, param_name)
        taken, most = _taken(use, items), _checked(max_parallel)
        return self._add(Map(use, taken, output, most, skip_errors, MapMode.FILTER))

    def group(
        self,
        tasks: Iterable[Any],
        param_names: str | Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> Pipeline[list[Any]]:
        """Call several tasks with the previous result at the same time.

        The flow goes on with the list of what they return, in their order. ``param_names`` has
        one name for all or one for each; ``kwargs`` are passed to all of them.

        Raises:
            EmptyPipelineError: There are no tasks.
            InvalidTaskOptionError: There are more or fewer names than tasks.
        """
        many = list(tasks)
        if not many:
            raise EmptyPipelineError("group", "give it at least one task")
        names = [param_names] if isinstance(param_names, str) else list(param_names or [None])
        if len(names) not in (1, len(many)):
            rule = f"must be one name, or one for each of the {len(many)} tasks"
            raise InvalidTaskOptionError("param_names", param_names, rule)
        names *= len(many) if len(names) == 1 else 1
        uses = [self._use(t, (), kwargs, n) for t, n in zip(many, names, strict=True)]
        return self._add(Group(tuple(uses)))

    # -- starting

    async def kiq(self, *args: Any, **kwargs: Any) -> PipelineTask[R]:
        """Start a run with the arguments of its first step, and return a handle on it.

        When this returns, the run is stored: it will end, whoever dies. What was bound to the
        first step can be overridden by name.

        Raises:
            EmptyPipelineError: There are no steps.
            BadArgumentsError: A step cannot be called with what it would receive.
            UnserializableValueError: A value cannot be stored.
            DuplicatePipelineError: A run of this pipeline's name is still going.
        """
        compiled = self._compile(Shape(len(args), tuple(kwargs)))
        task = await launch(self.broker, compiled, (*args, *kwargs.values()), self._options)
        self._started(task)
        return cast("PipelineTask[R]", task)

    def to_view(self) -> visualization.GraphView:
        if not self._links:
            return visualization.GraphView(self._name)
        compiled = compile_chain(self._links, None, self._policies, self._routing, name=self._name)
        return plan_view(compiled.plan)

    def as_child(self) -> ChildUse:
        """This chain as it is now, to be a step of another pipeline."""
        if not self._links:
            raise EmptyPipelineError("pipeline", "add a step first, with call_next() or map()")
        links, policies = tuple(self._links), self._policies
        name, routing = self._name, self._routing
        first = next((link for link in links if not isinstance(link, Sleep)), None)

        def prepare(shape: Shape | None) -> ChildPlan:
            if shape == Shape(1) and isinstance(first, WaitFor):
                shape = Shape()  # its payload is the value, as it is inside a chain
            compiled = compile_chain(links, shape, policies, routing, name=name)
            return ChildPlan(compiled, tuple(range(len(compiled.slots))))

        options = self._options
        return ChildUse(
            name or "pipeline",
            prepare,
            policies.labels,
            options.timeout_seconds,
            options.max_parallel,
            options.tags,
        )

    def _compile(self, shape: Shape) -> Compiled:
        compiled = self._compiled.get(shape)
        if compiled is None:
            if len(self._compiled) >= MOST_SHAPES:
                self._compiled.clear()
            compiled = self._compiled[shape] = compile_chain(
                self._links, shape, self._policies, self._routing, name=self._name
            )
        return compiled

    def _changed(self) -> None:
        self._compiled = {}


def _taken(use: Use, items: Iterable[Any] | None) -> list[bytes] | None:
    """Encode the items at once: what happens to the list later changes nothing."""
    return None if items is None else encode_items(use.name, items)


def _checked(max_parallel: int | None) -> int | None:
    check_count("max_parallel", max_parallel)
    return max_parallel
