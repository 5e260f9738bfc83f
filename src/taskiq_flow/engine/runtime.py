"""Everything that the engine has in one process for one broker, put together and taken down."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, TypeAlias

from taskiq import AsyncBroker, InMemoryBroker
from taskiq.result_backends.dummy import DummyResultBackend

from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.engine.callbacks import RetryCallbacks
from taskiq_flow.engine.children import cancel_children
from taskiq_flow.engine.compensation import compensate_run
from taskiq_flow.engine.dispatch import Budget, Dispatcher
from taskiq_flow.engine.hooks import Hooks
from taskiq_flow.engine.host import settle_memory
from taskiq_flow.engine.ids import MARK, new_token
from taskiq_flow.engine.invoke import Invoker
from taskiq_flow.engine.lease import LeaseKeeper
from taskiq_flow.engine.recovery import Recovery
from taskiq_flow.engine.results import RunResults
from taskiq_flow.engine.retention import keep_clean
from taskiq_flow.engine.routing import own_queues, served_queues
from taskiq_flow.engine.sender import STEP_TASK, Sender
from taskiq_flow.engine.step import StepHook
from taskiq_flow.engine.turns import Turns
from taskiq_flow.engine.waiter import Waiter
from taskiq_flow.engine.work import StepRunner
from taskiq_flow.exceptions import RunNotFoundError, StoreError
from taskiq_flow.model.records import (
    Address,
    Ready,
    RunSnapshot,
    RunStatus,
    Wake,
    WakeKind,
    WorkerRecord,
)
from taskiq_flow.observers import EventBus, Follower
from taskiq_flow.plan import Plan
from taskiq_flow.stores.base import RunStore

if TYPE_CHECKING:
    from taskiq import TaskiqMiddleware

logger = logging.getLogger("taskiq_flow.engine")

ENDING_SECONDS = 5.0
"""Whoever is told of the end of a run is given up after this."""

Stamp: TypeAlias = Callable[[str], Mapping[str, Any]]
"""What is noted with a new run, by its id."""

Ending: TypeAlias = Callable[[str, WakeKind], Awaitable[None]]
"""Is told of an ended run, by the one process that settles its end."""


@dataclass(slots=True)
class Runtime:
    """The engine of one broker in one process.

    A client only opens the store. A worker process, and any process with an in-memory broker,
    also keeps leases and looks for what is due.
    """

    broker: AsyncBroker
    store: RunStore
    config: TaskiqFlowConfig
    own_middlewares: tuple[type[TaskiqMiddleware], ...]
    hook: StepHook | None = None
    sender: Sender = field(init=False)
    waiter: Waiter = field(init=False)
    bus: EventBus = field(init=False)
    results: RunResults = field(init=False)
    leases: LeaseKeeper = field(init=False)
    dispatcher: Dispatcher = field(init=False)
    recovery: Recovery = field(init=False)
    followers: list[Follower] = field(default_factory=list[Follower])
    stamps: list[Stamp] = field(default_factory=list[Stamp])
    endings: list[Ending] = field(default_factory=list[Ending])
    worker_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    _loop: asyncio.AbstractEventLoop | None = None
    _opening: asyncio.Lock | None = None
    _opened: bool = False
    _looking: asyncio.Task[None] | None = None
    _cleaning: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._assemble()
        self._watch_listening()

    def _assemble(self) -> None:
        hooks = Hooks(self.broker, self.own_middlewares)
        self.sender = Sender(self.broker, hooks)
        if isinstance(self.broker, InMemoryBroker) and not self.broker.await_inplace:
            # The broker's own set, so that `InMemoryBroker.wait_all()` waits for runs as well.
            running: set[Any] = getattr(self.broker, "_running_tasks", set())
            turns = Turns(self._handle, lambda: self.leases.taken, running)
            self.sender.hand_over = turns.add
        self.waiter = Waiter(self.store)
        self.bus = EventBus(self.store)
        self.results = RunResults(self.store)
        self.leases = LeaseKeeper(self.store, self.store.options.lease_seconds)
        self.recovery = Recovery(
            store=self.store,
            sender=self.sender,
            queues=self._served,
            worker=self._worker,
            settle=self.settle,
        )
        self.dispatcher = Dispatcher(
            broker=self.broker,
            store=self.store,
            leases=self.leases,
            sender=self.sender,
            runner=StepRunner(
                self.broker, self.store, Invoker(self.broker, hooks), self.config, self.hook
            ),
            budget=Budget(self.config.continue_seconds, self.config.continue_steps),
            on_wake=self.settle,
            on_due=self.recovery.look_in,
            on_retry=RetryCallbacks(
                self.broker, self.store, self.sender, lambda: bool(self.endings)
            ).before_record,
            new_token=functools.partial(new_token, self.worker_id[:MARK]),
        )

    async def open(self) -> None:
        """Connect to the store; with an in-memory broker, also start to look after runs.

        Called by ``broker.startup()`` and by the first use, whichever comes first. In a new event
        loop (another ``asyncio.run``) everything is opened anew.

        Raises:
            StoreUnavailableError: The store does not answer.
        """
        loop = asyncio.get_running_loop()
        if self._opened and self._loop is loop:
            return
        if self._loop is not loop:
            self._leave_old_loop()
            self._loop, self._opening = loop, asyncio.Lock()
        assert self._opening is not None
        async with self._opening:
            if self._opened:
                return
            await self.store.open()
            if isinstance(self.broker, InMemoryBroker):
                self._begin_work()
            self._opened = True
        for follower in tuple(self.followers):
            await follower.begin()

    def _begin_work(self) -> None:
        """From now on steps run in this process: keep their leases, look for what is due."""
        if self._looking is None:
            self.leases.start()
            loop = asyncio.get_running_loop()
            self._looking = loop.create_task(self.recovery.run())
            if not self.store.forgets:
                self._cleaning = loop.create_task(keep_clean(self.store))

    def _leave_old_loop(self) -> None:
        """Take apart what belongs to an earlier event loop, closed there or not."""
        if self._loop is None:
            return
        if self._opened:
            self.leases.stop()
            self.dispatcher.runner.leave_loop()
            self.store = self.store.twin()
        self._opened, self._looking, self._cleaning = False, None, None
        self._assemble()

    def _watch_listening(self) -> None:
        """Notice when this process begins to take messages, and when it stops.

        Whoever listens is a worker, also when ``broker.startup()`` was called before it was one,
        and is not connected before: a message for a due step could not be sent. From the stop on
        nothing continues in place: ``Middleware.shutdown`` comes only after the worker has waited
        for its running tasks, and a chain of 20,000 steps would be one of them.
        """
        if isinstance(self.broker, InMemoryBroker):
            return
        listen = self.broker.listen

        async def watched() -> Any:
            await self.open()
            self._begin_work()
            if self.broker.is_worker_process:
                settle_memory()
            self.dispatcher.stopping = False
            logger.info("Running the steps of queue %s.", ", ".join(own_queues(self.broker)))
            messages = listen()
            try:
                async for message in messages:
                    yield message
            finally:
                self.dispatcher.stopping = True
                await messages.aclose()

        self.broker.listen = watched  # type: ignore[method-assign]

    async def close(self) -> None:
        """Give back what is held, say good-bye, and close the store."""
        if not self._opened:
            return
        self._opened = False
        await self.dispatcher.stop()
        await self.dispatcher.runner.close()
        for follower in tuple(self.followers):
            await follower.end()
        await self.bus.close()
        worked = self._looking is not None
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
            self._looking = None
        if self._cleaning is not None:
            self._cleaning.cancel()
            await asyncio.wait([self._cleaning])
            self._cleaning = None
        self.waiter.close()
        self.leases.stop()
        if worked:
            try:
                await self.store.withdraw(self.worker_id)
            except StoreError as error:
                logger.info("This worker could not take its leave: %s", error)
        await self.store.close()
        self.dispatcher.stopping = False

    async def _handle(self, ready: Sequence[Ready]) -> None:
        """Handle a message of a broker in memory; one after `close` stays in the store."""
        if not self._opened:
            return
        self.dispatcher.runner.invoker.adopt_receiver()
        await self.dispatcher.on_message(ready)

    # -- who this process is

    def _served(self) -> tuple[str, ...]:
        tasks = self.broker.get_all_tasks().values()
        return served_queues(self.broker, (task.labels for task in tasks))

    def _worker(self) -> WorkerRecord:
        tasks = tuple(name for name in self.broker.get_all_tasks() if name != STEP_TASK)
        return WorkerRecord(
            worker_id=self.worker_id,
            namespace=self.store.options.namespace,
            queues=own_queues(self.broker),
            tasks=tasks,
            seen_at=0.0,
            host=self.config.worker_name or socket.gethostname(),
            pid=os.getpid(),
            version=_own_version(),
        )

    # -- what follows the end of a run

    @property
    def publishes(self) -> bool:
        """Whether somebody is to be told of the ends of runs: a result backend, or a trace."""
        backend = self.broker.result_backend
        return not isinstance(backend, DummyResultBackend) or bool(self.endings)

    async def settle(self, wake: Wake) -> None:
        """Do what an ended run leaves to do. A store that is away finds it due again later."""
        try:
            if wake.kind is WakeKind.PUBLISH:
                await self.publish(wake.run_id)
            elif wake.kind is WakeKind.NOTIFY and wake.parent is not None:
                await self.notify(wake.run_id, wake.parent)
        except StoreError as error:
            logger.warning("The end of run %s is settled later: %s", wake.run_id, error)

    async def publish(self, run_id: str) -> None:
        """Hand the outcome to the broker's result backend, for any plain Taskiq client."""
        backend = self.broker.result_backend
        try:
            plan = await self.results.plan(run_id)
        except RunNotFoundError:
            return  # its record has expired, and so has this
        if plan.is_followed:
            await self._follow(run_id, plan)
        if not isinstance(backend, DummyResultBackend):
            try:
                outcome = await self.results.outcome(run_id, plan=plan)
                if outcome is None:
                    return
                await backend.set_result(run_id, outcome.as_result())
            except StoreError:
                raise
            except Exception as error:  # noqa: BLE001 - any backend, any error
                logger.warning("Run %s was not published, trying again: %r", run_id, error)
                return
        await self._tell_end(run_id, WakeKind.PUBLISH)
        await self.store.settle(run_id, WakeKind.PUBLISH)

    async def settle_cancelled(self, run: RunSnapshot) -> None:
        """Do at once what workers would do a few seconds later for a run that was cancelled here.

        A process without a result backend leaves it to the workers to publish: they may have one.
        """
        if run.parent is not None:
            await self.settle(Wake(WakeKind.NOTIFY, run.run_id, parent=run.parent))
        if not isinstance(self.broker.result_backend, DummyResultBackend):
            await self.settle(Wake(WakeKind.PUBLISH, run.run_id))
            return
        try:
            plan = await self.results.plan(run.run_id)
            if plan.is_followed:
                await self._follow(run.run_id, plan)
        except (StoreError, RunNotFoundError) as error:
            logger.info("The end of run %s is left to the workers: %s", run.run_id, error)

    async def _tell_end(self, run_id: str, kind: WakeKind) -> None:
        for ending in self.endings:
            try:
                async with asyncio.timeout(ENDING_SECONDS):
                    await ending(run_id, kind)
            except Exception:  # it must not keep a run from being settled
                logger.exception("The end of run %s was not told", run_id)

    async def notify(self, run_id: str, parent: Address) -> None:
        """Wake the step that waits for a child run.

        One that does not wait yet (its worker is about to say so, or died before it could) is
        told again later.
        """
        ready = await self.store.resume(parent, run_id)
        if not ready and await self._goes_on(parent):
            return
        await self._tell_end(run_id, WakeKind.NOTIFY)
        await self.store.settle(run_id, WakeKind.NOTIFY)
        await self.sender.send(ready)

    async def _goes_on(self, at: Address) -> bool:
        run = await self.store.get(at.run_id)
        if run is None or run.status.is_final:
            return False
        return any(s.index == at.step and not s.status.is_final for s in run.steps)

    async def _follow(self, run_id: str, plan: Plan) -> None:
        """Cancel the children of a run that ended before them, and take back what it did."""
        run = await self.store.get(run_id, steps=False)
        if run is not None and run.status in (RunStatus.FAILED, RunStatus.CANCELLED):
            await cancel_children(self.store, run_id)
            ready = await compensate_run(self.store, run_id, plan, publish=self.publishes)
            await self.sender.send(ready)


class _Runtimes:
    """The engine of each broker: several middlewares on one broker share it, and work once.

    A broker holds its own: a table would keep both for ever, because an engine holds its broker.
    """

    _ATTRIBUTE = "_taskiq_flow_runtime"

    def __contains__(self, broker: AsyncBroker) -> bool:
        return self.get(broker) is not None

    def __getitem__(self, broker: AsyncBroker) -> Runtime:
        return vars(broker)[self._ATTRIBUTE]

    def __setitem__(self, broker: AsyncBroker, runtime: Runtime) -> None:
        setattr(broker, self._ATTRIBUTE, runtime)

    def get(self, broker: AsyncBroker) -> Runtime | None:
        return getattr(broker, "__dict__", {}).get(self._ATTRIBUTE)

    def forget(self, broker: AsyncBroker) -> None:
        vars(broker).pop(self._ATTRIBUTE, None)


@cache
def _own_version() -> str:
    """The installed version; none in a checkout that is not installed."""
    try:
        return version("taskiq-flow")
    except PackageNotFoundError:
        return ""


runtimes = _Runtimes()
