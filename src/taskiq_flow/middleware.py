"""The middleware that makes an ordinary ``taskiq worker`` run pipelines."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from taskiq import (
    AsyncBroker,
    Context,
    InMemoryBroker,
    TaskiqDepends,
    TaskiqMessage,
    TaskiqMiddleware,
    TaskiqResult,
)
from taskiq.exceptions import NoResultError
from taskiq.utils import maybe_awaitable

from taskiq_flow import hooks, metrics
from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.context import PipelineContext
from taskiq_flow.engine.hooks import StepMiddleware
from taskiq_flow.engine.host import (
    check_broker,
    check_host,
    prepare_broker,
    store_url_of,
    use_processes,
)
from taskiq_flow.engine.invoke import labels_for_steps, outer_labels
from taskiq_flow.engine.runtime import Runtime, runtimes
from taskiq_flow.engine.sender import STEP_TASK, announced
from taskiq_flow.exceptions import ConfigurationError, NoStoreError
from taskiq_flow.stores.base import RunStore
from taskiq_flow.stores.factory import make_store, store_options

if TYPE_CHECKING:
    from taskiq_flow.tracking import PipelineTrackingManager

logger = logging.getLogger("taskiq_flow.engine")


class PipelineMiddleware(TaskiqMiddleware):
    """Runs the steps of pipelines on this broker, and looks after runs that stood still.

    Add it to the broker that workers import: ``broker.add_middlewares(PipelineMiddleware())``.
    Without a store it uses the broker's own Redis, memory for an in-memory broker, or
    ``TASKIQ_FLOW_STORE_URL``. Several on one broker share one engine; subclasses may override
    ``on_step_start``, ``on_step_complete`` and ``on_step_error``.

    Args:
        store: A store, or its URL. Default: see above.
        executor: ``"process"`` runs sync steps of an in-memory broker in as many processes as
            there are cores (or ``max_processes``); default: the broker's threads.
        tracking: A manager that follows every run of the namespace from this process;
            ``tracking_manager`` is the same.
        hook_manager: Hooks that this process tells of every run of the namespace.
        metrics_collector: Where to measure; the same as a `MetricsMiddleware` with it.
        config: Settings; keyword ``settings`` override single ones, for example
            ``lease_seconds=2``.

    Raises:
        NoStoreError: When added to a broker whose workers could not share a store.
        StoreUrlError: The URL names no kind of store.
    """

    def __init__(
        self,
        store: RunStore | str | None = None,
        *,
        executor: str | None = None,
        max_processes: int | None = None,
        config: TaskiqFlowConfig | None = None,
        tracking: PipelineTrackingManager | None = None,
        tracking_manager: PipelineTrackingManager | None = None,
        hook_manager: hooks.HookManager | None = None,
        metrics_collector: metrics.MetricsCollector | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        if executor not in (None, "thread", "process"):
            raise ConfigurationError(f"executor={executor!r} is not one of 'thread', 'process'.")
        unknown = set(settings) - set(TaskiqFlowConfig.model_fields)
        if unknown:
            raise ConfigurationError(
                f"Unknown setting {', '.join(sorted(unknown))}; "
                f"known are {', '.join(sorted(TaskiqFlowConfig.model_fields))}."
            )
        if config is None or settings:
            given = {} if config is None else config.model_dump(exclude_unset=True)
            config = TaskiqFlowConfig(**{**given, **settings})
        self.config = config
        self.tracking = tracking or tracking_manager
        self.hook_manager = hook_manager
        self.metrics_collector = metrics_collector
        self._store = store
        self._executor, self._max_processes = executor, max_processes

    @property
    def runtime(self) -> Runtime:
        """The engine that this middleware shares with all others of its broker."""
        return runtimes[self.broker].here()

    def set_broker(self, broker: AsyncBroker) -> None:
        """Register the engine's one task on the broker; the first of several does it."""
        super().set_broker(broker)
        if broker not in runtimes:
            self._make_runtime(broker)
        self._share_hooks(runtimes[broker])
        if self.tracking is not None:
            self.tracking.attach(broker, every_run=True)
        if self.hook_manager is not None:
            hooks.HookFeed.of(broker).hear_all(self.hook_manager)
        if self.metrics_collector is not None:
            broker.add_middlewares(metrics.MetricsMiddleware(self.metrics_collector))

    def _make_runtime(self, broker: AsyncBroker) -> None:
        check_host()
        runtime = Runtime(
            broker=broker,
            store=self._make_store(broker),
            config=self.config,
            own_middlewares=(PipelineMiddleware,),
        )
        runtimes[broker] = runtime
        prepare_broker(broker)
        if self._executor == "process":
            use_processes(broker, self._max_processes)
        _register_step_task(broker)
        for middleware in broker.middlewares:
            if isinstance(middleware, StepMiddleware):
                middleware.join(runtime)

    def _make_store(self, broker: AsyncBroker) -> RunStore:
        if isinstance(self._store, RunStore):
            return self._store
        url = self._store or self.config.store_url or store_url_of(broker)
        if url is None:
            raise NoStoreError(type(broker).__name__)
        store = make_store(url, store_options(self.config))
        if not store.shared and not isinstance(broker, InMemoryBroker):
            raise NoStoreError(type(broker).__name__)
        return store

    async def startup(self) -> None:
        """Connect to the store."""
        await self.runtime.open()

    async def shutdown(self) -> None:
        """Give running slots back at once, so that other workers go on with them."""
        if _first_of(self.broker) is self:
            await self.runtime.close()

    def _share_hooks(self, runtime: Runtime) -> None:
        """Let the engine call this one's hooks too, unless another of its class does it."""
        if self.overrides_hooks():
            hooked = {
                type(middleware): middleware
                for middleware in (self, *self.broker.middlewares)
                if isinstance(middleware, PipelineMiddleware) and middleware.overrides_hooks()
            }
            runtime.hook = runtime.dispatcher.runner.hook = _Hooks([*hooked.values()]).call

    @classmethod
    def overrides_hooks(cls) -> bool:
        """Whether a subclass wants to hear of steps."""
        return any(
            getattr(cls, name) is not getattr(PipelineMiddleware, name)
            for name in ("on_step_start", "on_step_complete", "on_step_error")
        )

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        """Keep the engine's own messages out of the result backend; runs have their own record."""
        if message.task_name == STEP_TASK:
            # Set here and not raised in the task: a raised one would count as an error.
            result.error = NoResultError()

    async def on_step_start(self, ctx: PipelineContext) -> None:
        """A step (or one item of a map) begins on this worker."""

    async def on_step_complete(self, ctx: PipelineContext, result: Any) -> None:
        """A step (or one item of a map) has completed here, and that is recorded."""

    async def on_step_error(self, ctx: PipelineContext, error: BaseException) -> None:
        """A try of a step (or of one item) has failed here, and that is recorded."""


