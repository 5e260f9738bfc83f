"""Everything that the engine has in one process for one broker, put together and taken down."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from taskiq import AsyncBroker, InMemoryBroker

from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.engine.beside import Beside
from taskiq_flow.engine.callbacks import RetryCallbacks
from taskiq_flow.engine.dispatch import Budget, Dispatcher
from taskiq_flow.engine.hooks import Hooks
from taskiq_flow.engine.host import own_version, settle_memory
from taskiq_flow.engine.ids import MARK, new_token
from taskiq_flow.engine.invoke import Invoker
from taskiq_flow.engine.lease import LeaseKeeper
from taskiq_flow.engine.recovery import Recovery
from taskiq_flow.engine.results import RunResults
from taskiq_flow.engine.retention import keep_clean
from taskiq_flow.engine.routing import own_queues, served_queues
from taskiq_flow.engine.sender import STEP_TASK, Sender
from taskiq_flow.engine.settler import Ending, Settler
from taskiq_flow.engine.step import StepHook
from taskiq_flow.engine.turns import Turns
from taskiq_flow.engine.waiter import Waiter
from taskiq_flow.engine.work import StepRunner
from taskiq_flow.exceptions import StoreError
from taskiq_flow.model.records import (
    Ready,
    WorkerRecord,
)
from taskiq_flow.observers import EventBus, Follower
from taskiq_flow.stores.base import RunStore

if TYPE_CHECKING:
    from taskiq import TaskiqMiddleware

logger = logging.getLogger("taskiq_flow.engine")

Stamp: TypeAlias = Callable[[str], Mapping[str, Any]]
"""What is noted with a new run, by its id."""


@dataclass(slots=True)
class Runtime:
    """The engine of one broker in one process.

    A client only opens the store. A worker process, and any process with an in-memory broker,
    also keeps leases and looks for what is due. One beside another (see `Beside`) has a ``home``.
    """

    broker: AsyncBroker
    store: RunStore
    config: TaskiqFlowConfig
    own_middlewares: tuple[type[TaskiqMiddleware], ...]
    hook: StepHook | None = None
    home: Runtime | None = None
    sender: Sender = field(init=False)
    waiter: Waiter = field(init=False)
    bus: EventBus = field(init=False)
    results: RunResults = field(init=False)
    settler: Settler = field(init=False)
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
    beside: Beside = field(init=False)

    def __post_init__(self) -> None:
        self.beside = Beside(self)
        self._assemble()
        if self.home is None:
            self._watch_listening()

    def here(self) -> Runtime:
        """The engine for the running event loop: this one, or one beside it."""
        if self._loop is None:
            return self
        try:
            is_home = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return self
        return self if is_home else self.beside.here()

    @property
    def works_in(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that it is open in, if that runs."""
        loop = self._loop
        return loop if loop is not None and self._opened and loop.is_running() else None

    def _assemble(self) -> None:
        hooks = Hooks(self.broker, self.own_middlewares)
        self.sender = Sender(self.broker, hooks)
        if isinstance(self.broker, InMemoryBroker) and not self.broker.await_inplace:
            # The broker's own set, so that `InMemoryBroker.wait_all()` waits for runs as well.
            running: set[Any] = getattr(self.broker, "_running_tasks", set())
            turns = Turns(self._handle, lambda: self.leases.taken, running)
            self.sender.hand_over = turns.add if self.home is None else self.home.beside.take
        self.waiter = Waiter(self.store)
        self.bus = EventBus(self.store)
        self.results = RunResults(self.store)
        self.settler = Settler(self.broker, self.store, self.results, self.sender, self.endings)
        if self.home is not None:
            self.sender.elsewhere = self.home.beside.send
            self.settler.elsewhere = self.home.beside.settle_cancelled
        self.leases = LeaseKeeper(self.store, self.store.options.lease_seconds)
        self.recovery = Recovery(
            store=self.store,
            sender=self.sender,
            queues=self._served,
            worker=self._worker,
            settle=self.settler.settle,
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
            on_wake=self.settler.settle,
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
            if isinstance(self.broker, InMemoryBroker) and self.home is None:
                self.begin_work()
            self._opened = True
        for follower in tuple(self.followers):
            await follower.begin()

    def begin_work(self) -> None:
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
            if self._loop.is_closed():
                self.store.leave()
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
            self.begin_work()
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
            version=own_version(),
        )


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


runtimes = _Runtimes()
