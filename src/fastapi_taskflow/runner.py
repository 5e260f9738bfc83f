"""Runs the function of a task, as the body of a step of the engine."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fastapi_taskflow.arguments import Call, decode_call, opened
from fastapi_taskflow.context import begin_running, running_task
from fastapi_taskflow.drafts import TaskFacts
from fastapi_taskflow.exceptions import (
    TaskExitedError,
    TaskGoneError,
    TaskInterruptedError,
    TaskTimeoutError,
)
from fastapi_taskflow.loggers.base import LifecycleEvent, LogEvent, LogLevel, TaskEvent
from fastapi_taskflow.loggers.lines import retry_event
from fastapi_taskflow.models import TaskExecutionContext, TaskStatus
from fastapi_taskflow.pools import Pools
from fastapi_taskflow.process import Work, encode_result, line_event
from fastapi_taskflow.registry import RegisteredTask
from fastapi_taskflow.requests import current
from taskiq_flow.codec import decode, decode_error, encode
from taskiq_flow.context import PipelineContext
from taskiq_flow.exceptions import StepFailedError

if TYPE_CHECKING:
    from fastapi_taskflow.encryption import Cipher

logger = logging.getLogger("fastapi_taskflow")

Body = Callable[..., Coroutine[Any, Any, Any]]

INTERRUPT_SECONDS = 2.0
"""How long interrupted tasks have to be recorded as such when the application stops."""

_PLAIN = (type(None), bool, int, float)

_SHORT = 100_000
"""Texts up to this can be stored whatever is in them."""


def task_progress(current: float, total: float | None = None, message: str | None = None) -> None:
    """Say how far the task is that runs here; its record shows the newest value.

    Outside of a task, and in a process of its own, nothing happens.
    """
    task = running_task()
    if isinstance(task, Going):
        task.step.progress(current, total, message)


@dataclass(slots=True, eq=False)
class Going:
    """A task whose function runs now, as its code sees it; ``observe`` takes what it says."""

    task: RegisteredTask
    facts: TaskFacts
    step: PipelineContext
    observe: Callable[[TaskEvent], None] | None
    work: asyncio.Task[Any] | None
    is_interrupted: bool = False
    is_given_up: bool = False  # it was cancelled, or is run elsewhere: nothing is recorded of it
    _context: TaskExecutionContext | None = None

    @property
    def context(self) -> TaskExecutionContext:
        """What the code may know of it; made when somebody asks."""
        if self._context is None:
            self._context = _context(self.task, self.facts, self.step)
        return self._context

    def tell(self, event: LogEvent) -> None:
        """Take a line, in any thread: for the record, and for the observers."""
        self.step.keep_line(LogLevel.of(event.level).rank, event.message)
        if self.observe is not None:
            self.observe(event)

    def interrupt(self) -> None:
        """Stop waiting for the function: the application ends."""
        if self.work is not None and not self.is_interrupted:
            self.is_interrupted = True
            self.work.cancel()


@dataclass(slots=True)
class Ended:
    """How the last attempt of a task ended here, for observers, until that is recorded."""

    going: Going
    error: BaseException | None


@dataclass(slots=True)
class TaskRunner:
    """Runs tasks in one event loop. ``tell`` takes events, ``facts_of`` finds what is stored."""

    pools: Pools
    cipher: Cipher | None
    facts_of: Callable[[str], Awaitable[TaskFacts]]
    tell: Callable[[TaskEvent], None] | None
    entered: Callable[[str], None]
    left: Callable[[str], None]
    unnamed: Callable[[str], RegisteredTask | None]
    going: dict[str, Going] = field(default_factory=dict[str, Going])
    ended: dict[str, Ended] = field(default_factory=dict[str, Ended])

    def body_of(self, task: RegisteredTask | None) -> Body:
        """The function that the engine calls; None stands for all that have no name."""

        async def body(payload: Any, context: PipelineContext) -> Any:
            found = self.unnamed(context.run_id) if task is None else task
            if found is None:
                why = "its function has no name by which this process could find it"
                raise TaskGoneError(context.run_id, why)
            return await self._run(found, payload, context)

        return body

    async def drain(
        self,
        going: Sequence[asyncio.Task[None]],
        patience_seconds: float,
        process_patience_seconds: float,
    ) -> None:
        """Let what runs end, for a while; then interrupt what may not be run twice."""
        if going:
            await asyncio.wait(going, timeout=patience_seconds)
        left = process_patience_seconds - patience_seconds
        if left > 0 and any(each.task.executor == "process" for each in self.going.values()):
            await asyncio.wait(going, timeout=left)
        for each in list(self.going.values()):
            if not each.task.config.requeue_on_interrupt:
                logger.warning("Task %s (%s) is interrupted.", each.context.task_id, each.task.name)
                each.interrupt()
        unfinished = [task for task in going if not task.done()]
        if unfinished and any(each.is_interrupted for each in self.going.values()):
            await asyncio.wait(unfinished, timeout=INTERRUPT_SECONDS)

    async def _run(self, task: RegisteredTask, payload: Any, step: PipelineContext) -> Any:
        run_id = step.run_id
        facts = await self.facts_of(run_id)
        going = Going(task, facts, step, self.tell, asyncio.current_task())
        if self.tell is not None:
            begun = _lifecycle(going, TaskStatus.RUNNING) if step.attempt == 1 else None
            self.tell(begun or retry_event(going.context))
        self.going[run_id] = going
        if task.executor != "thread":  # a thread says so itself
            self.entered(run_id)
        error: BaseException | None = None
        # For good: a step has its context variables for itself.
        begin_running(going)
        current.set(None)  # what it adds is not the request's, which may still fail
        try:
            return _storable(task, await self._call(going, payload))
        except SystemExit as exit_:
            error = TaskExitedError(task.name, exit_.code)
            raise error from exit_
        except asyncio.CancelledError:
            if not going.is_interrupted:
                going.is_given_up = True
                raise
            error = TaskInterruptedError(task.name)
            raise error from None
        except BaseException as raised:
            error = raised
            raise
        finally:
            self.left(run_id)
            self.going.pop(run_id, None)
            going.work = None  # whose context leads back here: only the collector would free them
            if self.tell is not None and not going.is_given_up:
                self.ended[run_id] = Ended(going, error)

    async def _call(self, going: Going, payload: Any) -> Any:
        seconds = going.task.config.timeout
        if seconds is None:
            return await self._invoke(going, payload)
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await self._invoke(going, payload)
        except TimeoutError as error:
            if limit.expired():
                raise TaskTimeoutError(going.task.name, seconds) from error
            raise

    async def _invoke(self, going: Going, payload: Any) -> Any:
        task = going.task
        if task.executor == "process":
            return await self._in_process(going, payload)
        call = decode_call(task, payload, self.cipher)
        if task.executor == "async":
            return await task.func(*call.args, **call.kwargs)
        begins = functools.partial(self._begins, going, asyncio.get_running_loop())
        return await self.pools.in_thread(functools.partial(_call_sync, task, call), begins)

    def _begins(self, going: Going, loop: asyncio.AbstractEventLoop) -> None:
        """A thread begins with a task."""
        with suppress(RuntimeError):  # the event loop has ended, and nobody waits for that
            loop.call_soon_threadsafe(self.entered, going.step.run_id)

    async def _in_process(self, going: Going, payload: Any) -> Any:
        task, context = going.task, going.context
        decode_call(task, payload, self.cipher)  # says what is wrong with the key, if it is
        data = encode(opened(payload, self.cipher), where="arguments", limit=None)
        work = Work(
            task.identity, task.name, data, context.task_id, context.attempt, dict(context.tags)
        )
        worked = await self.pools.in_process(work)
        for line in worked.lines:
            going.tell(line_event(line, context))
        if worked.error is not None:
            stored = decode_error(worked.error)
            raise stored.rebuild() or StepFailedError(stored.type_name, stored.message)
        return decode(worked.result or b"null")


def _call_sync(task: RegisteredTask, call: Call) -> Any:
    try:
        return task.func(*call.args, **call.kwargs)
    except (StopIteration, GeneratorExit) as error:  # no future can hand them to a coroutine
        raise RuntimeError(f"task {task.name!r} raised {type(error).__name__}") from error


def _context(task: RegisteredTask, facts: TaskFacts, step: PipelineContext) -> TaskExecutionContext:
    return TaskExecutionContext(
        task_id=step.run_id,
        func_name=task.name,
        attempt=step.attempt - 1,
        tags=dict(facts.tags),
        retries=task.config.retries,
        queue=facts.queue,
        priority=facts.priority,
        executor=task.executor,
        idempotency_key=facts.key,
        source=facts.source,
    )


def _lifecycle(going: Going, status: TaskStatus) -> LifecycleEvent:
    context = going.context
    return LifecycleEvent(
        task_id=context.task_id,
        func_name=context.func_name,
        status=status,
        timestamp=datetime.now(UTC),
        attempt=context.attempt,
        retries_used=context.attempt,
        tags=dict(context.tags),
    )


def _storable(task: RegisteredTask, result: Any) -> Any:
    """What a task returned, if it can be stored: a background task may return anything."""
    if type(result) in _PLAIN or (type(result) is str and len(result) <= _SHORT):
        return result
    if encode_result(result) == b"null":
        logger.info("Task %s returned a %s, which is not kept", task.name, type(result).__name__)
        return None
    return result
