"""What a task manager has inside: it stores tasks, runs them, and knows of their ends."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from taskiq import AsyncBroker

from fastapi_taskflow.bridge import Bridge, is_running
from fastapi_taskflow.drafts import Draft, TaskFacts, keyed_task_id, read_facts
from fastapi_taskflow.endings import Endings
from fastapi_taskflow.engine import LocalEngine
from fastapi_taskflow.exceptions import TaskNotStoredError
from fastapi_taskflow.loggers import LoggerChain
from fastapi_taskflow.models import QueueConfig, TaskConfig
from fastapi_taskflow.plans import Plans
from fastapi_taskflow.pools import THREADS, Pools
from fastapi_taskflow.queues import Lane, LocalQueues
from fastapi_taskflow.records import status_of
from fastapi_taskflow.registry import RegisteredTask, TaskRegistry
from fastapi_taskflow.requests import RequestTasks, tasks_of_request
from fastapi_taskflow.runner import INTERRUPT_SECONDS, Body, TaskRunner
from fastapi_taskflow.settings import CoreOptions
from fastapi_taskflow.storing import create_run, latest_of_key, reject
from taskiq_flow.context import PipelineContext
from taskiq_flow.engine.client import RunClient
from taskiq_flow.engine.routing import queue_key
from taskiq_flow.exceptions import StoreError
from taskiq_flow.model.records import Ready
from taskiq_flow.stores.base import RunStore

if TYPE_CHECKING:
    from fastapi_taskflow.encryption import Cipher

logger = logging.getLogger("fastapi_taskflow")

STORED_TOGETHER = 50
"""Tasks of one request that are stored at the same time: the event loop has others to serve."""


class TaskCore:
    """Stores and runs the tasks of one manager; opened and closed once for each event loop."""

    def __init__(
        self,
        options: CoreOptions,
        store: RunStore,
        cipher: Cipher | None,
        chain: LoggerChain | None,
        broker: AsyncBroker | None,
    ) -> None:
        self.options, self.cipher, self.chain, self.broker = options, cipher, chain, broker
        self.store = store
        self.registry = TaskRegistry()
        self.bridge = Bridge(store)
        self.queues = self._make_queues()
        self.plans = Plans(
            lambda labels: "background" if broker is None else queue_key(broker, labels),
            None if broker is None else self._bound_of,
        )
        self._facts: dict[str, TaskFacts] = {}
        tell = None if chain is None else chain.tell
        self.endings = Endings(tell, self._forget, self._facts.__contains__)
        self.drafts: dict[str, Draft] = {}
        self._drafted: Counter[str] = Counter()
        self.engine: LocalEngine | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.AbstractEventLoop | None = None
        self._runner: TaskRunner | None = None
        self._unnamed: dict[str, RegisteredTask] = {}
        self._early: list[tuple[Draft, tuple[Ready, ...]]] = []
        self._lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    def _make_queues(self) -> LocalQueues:
        options = self.options
        return LocalQueues(
            options.queues,
            {
                "async": options.max_concurrent_tasks,
                "thread": options.max_sync_threads or THREADS,
                "process": options.max_process_workers,
            },
        )

    def _bound_of(self, queue: str | None) -> QueueConfig | None:
        return self.queues.lane_of(queue).config

    def register(self, func: Callable[..., Any], config: TaskConfig) -> None:
        """Take a function as a task; on a broker, its workers take it too."""
        task = self.registry.register(func, config)
        if config.queue is not None and config.queue not in self.queues.lanes:
            logger.warning(
                "There is no queue %r; %s waits in the default one.", config.queue, task.name
            )
        if self.broker is not None:
            self.broker.register_task(self._body_for_worker(task), task_name=task.identity)

    def task_of(self, func: Callable[..., Any], *, outlives: bool = False) -> RegisteredTask:
        """A function as a task; one that ``outlives`` this process is found by another.

        Raises:
            UnnamedTaskError: Another process is to run it, and could not find it.
        """
        task = self.registry.of(func)
        if task.is_unnamed and self.store.shared:
            self.registry.check_named(task, outlives=outlives or self.broker is not None)
        return task

    def _body_for_worker(self, task: RegisteredTask) -> Body:
        async def body(payload: Any, context: PipelineContext) -> Any:
            await self.opened_store()
            return await self._body_of(task)(payload, context)

        return body

    # -- storing

    async def commit(self, drafts: Sequence[Draft]) -> None:
        """Store tasks, together, and let them begin.

        Raises:
            QueueFullError: A queue is full; its task is recorded as REJECTED.
            TaskNotStoredError: The store does not take them; none of them will run, but those
                that it had taken already.
        """
        try:
            await self._store_all(drafts)
        except StoreError as error:
            raise TaskNotStoredError(str(error)) from error
        finally:
            for draft in drafts:
                self.discard(draft)  # what was handed over is no draft any more

    async def _store_all(self, drafts: Sequence[Draft]) -> None:
        store, failed = await self.opened_store(), None
        # Each that finds a place begins as soon as it is stored.
        drafts = sorted(drafts, key=lambda draft: -(draft.place.priority or 0))
        for first in range(0, len(drafts), STORED_TOGETHER):
            portion = drafts[first : first + STORED_TOGETHER]
            stored = await self._create_all(store, portion)
            for draft, ready in zip(portion, stored, strict=True):
                if isinstance(ready, BaseException):
                    failed = failed or ready
                else:
                    self._hand_over(draft, ready)
            if isinstance(failed, StoreError):
                break
        if failed is not None:
            raise failed

    async def _create_all(
        self, store: RunStore, drafts: Sequence[Draft]
    ) -> Sequence[tuple[Ready, ...] | BaseException]:
        if len(drafts) > 1:
            creating = [self._create(store, draft) for draft in drafts]
            return await asyncio.gather(*creating, return_exceptions=True)
        try:
            return (await self._create(store, drafts[0]),)
        except Exception as error:  # noqa: BLE001 - as `gather` does, without a task of its own
            return (error,)

    def commit_now(self, draft: Draft) -> None:
        """The same for one task, for callers that cannot wait for the event loop."""
        lane = self.queues.lane_of(draft.place.queue)
        try:
            ready = self.bridge.ask(lambda store: create_run(store, self.plans, lane, draft))
            self._hand_over(draft, ready)
        except StoreError as error:
            raise TaskNotStoredError(str(error)) from error
        finally:
            self.discard(draft)

    def commit_eagerly(self, draft: Draft, request: RequestTasks | None) -> None:
        """Store a task and let it begin, at once: its response waits for no more than that."""
        if self.loop is None or not is_running(self.loop):
            self.commit_now(draft)
            return
        storing = self.loop.create_task(self.commit([draft]))
        if request is None or not request.follow(storing):
            self.endings.keep(storing)

    def reject(self, draft: Draft, lane: Lane) -> None:
        """Leave a record of a task that its queue did not take."""
        lane.rejected += 1
        if self.loop is not None and is_running(self.loop):
            self.endings.background(self._reject_here(draft, lane))
        else:
            self.bridge.ask(lambda store: reject(store, self.plans, lane, draft))

    async def _reject_here(self, draft: Draft, lane: Lane) -> None:
        await reject(await self.opened_store(), self.plans, lane, draft)

    def count_drafts(self, lane: str) -> int:
        """Tasks of a queue that are about to be stored."""
        return self._drafted[lane]

    def keep(self, draft: Draft) -> None:
        """Remember a task that is about to be stored."""
        if draft.task_id not in self.drafts:
            self._drafted[self.queues.lane_of(draft.place.queue).name] += 1
        self.drafts[draft.task_id] = draft
        if draft.task.is_unnamed:
            self._unnamed[draft.task_id] = draft.task

    def discard(self, draft: Draft) -> None:
        """Forget a task that is not to be stored; another request may have one of its key."""
        if self.drafts.get(draft.task_id) is draft:
            self._is_no_draft(draft)
            self._unnamed.pop(draft.task_id, None)

    def _is_no_draft(self, draft: Draft) -> None:
        if self.drafts.pop(draft.task_id, None) is not None:
            self._drafted[self.queues.lane_of(draft.place.queue).name] -= 1

    async def _create(self, store: RunStore, draft: Draft) -> tuple[Ready, ...]:
        lane, engine = self.queues.lane_of(draft.place.queue), self.engine
        # Not before it runs: one that is cancelled before its first step would keep its place.
        if engine is None or store is not engine.runtime.store or not engine.reserve(draft, lane):
            return await create_run(store, self.plans, lane, draft)
        begun = await engine.create_started(draft, self.plans, lane)
        if not isinstance(begun, asyncio.Future):
            return begun
        self._is_no_draft(draft)  # also if others of its request are not stored yet
        self._facts[draft.task_id] = draft.facts
        # It is RUNNING for the store. Were its process to die now it would count as interrupted, so
        # nobody may be told of it before it is.
        await begun
        return ()

    def _hand_over(self, draft: Draft, ready: tuple[Ready, ...]) -> None:
        self._is_no_draft(draft)
        loop = self.loop
        if loop is None or loop.is_closed():
            self._early.append((draft, ready))
        elif is_running(loop):
            self._begin(draft, ready)
        else:
            loop.call_soon_threadsafe(self._begin, draft, ready)

    def _begin(self, draft: Draft, ready: tuple[Ready, ...]) -> None:
        if self.engine is None:
            if self.broker is not None and ready:
                sending = RunClient.of(self.broker).runtime.sender.send(ready)
                self.endings.background(sending)
            return
        if not ready and draft.delay is None:
            return  # its key was used elsewhere
        self._facts[draft.task_id] = draft.facts
        if draft.delay is not None:
            self.engine.runtime.recovery.look_in(draft.delay)
        for each in ready:
            self.queues.put(
                each,
                draft.task.executor,
                since=draft.created_at,
                eager=draft.place.eager,
                context=draft.context,
            )

    # -- idempotency

    def resolve_key(self, key: str) -> tuple[str, int, bool]:
        """The id that a task with this key has, its generation, and whether there is one already.

        A key counts while its task has not failed, and was not cancelled, rejected or interrupted.
        One that another request is about to add does not count: that request may fail.
        """
        generation = 0
        latest = self.bridge.ask(lambda store: latest_of_key(store, key))
        if latest is not None:
            generation = read_facts(latest.meta).generation
            if not status_of(latest).can_be_retried:
                return latest.run_id, generation, True
            generation += 1
        task_id = keyed_task_id(self.store.options.namespace, key, generation)
        request = tasks_of_request(self)
        return task_id, generation, request is not None and request.holds(self.drafts.get(task_id))

    # -- life

    async def opened_store(self) -> RunStore:
        """The store for the running event loop; starts what is to run there."""
        loop, engine, home = asyncio.get_running_loop(), self.engine, self.loop or self._ending
        if self.loop is not loop and not (engine and engine.is_open_here):
            if home is not None and home.is_running():
                return await self.bridge.opened()  # beside it, or at its end: nothing begins here
            await self.open()
            self.begin()
        if self.engine is not None:
            return self.engine.runtime.store
        assert self.broker is not None
        client = RunClient.of(self.broker)
        await client.open()
        return client.store

    async def open(self) -> None:
        """Connect to the store in this event loop.

        Raises:
            StoreUnavailableError: It does not answer.
        """
        loop = asyncio.get_running_loop()
        if self._lock is None or self._lock[0] is not loop:
            self._lock = (loop, asyncio.Lock())
        async with self._lock[1]:
            if self.loop is loop:
                return
            if self.broker is None:
                await self._open_engine()
            else:
                await self._open_client(self.broker)
            if self.chain is not None:
                await self.chain.startup()  # not before: whoever finds the store away tries again
            self.loop = loop

    async def _open_client(self, broker: AsyncBroker) -> None:
        client = RunClient.of(broker)
        await client.open()
        self._runner = self._make_runner()
        self.endings.open(client.store, self._runner)
        await client.store.listen(self.endings.hear)
        self.bridge.use(client.store)

    async def _open_engine(self) -> None:
        if self.engine is not None:
            self.engine.leave()  # its event loop is gone: a test client made another one
        store = self.store.twin()
        self.queues = self._kept_queues()
        runner = self._runner = self._make_runner()
        engine = LocalEngine(store, self.options.config, self.registry, self.queues, runner.body_of)
        self.endings.open(store, runner)
        await engine.open()
        await store.listen(self.endings.hear)
        self.bridge.use(store)
        self.engine = engine

    def _kept_queues(self) -> LocalQueues:
        """Queues for a new event loop, with the bounds that were set in the one before."""
        fresh = self._make_queues()
        for name, lane in self.queues.lanes.items():
            fresh.lanes[name].config = lane.config
        return fresh

    def begin(self) -> None:
        """Begin tasks from now on; those that were stored before as well."""
        if self.engine is not None and self.queues.begin is None:
            self.engine.begin()
        early, self._early = self._early, []
        for draft, ready in early:
            self._begin(draft, ready)

    def _make_runner(self) -> TaskRunner:
        return TaskRunner(
            Pools(self.options.max_sync_threads, self.options.max_process_workers),
            self.cipher,
            self._facts_of,
            None if self.chain is None else self.chain.tell,
            self.queues.entered,
            self.queues.left,
            self._unnamed.get,
        )

    def _body_of(self, task: RegisteredTask | None) -> Body:
        assert self._runner is not None
        return self._runner.body_of(task)

    async def _facts_of(self, run_id: str) -> TaskFacts:
        known = self._facts.get(run_id)
        if known is not None:
            return known
        run = await (await self.opened_store()).get(run_id, steps=False)
        return TaskFacts("", "", "") if run is None else read_facts(run.meta)

    def _forget(self, run_id: str) -> None:
        self._facts.pop(run_id, None)
        self._unnamed.pop(run_id, None)

    async def close(self) -> None:
        """Let what runs end, for a while; interrupt the rest, or give it back to be run again."""
        if self.loop is not asyncio.get_running_loop():
            return
        engine, runner = self.engine, self._runner
        self.loop, self._ending = None, None if engine is None else self.loop
        if engine is not None and runner is not None:
            patience = self.options.shutdown_timeout, self.options.process_shutdown_timeout
            await runner.drain(self.queues.stop(), *patience)
            await engine.stop()
        if runner is not None:
            await runner.pools.close(INTERRUPT_SECONDS)
        self.engine = self._runner = None
        await self.endings.close()
        self.bridge.use(None)
        if self.chain is not None:
            await self.chain.close()
        await self.bridge.close()
        self._ending = None
