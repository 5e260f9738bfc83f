"""The engine of a manager in one event loop: its broker, its queues, and what runs here."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from taskiq import AsyncBroker, InMemoryBroker
from taskiq.decor import AsyncTaskiqDecoratedTask
from taskiq.result_backends.dummy import DummyResultBackend

from fastapi_taskflow.drafts import Draft, read_facts
from fastapi_taskflow.models import Executor
from fastapi_taskflow.plans import KIND, Plans
from fastapi_taskflow.queues import Lane, LocalQueues
from fastapi_taskflow.registry import UNNAMED, RegisteredTask, TaskRegistry
from fastapi_taskflow.runner import Body
from fastapi_taskflow.storing import create_started_run, may_start
from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.engine.runtime import Runtime, runtimes
from taskiq_flow.exceptions import StoreError
from taskiq_flow.middleware import PipelineMiddleware
from taskiq_flow.model.records import Address, Grant, LostReason, Ready, RunFilter, RunStatus
from taskiq_flow.optimization.parallel import room
from taskiq_flow.plan import load_plan
from taskiq_flow.stores.base import RunStore

logger = logging.getLogger("fastapi_taskflow")

LOCAL_QUEUE = "background"
"""The queue of the engine for tasks that run in applications; pipelines in memory have another."""

STORING_SECONDS = 1.0
"""How long an application that stops waits for the answer of its store to a task's creation."""

ADOPTED_AT_ONCE = 500
"""Tasks of an earlier process that are looked up in one go."""


class LocalBroker(InMemoryBroker):
    """A broker in memory whose tasks are those of a registry."""

    local_queue = LOCAL_QUEUE

    def __init__(self, registry: TaskRegistry, body_of: Callable[[RegisteredTask | None], Body]):
        # Before the broker's own start: its receiver asks for the tasks.
        self._registry, self._body_of = registry, body_of
        self._made: dict[str, tuple[RegisteredTask | None, AsyncTaskiqDecoratedTask[..., Any]]] = {}
        super().__init__(sync_tasks_pool_size=1, cast_types=False)
        # Nobody asks for results of the broker: the record has them.
        self.result_backend = DummyResultBackend[Any]()  # pyright: ignore[reportAttributeAccessIssue]

    def find_task(self, task_name: str) -> AsyncTaskiqDecoratedTask[..., Any] | None:
        found = None if task_name == UNNAMED else self._registry.find(task_name)
        if found is None and task_name != UNNAMED:
            return super().find_task(task_name)
        made = self._made.get(task_name)
        if made is None or made[0] is not found:
            task = AsyncTaskiqDecoratedTask(self, task_name, self._body_of(found), {})
            made = self._made[task_name] = (found, task)
        return made[1]

    def get_all_tasks(self) -> dict[str, AsyncTaskiqDecoratedTask[..., Any]]:
        tasks = dict(super().get_all_tasks())
        for registered in self._registry:
            task = self.find_task(registered.identity)
            if task is not None:
                tasks[registered.identity] = task
        return tasks


