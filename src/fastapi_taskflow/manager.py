"""The task manager: background tasks of FastAPI applications that survive their process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import BackgroundTasks, FastAPI
from taskiq import AsyncBroker

from fastapi_taskflow.arguments import Keys, cipher, encode_call
from fastapi_taskflow.asgi import TaskMiddleware
from fastapi_taskflow.backends.base import StoreBackend
from fastapi_taskflow.checks import check_call, check_key, check_manager
from fastapi_taskflow.core import TaskCore
from fastapi_taskflow.drafts import Draft, TaskFacts, new_task_id
from fastapi_taskflow.exceptions import QueueFullError
from fastapi_taskflow.injection import install_injection
from fastapi_taskflow.loggers import FileLogger, LoggerChain, TaskObserver
from fastapi_taskflow.models import Executor, QueueConfig, TaskConfig, TaskRecord
from fastapi_taskflow.operations import TaskOperations
from fastapi_taskflow.plans import Place
from fastapi_taskflow.queue_settings import KEEP, QueueSettings
from fastapi_taskflow.registry import TaskRegistry
from fastapi_taskflow.requests import tasks_of_request
from fastapi_taskflow.schedules import Schedules, Scheduling
from fastapi_taskflow.settings import CoreOptions, manager_config, store_of
from fastapi_taskflow.store import TaskStore
from fastapi_taskflow.tasks import ManagedBackgroundTasks, managed
from fastapi_taskflow.workers import WorkerEnd

if TYPE_CHECKING:
    from fastapi_taskflow.encryption import Cipher
    from taskiq_flow.stores.base import RunStore

logger = logging.getLogger("fastapi_taskflow")

F = TypeVar("F", bound=Callable[..., Any])


class TaskManager(Scheduling):
    """Runs functions after the response, and keeps a record of each.

    ``TaskManager()`` keeps tasks in memory. With ``snapshot_db`` (a file, or the URL of a store),
    ``snapshot_backend`` or ``TASKIQ_FLOW_STORE_URL`` they are durable: once a response has been
    sent its tasks run, whatever happens to the process. ``broker`` runs them on the workers of a
    Taskiq broker instead of in this process.

    ``max_size`` bounds the default queue. ``encrypt_args_key`` is one key or several, the newest
    first. ``run_synchronously`` is for tests: tasks have ended before the response is sent.
    ``shutdown_timeout`` is how long running tasks may take to end when the application stops,
    ``process_shutdown_timeout`` those in processes.

    Accepted without effect, since every task is stored before its response: ``snapshot_interval``,
    ``requeue_pending``, ``merged_list_ttl``, ``instance_url``, ``instance_tasks_prefix``,
    ``registry_ttl``, ``registry_heartbeat``.

    Raises:
        StoreUrlError: The URL names no kind of store.
        ConfigurationError: An option cannot work.
    """

    def __init__(  # noqa: PLR0913 - the documented parameters
        self,
        *,
        snapshot_db: str | None = None,
        snapshot_backend: StoreBackend | None = None,
        snapshot_interval: float = 60.0,  # noqa: ARG002 - see above
        requeue_pending: bool = False,  # noqa: ARG002
        merged_list_ttl: float = 5.0,  # noqa: ARG002
        loggers: list[TaskObserver] | None = None,
        log_file: str | None = None,
        log_file_max_bytes: int = 10485760,
        log_file_backup_count: int = 5,
        log_file_mode: str = "rotate",
        log_lifecycle: bool = False,
        encrypt_args_key: Keys | None = None,
        max_concurrent_tasks: int | None = None,
        max_sync_threads: int | None = None,
        max_process_workers: int | None = None,
        process_shutdown_timeout: float = 30.0,
        retention_days: float | None = None,
        retry_replaces_original: bool = True,
        queues: dict[str, QueueConfig] | None = None,
        max_size: int | None = None,
        instance_url: str | None = None,  # noqa: ARG002
        instance_tasks_prefix: str = "",  # noqa: ARG002
        registry_ttl: int = 90,  # noqa: ARG002
        registry_heartbeat: int = 30,  # noqa: ARG002
        broker: AsyncBroker | None = None,
        run_synchronously: bool = False,
        shutdown_timeout: float = 5.0,
    ) -> None:
        self.run_synchronously = run_synchronously
        self.retry_replaces_original = retry_replaces_original
        self.is_installed = False
        self.cipher: Cipher | None = cipher(encrypt_args_key)
        observers = list(loggers or [])
        if log_file is not None:
            observers.append(
                FileLogger(
                    log_file,
                    max_bytes=log_file_max_bytes,
                    backup_count=log_file_backup_count,
                    mode=log_file_mode,
                    log_lifecycle=log_lifecycle,
                )
            )
        self.logger: LoggerChain | None = LoggerChain(observers) if observers else None
        check_manager(
            max_concurrent_tasks=max_concurrent_tasks,
            max_sync_threads=max_sync_threads,
            max_process_workers=max_process_workers,
            process_shutdown_timeout=process_shutdown_timeout,
            shutdown_timeout=shutdown_timeout,
        )
        config = manager_config(retention_days)
        bounds = dict(queues or {})
        if max_size is not None:
            default = bounds.get("default", QueueConfig())
            bounds["default"] = QueueConfig(default.concurrency, max_size)
        options = CoreOptions(
            config,
            bounds,
            max_concurrent_tasks,
            max_sync_threads,
            max_process_workers,
            process_shutdown_timeout,
            shutdown_timeout,
        )
        run_store = store_of(snapshot_db, snapshot_backend, config, broker)
        self.core = TaskCore(options, run_store, self.cipher, self.logger, broker)
        if broker is not None:
            broker.add_middlewares(WorkerEnd(self.core.close))
        self.store = TaskStore(self.core.bridge, self.cipher, self.core.drafts.get)
        self.schedules = Schedules(self.core)
        self._settings = QueueSettings(self.core)
        self.operations = TaskOperations(self.core, self.store)
        self._apps: dict[FastAPI, asyncio.AbstractEventLoop | None] = {}

    @property
    def registry(self) -> TaskRegistry:
        """The functions that this manager knows."""
        return self.core.registry

    @property
    def fernet(self) -> Any:
        """What encrypts arguments, if anything does."""
        return None if self.cipher is None else self.cipher.fernet

    @property
    def run_store(self) -> RunStore:
        """Where the tasks live; see `TaskStore` for reading them."""
        return self.core.store

    # -- tasks

    def task(  # noqa: PLR0913 - the documented options
        self,
        *,
        executor: Executor | None = None,
        retries: int = 0,
        delay: float = 0.0,
        backoff: float = 1.0,
        persist: bool = False,
        name: str | None = None,
        requeue_on_interrupt: bool = False,
        eager: bool = False,
        priority: int | None = None,
        queue: str | None = None,
        timeout: float | None = None,
        max_delay: float | None = None,
        jitter: bool = False,
        retry_on: type[BaseException] | Sequence[type[BaseException]] = (Exception,),
        no_retry_on: type[BaseException] | Sequence[type[BaseException]] = (),
    ) -> Callable[[F], F]:
        """Register a function as a task, with options; returns the function unchanged.

        ``retries`` are further attempts after ``delay * backoff ** n`` seconds, at most
        ``max_delay``; ``jitter`` lengthens each by up to a quarter. ``timeout`` bounds one attempt.
        ``name`` is for display: a task is found again by its module and qualified name.
        ``requeue_on_interrupt`` allows it to be run again after its process died in the middle.
        ``eager`` begins it at `add_task`, past its queue. ``persist`` is accepted: every task is.

        Raises:
            TaskOptionError: An option cannot work, or the executor does not fit the function.
        """
        config = TaskConfig(
            retries=retries,
            delay=delay,
            backoff=backoff,
            persist=persist,
            name=name,
            requeue_on_interrupt=requeue_on_interrupt,
            eager=eager,
            priority=priority,
            queue=queue,
            executor=executor,
            timeout=timeout,
            max_delay=max_delay,
            jitter=jitter,
            retry_on=_kinds(retry_on),
            giveup_on=_kinds(no_retry_on),
        )

        def decorate(func: F) -> F:
            self.core.register(func, config)
            return func

        return decorate

    def add_task(
        self,
        func: Callable[..., Any],
        /,
        *args: Any,
        idempotency_key: str | None = None,
        tags: dict[str, str] | None = None,
        eager: bool | None = None,
        priority: int | None = None,
        queue: str | None = None,
        **kwargs: Any,
    ) -> str:
        """Add a task from anywhere, as `ManagedBackgroundTasks.add_task` does; returns its id."""
        task = self.core.task_of(func)
        check_call(task.name, tags=tags, priority=priority, queue=queue, eager=eager)
        place = Place.of(task.config, queue, priority, eager)
        facts = TaskFacts.of(task, place, tags, key=idempotency_key)
        payload = encode_call(task, args, kwargs, self.cipher)
        task_id = new_task_id()
        if idempotency_key is not None:
            check_key("Idempotency key", idempotency_key)
            task_id, generation, exists = self.core.resolve_key(idempotency_key)
            if exists:
                return task_id
            facts = facts.of_generation(generation)
        draft = Draft(task, task_id, payload, facts, place, args, kwargs, copy_context())
        self._submit(draft)
        return task_id

    def _submit(self, draft: Draft) -> None:
        self._check_room(draft)
        self.core.keep(draft)
        request = tasks_of_request(self.core)
        if draft.place.eager:
            self.core.commit_eagerly(draft, request)
            if request is not None:
                request.note([draft])
        elif request is None or not request.add(draft):
            self.core.commit_now(draft)

    def _check_room(self, draft: Draft) -> None:
        lane = self.core.queues.lane_of(draft.place.queue)
        most = lane.config.max_size
        if most is None or draft.place.eager or draft.task_id in self.core.drafts:
            return  # the last has its place already: it was added with the same key
        if lane.waiting + self.core.count_drafts(lane.name) >= most:
            self.core.reject(draft, lane)
            raise QueueFullError(lane.name, most, draft.task_id)

    async def store_now(self) -> None:
        """Store what this request has added so far, without waiting for its response.

        Raises:
            TaskNotStoredError: The store does not take it.
        """
        request = tasks_of_request(self.core)
        if request is not None:
            await request.store()

    async def wait(self, task_ids: Iterable[str], timeout: float | None = None) -> bool:  # noqa: ASYNC109 - as in `asyncio.wait`
        """Wait until tasks have ended; False when the time is up before."""
        await self.core.opened_store()
        return await self.core.endings.wait(task_ids, timeout)

    async def cancel(self, task_id: str, reason: str = "cancelled by request") -> TaskRecord:
        """Cancel a task, wherever it is: one that has not begun never will.

        Async code gets ``CancelledError``, on another instance within 2 s. Threads and processes
        run on, and what they return is dropped.

        Raises:
            TaskGoneError: There is no such task.
            TaskStateError: It has ended.
        """
        return await self.operations.cancel(task_id, reason)

    async def retry(self, task_id: str) -> TaskRecord:
        """Run a task again that has failed, or was cancelled, interrupted or rejected.

        It is a new task with the same function, arguments, tags, queue and priority, and the same
        idempotency key. The original goes, unless ``retry_replaces_original=False``.

        Raises:
            TaskGoneError: There is no such task, or its function is not here.
            TaskStateError: It has not ended, or it has succeeded.
        """
        return await self.operations.retry(task_id, replace=self.retry_replaces_original)

    # -- queues

    def queue_stats(self) -> list[dict[str, Any]]:
        """The bounds of each queue, and its tasks in this process."""
        return self.core.queues.stats()

    def update_queue_config(
        self,
        name: str,
        concurrency: int | object | None = KEEP,
        max_size: int | object | None = KEEP,
    ) -> dict[str, Any]:
        """Change the bounds of a queue, here at once and on other instances within seconds.

        What is not given stays; None is no bound. Running tasks go on. The bounds are stored, and
        go before those of ``queues=`` when the application starts again.

        Raises:
            QueueConfigError: There is no such queue, or a bound is not a whole number from 1 on.
        """
        return self._settings.update(name, concurrency, max_size)

    # -- life

    def init_app(self, app: FastAPI) -> None:
        """Start and stop with an application, and store what its requests add.

        An application with a ``lifespan`` of its own keeps it: tasks begin after its start, and
        end before its end. Called again, it does nothing.
        """
        if app in self._apps:
            return
        self._apps[app] = None
        app.add_middleware(TaskMiddleware, manager=self)
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(owner: Any) -> AsyncGenerator[Mapping[str, Any] | None]:
            async with _entered(inner, owner) as state:
                self._apps[app] = loop = asyncio.get_running_loop()
                try:
                    await self.startup()
                    yield state
                finally:
                    self._apps[app] = None
                    if loop not in self._apps.values():  # else another one goes on with its tasks
                        await self.shutdown()

        app.router.lifespan_context = lifespan  # pyright: ignore[reportAttributeAccessIssue]

    def install(self, app: FastAPI) -> None:
        """Let parameters ``bt: BackgroundTasks`` of this application receive managed tasks."""
        self.is_installed = True
        install_injection()
        self.init_app(app)

    async def startup(self) -> None:
        """Connect to the store and begin tasks, in this event loop; may be called again."""
        await self.core.open()
        await self._settings.open()
        self.core.begin()
        await self.schedules.open()

    async def shutdown(self) -> None:
        """Let running tasks end; give back, or interrupt, those that take too long."""
        await self.schedules.close()
        await self._settings.close()
        await self.core.close()

    async def __aenter__(self) -> TaskManager:
        await self.startup()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shutdown()

    # -- dependencies

    def get_tasks(self, background_tasks: BackgroundTasks) -> ManagedBackgroundTasks:
        """A dependency: ``tasks = Depends(manager.get_tasks)``, one object for each request."""
        return managed(self, background_tasks)

    @property
    def background_tasks(self) -> Callable[[BackgroundTasks], ManagedBackgroundTasks]:
        """The same dependency: ``tasks = Depends(manager.background_tasks)``."""
        return self.get_tasks


def _entered(lifespan: Any, app: Any) -> AbstractAsyncContextManager[Any]:
    return lifespan(app)


def _kinds(
    given: type[BaseException] | Sequence[type[BaseException]],
) -> tuple[type[BaseException], ...]:
    return tuple(given) if isinstance(given, Iterable) else (given,)
