"""What every kind of pipeline can be told: its name, its time, and what a failure does."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self, TextIO

from taskiq import AsyncBroker

from taskiq_flow import hooks, tracking, visualization
from taskiq_flow.compile import (
    ExceptionKinds,
    OnError,
    Policies,
    Routing,
    Startable,
    check_retry,
)
from taskiq_flow.engine.host import check_broker
from taskiq_flow.exceptions import InvalidTaskOptionError
from taskiq_flow.launch import RunOptions, routing_of, task_of_function
from taskiq_flow.limits import Rate, read_limits
from taskiq_flow.limits import limit as make_limit
from taskiq_flow.model.records import Limit
from taskiq_flow.model.retry import NamedTask, RetryPolicy
from taskiq_flow.pipeline.scheduled import Schedulable
from taskiq_flow.task import PipelineTask
from taskiq_flow.visualization import Shown


class BasePipeline(Schedulable, Shown, Startable):
    """A definition that can be run any number of times, also at the same time.

    Every ``with_…`` method changes the definition and returns it. A run keeps the definition that
    it was started with.
    """

    def __init__(
        self,
        broker: AsyncBroker,
        *,
        max_parallel: int | None = None,
        timeout: float | None = None,
        pipeline_id: str | None = None,
    ) -> None:
        check_broker(broker)
        self.broker = broker
        self.tracking: tracking.PipelineTrackingManager | None = None
        self.hooks: hooks.HookManager | None = None
        self._policies = Policies()
        self._options = RunOptions(
            key=pipeline_id, timeout_seconds=timeout, max_parallel=max_parallel
        )
        self._name = ""
        self._last_run_id: str | None = None

    # -- what it is called

    @property
    def pipeline_id(self) -> str | None:
        """The name given to its runs; without one, the id of the run that was started last.

        While a run of that name is going, another is not started (`DuplicatePipelineError`), so a
        name serves as an idempotency key. Set None to give up the name.
        """
        return self._options.key or self._last_run_id

    @pipeline_id.setter
    def pipeline_id(self, name: str | None) -> None:
        self._options = replace(self._options, key=name)

    @property
    def given_id(self) -> str | None:
        """The name given to its runs; None without one, whatever has been run."""
        return self._options.key

    def with_id(self, pipeline_id: str | None) -> Self:
        """Name the runs; see `pipeline_id`."""
        self.pipeline_id = pipeline_id
        return self

    def with_name(self, name: str) -> Self:
        """Say what listings and pictures call this pipeline; many runs may have one name."""
        self._name = name
        self._changed()
        return self

    def with_tags(self, *tags: str) -> Self:
        """Add words by which runs can be listed."""
        self._options = replace(self._options, tags=(*self._options.tags, *tags))
        return self

    def with_labels(self, **labels: Any) -> Self:
        """Add Taskiq labels to every step; a task's own label of that name goes before it."""
        self._set_policies(labels={**self._policies.labels, **labels})
        return self

    # -- how it is run

    def with_timeout(self, seconds: float | None) -> Self:
        """Fail a run that is still going after so many seconds; its running steps are cancelled."""
        self._options = replace(self._options, timeout_seconds=seconds)
        return self

    def with_retry(  # noqa: PLR0913 - each is one field of the policy
        self,
        max_attempts: int = 3,
        delay: float = 1,
        backoff: float = 2,
        on_retry: str | NamedTask | Callable[..., Any] | None = None,
        policy: RetryPolicy | None = None,
        *,
        max_delay: float = 300,
        jitter: bool = True,
        max_total: float | None = None,
        retry_on: ExceptionKinds = (),
        no_retry_on: ExceptionKinds = (),
    ) -> Self:
        """Try failed steps again; ``max_attempts`` counts the first try. Times are in seconds.

        A task's own labels (``retry_on_error``, ``max_retries``, ``delay``) go before its
        ``@pipeline_task(retries=...)``, and that before this. A ``policy`` stands for all numbers
        and filters.

        ``on_retry`` is a task of this broker, its function or its name. Before each retry it is
        started as a run of its own, with the error as text and the number of the failed try; what
        becomes of it does not change the retry.

        Raises:
            InvalidTaskOptionError: A number makes no sense, or ``on_retry`` is no task: workers
                could not find it.
        """
        chosen = policy or RetryPolicy(
            max_attempts=max_attempts,
            delay=delay,
            backoff=backoff,
            max_delay=max_delay,
            jitter=jitter,
            max_total=max_total,
            retry_on=retry_on,
            no_retry_on=no_retry_on,
        )
        if on_retry is not None:
            chosen = replace(chosen, on_retry=task_of_function(self.broker, on_retry))
        self._set_policies(retry=check_retry(chosen))
        return self

    def on_error(self, mode: str | OnError) -> Self:
        """Say what a step's final failure does: "stop", "continue", "retry" or "dead_letter".

        Stop fails the run. Continue goes on: the next step of a chain gets None, in a graph the
        steps that need the failed one are skipped, in a map None stands in the item's place.
        Retry applies the default retry policy (3 tries), then stops. Dead letter runs everything
        that does not need the failed step, and fails the run then.

        Raises:
            InvalidTaskOptionError: There is no such mode.
        """
        try:
            chosen = OnError(mode)
        except ValueError:
            modes = ", ".join(repr(known.value) for known in OnError)
            raise InvalidTaskOptionError("on_error", mode, f"must be one of {modes}") from None
        self._set_policies(on_error=chosen)
        return self

    def with_limit(
        self,
        limit: Limit | None = None,
        *,
        key: str | None = None,
        max: int | None = None,  # noqa: A002 - the name that `limit` has
        rate: Rate | None = None,
        burst: int | None = None,
    ) -> Self:
        """Let every step of this pipeline hold a limit; takes one, or the arguments of `limit`.

        It holds over all runs and workers, and over all pipelines and tasks that name its key. Each
        step and each item of a map counts for itself; what waits for its turn holds no worker.

        Raises:
            InvalidTaskOptionError: Nothing is limited, or a number makes no sense.
        """
        if limit is None:
            limit = make_limit(key=key or "", max=max, rate=rate, burst=burst)
        self._set_policies(limits=(*self._policies.limits, *read_limits(limit)))
        return self

    def with_context(self, enable: bool = True) -> Self:
        """Also hand the context to parameters that are merely named ``context``.

        Those annotated with `PipelineContext` receive it anyway.
        """
        self._set_policies(context_by_name=enable)
        return self

    def with_hooks(self, manager: hooks.HookManager | None) -> Self:
        """Tell the hooks of a manager of the runs started from now on, from this process.

        They are fed from what is recorded of a run, wherever its steps run. None stops it.

        Raises:
            InvalidTaskOptionError: It is no hook manager.
        """
        if manager is not None and not isinstance(manager, hooks.HookManager):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidTaskOptionError("hooks", manager, "must be a HookManager")
        self.hooks = manager
        return self

    def with_tracking(
        self, manager: tracking.PipelineTrackingManager | None = None, *, enabled: bool = True
    ) -> Self:
        """Let a tracking manager follow the runs started from now on; a new one if none is given.

        A manager without a storage shows what the engine has stored; one with a storage of its own
        copies these runs there. ``enabled=False`` copies no further run.
        """
        self.tracking = (manager or tracking.PipelineTrackingManager()) if enabled else None
        if self.tracking is not None:
            if not isinstance(self.tracking, tracking.PipelineTrackingManager):  # pyright: ignore[reportUnnecessaryIsInstance]
                rule = "must be a PipelineTrackingManager"
                raise InvalidTaskOptionError("tracking", manager, rule)
            self.tracking.attach(self.broker)
        return self

    # -- pictures

    def print_dag(self, file: TextIO | None = None) -> None:
        """Write the steps as text: their levels, and what each one needs."""
        visualization.print_ascii(self.to_view(), file)

    def visualize(self) -> dict[str, Any]:
        """Return nodes, edges and levels as JSON values."""
        return visualization.DAGVisualizer(self.to_view()).to_json()

    def visualize_dot(self) -> str:
        """Return the steps in Graphviz's language."""
        return visualization.DAGVisualizer(self.to_view()).to_dot()

    def visualize_mermaid(self) -> str:
        """Return the steps as a Mermaid flowchart."""
        return visualization.DAGVisualizer(self.to_view()).to_mermaid()

    # -- for the kinds of pipelines

    @abstractmethod
    def _changed(self) -> None:
        """Forget what was compiled; called when the definition changes."""

    @property
    def _routing(self) -> Routing:
        return routing_of(self.broker)

    def _set_policies(self, **changes: Any) -> None:
        self._policies = replace(self._policies, **changes)
        self._changed()

    def _started(self, task: PipelineTask[Any]) -> None:
        self._last_run_id = task.task_id
        if self.tracking is not None:
            self.tracking.watch(self.broker, task.task_id)
        if self.hooks is not None:
            hooks.HookFeed.of(self.broker).follow(task.run_id, self.hooks)