class LocalEngine:
    """Runs tasks in this process, in one event loop, from its start to its stop."""

    def __init__(
        self,
        store: RunStore,
        config: TaskiqFlowConfig,
        registry: TaskRegistry,
        queues: LocalQueues,
        body_of: Callable[[RegisteredTask | None], Body],
    ) -> None:
        self.store, self.registry, self.queues = store, registry, queues
        self.broker: AsyncBroker = LocalBroker(registry, body_of)
        self.broker.add_middlewares(PipelineMiddleware(store, config=config))
        self.runtime: Runtime = runtimes[self.broker]
        self._adopting: asyncio.Task[None] | None = None
        self._began_at = 0.0

    async def open(self) -> None:
        """Connect to the store, and look after what runs here.

        Raises:
            StoreUnavailableError: The store does not answer.
        """
        self.runtime.sender.hand_over = self.take
        await self.runtime.open()
        self.runtime.dispatcher.runner.invoker.adopt_receiver()

    @property
    def is_open_here(self) -> bool:
        """Whether the running event loop is the one that it is open in."""
        return self.runtime.works_in is asyncio.get_running_loop()

    def reserve(self, draft: Draft, lane: Lane) -> bool:
        """Keep a place for a task that can begin as soon as it is stored, if there is one."""
        if not may_start(lane, draft) or not self.is_open_here:
            return False
        place = draft.place
        kept = self.queues.reserve(
            draft.task_id, lane.name, draft.task.executor, eager=place.eager, context=draft.context
        )
        if kept and not room.try_enter(asyncio.get_running_loop()):
            self.queues.give_up(draft.task_id)
            return False
        return kept

    async def create_started(
        self, draft: Draft, plans: Plans, lane: Lane
    ) -> tuple[Ready, ...] | asyncio.Future[None]:
        """Store a task and begin it, in the place that is reserved for it.

        The future is done when its function begins. Without one it is not begun, and what is ready
        is returned, as when a task is only stored.

        Raises:
            StoreError: The store does not take it.
        """
        dispatcher, queues, run_id = self.runtime.dispatcher, self.queues, draft.task_id
        token, loop, is_begun = dispatcher.new_token(), asyncio.get_running_loop(), False
        asked_at = loop.time()
        try:
            answer = await create_started_run(self.runtime.store, plans, lane, draft, token)
            if not isinstance(answer, Grant):
                return answer
            if queues.begin is None or not queues.keeps(run_id):
                # The application stops, or it was cancelled. Who waits hears if that fails: a
                # lease that runs out has most tasks count as interrupted.
                return await self.runtime.store.release(answer.address, answer.token)
            # Without a moment in between: nobody else would give up the lease.
            lease, is_begun = dispatcher.hold(answer, asked_at), True
            return queues.run(run_id, dispatcher.on_lease(lease))
        except (asyncio.CancelledError, StoreError):
            dispatcher.returns.give_back(Address(run_id, 0, 0), token)  # it may be stored
            raise
        finally:
            if not is_begun:
                room.leave(loop)  # this coroutine may be closed where another loop runs, or none
                queues.give_up(run_id)

    def begin(self) -> None:
        """Begin tasks from now on, first of all those that earlier processes left."""
        dispatcher, self._began_at = self.runtime.dispatcher, time.time()
        self.queues.start(lambda ready: dispatcher.on_message([ready]))
        if self.store.shared:
            self._adopting = asyncio.get_running_loop().create_task(self._adopt())

    def take(self, batch: Sequence[Ready]) -> None:
        """Take what the engine says is ready to run, but for what is for a broker's workers."""
        now = time.time()
        for ready in batch:
            if ready.queue != LOCAL_QUEUE:
                continue
            self.queues.put(ready, self.executor_of(ready.task), since=now)

    def executor_of(self, identity: str) -> Executor:
        task = self.registry.find(identity)
        return "async" if task is None else task.executor

    def stop_run(self, run_id: str) -> None:
        """Stop what runs here of a run that was cancelled, without waiting for the lease."""
        self.queues.drop(run_id)
        for lease in self.runtime.leases.held:
            if lease.address.run_id == run_id and lease.lost is None:
                lease.lost = LostReason.CANCELLED
                lease.stop()

    async def stop(self) -> None:
        """Begin nothing more, give back what may be run elsewhere, close the store."""
        if self._adopting is not None:
            self._adopting.cancel()
            await asyncio.wait([self._adopting])
        going = self.queues.stop()
        loop = asyncio.get_running_loop()
        until = loop.time() + STORING_SECONDS
        while self.queues.is_storing and loop.time() < until:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        await self.runtime.close()
        if going:
            await asyncio.wait(going, timeout=1.0)
        executor: Any = getattr(self.broker, "executor", None)
        if executor is not None:
            executor.shutdown(wait=False)

    def leave(self) -> None:
        """Give up what belongs to an event loop that was closed without `stop`."""
        self.queues.stop()
        self.runtime.leases.stop()

    async def _adopt(self) -> None:
        """Queue what was stored and is not running: its message died with its process.

        It would come due by itself, but the later, the longer it has waited. What runs elsewhere
        is refused when it is begun here.
        """
        try:
            for status in (RunStatus.PENDING, RunStatus.RUNNING):
                await self._adopt_those(RunFilter(status=status, kind=KIND))
        except StoreError as error:
            logger.warning("Tasks of earlier processes are looked for later: %s", error)

    async def _adopt_those(self, where: RunFilter) -> None:
        cursor: str | None = None
        while True:
            page = await self.store.list_runs(where, cursor=cursor, limit=ADOPTED_AT_ONCE)
            plans = await asyncio.gather(*(self.store.plan(run.run_id) for run in page.runs))
            for run, stored in zip(page.runs, plans, strict=True):
                is_of_before = run.created_at < self._began_at
                if stored is not None and is_of_before and read_facts(run.meta).fire_at is None:
                    self._adopt_one(run.run_id, run.created_at, stored)
            cursor = page.cursor
            if cursor is None:
                return

    def _adopt_one(self, run_id: str, created_at: float, stored: bytes) -> None:
        step = load_plan(stored).steps[-1]
        if step.queue != LOCAL_QUEUE:
            return  # for the workers of a broker
        ready = Ready(Address(run_id, 0, 0), step.queue, step.route, step.task)
        self.queues.put(ready, self.executor_of(step.task), since=created_at)