class _Hooks:
    """Calls the overridden hooks of middlewares, sync or async; one that raises is logged."""

    def __init__(self, middlewares: list[PipelineMiddleware]) -> None:
        self.middlewares = middlewares

    async def call(self, name: str, ctx: PipelineContext, value: Any) -> None:
        for middleware in self.middlewares:
            try:
                if name == "start":
                    await maybe_awaitable(middleware.on_step_start(ctx))
                elif name == "complete":
                    await maybe_awaitable(middleware.on_step_complete(ctx, value))
                else:
                    await maybe_awaitable(middleware.on_step_error(ctx, value))
            except Exception:  # user code; it must not change the run
                logger.exception("on_step_%s of %s failed", name, type(middleware).__name__)


def _register_step_task(broker: AsyncBroker) -> None:
    async def step(slots: Any = None, context: Context = TaskiqDepends()) -> None:  # noqa: B008 - Taskiq's way
        # By its broker: Taskiq keeps this function for ever, and the engine would stay with it.
        runtime = runtimes[context.broker].here()
        await runtime.open()
        runtime.begin_work()
        runtime.dispatcher.runner.invoker.adopt_receiver()

        async def acknowledge() -> None:
            if context.is_ackable:
                await context.ack()

        labels = context.message.labels
        outer = outer_labels.set(labels_for_steps(labels))
        try:
            await runtime.dispatcher.on_message(announced(slots, labels), acknowledge)
        finally:
            outer_labels.reset(outer)

    broker.register_task(step, task_name=STEP_TASK)


def _first_of(broker: AsyncBroker) -> PipelineMiddleware | None:
    return next((m for m in broker.middlewares if isinstance(m, PipelineMiddleware)), None)


def runtime_for(broker: AsyncBroker) -> Runtime:
    """The engine of a broker that has no middleware yet, and gets one."""
    check_broker(broker)
    broker.add_middlewares(PipelineMiddleware())
    return runtimes[broker]
