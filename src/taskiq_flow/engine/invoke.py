"""Runs a user's function through the running Receiver, with the hooks of other middlewares."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import FrameType, MappingProxyType
from typing import Any, NamedTuple, cast

from taskiq import AsyncBroker, InMemoryBroker, TaskiqMessage, TaskiqMiddleware, TaskiqResult
from taskiq.exceptions import NoResultError
from taskiq.receiver import Receiver
from taskiq.utils import maybe_awaitable
from taskiq_dependencies import DependencyGraph

from taskiq_flow.engine.hooks import Hooks
from taskiq_flow.engine.routing import ROUTING_LABELS
from taskiq_flow.engine.sender import STEP_TASK, pending_in_place
from taskiq_flow.engine.thrown import call_for_coroutine
from taskiq_flow.engine.unchecked import unchecked
from taskiq_flow.model.records import Address
from taskiq_flow.model.state import new_dict

logger = logging.getLogger("taskiq_flow.engine")
receiver_logger = logging.getLogger("taskiq.receiver.receiver")
"""Where Taskiq says what its tasks raise; steps that are called directly say it there too."""

outer_labels: ContextVar[Mapping[str, Any]] = ContextVar(
    "outer_labels", default=MappingProxyType({})
)
"""What middlewares wrote on the message that is worked off: a trace's parent, a tenant."""

_ENGINE_LABELS = frozenset({"ack_type", "flow_task"})

_work: ContextVar[Work | None] = ContextVar("_work", default=None)


@dataclass(slots=True)
class Work:
    """What a step left behind in the executor: its thread goes on after a timeout or a cancel."""

    future: Future[Any] | None = None
    message: TaskiqMessage | None = None  # as other middlewares have left it

    async def settled(self) -> None:
        """Wait until no thread or process works on the step any more."""
        if self.future is not None and not self.future.done():
            ending = asyncio.wrap_future(self.future)
            while not ending.done():
                # A step that is told to stop more than once still has its thread.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([ending])
            if not ending.cancelled():
                ending.exception()  # seen: nobody else asks for it any more


class Returned(NamedTuple):
    """What a call gave, where no middleware asks for a `TaskiqResult`."""

    return_value: Any
    error: BaseException | None = None

    @property
    def is_err(self) -> bool:
        return self.error is not None


class WatchedExecutor(Executor):
    """The Receiver's executor, remembering which future belongs to which step."""

    def __init__(self, inner: Executor) -> None:
        self.inner = inner

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = self.inner.submit(call_for_coroutine, fn, *args, **kwargs)
        work = _work.get()
        if work is not None:
            work.future = future
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.inner.shutdown(wait=wait, cancel_futures=cancel_futures)


class StepMessage(TaskiqMessage):
    """The message of one step as other middlewares and ``Context`` see it.

    It is never sent itself: what ``Context.requeue()`` would send is a message of the engine for
    the same slot, so the step stays in its run.
    """

    flow_address: tuple[str, int, int] = ("", 0, 0)
    flow_attempt: int = 1

    def model_dump(self, **_kwargs: Any) -> dict[str, Any]:
        routing = {name: self.labels[name] for name in ROUTING_LABELS & self.labels.keys()}
        labels = {**routing, "ack_type": "manual", "flow_task": self.task_name}
        return {
            "task_id": self.task_id,
            "task_name": STEP_TASK,
            "labels": labels,
            "labels_types": None,
            "args": [[list(self.flow_address)]],
            "kwargs": {},
        }


@dataclass(slots=True)
class Invoker:
    """Calls functions as the worker's own Receiver calls tasks: same executor, same options."""

    broker: AsyncBroker
    hooks: Hooks
    receiver: Receiver | None = None
    _lone: dict[Callable[..., Any], bool] = field(default_factory=new_dict)

    def adopt_receiver(self) -> Receiver:
        """Find the Receiver that runs us: the in-memory broker's, or the caller up the stack.

        Taskiq gives a middleware no other way to it. Without it a step would ignore
        ``--use-process-pool`` and ``--no-parse``, so that is said by name.
        """
        if self.receiver is None:
            if isinstance(self.broker, InMemoryBroker):
                self.receiver = self.broker.receiver
            else:
                self.receiver = _receiver_on_stack()
            if self.receiver is None:
                logger.warning(
                    "The Receiver of this worker was not found (Taskiq 0.13 has it on the stack); "
                    "steps run with a Receiver of their own: --use-process-pool, --no-parse and "
                    "--max-threadpool-threads have no effect on them."
                )
                self.receiver = Receiver(self.broker, max_async_tasks=1, run_startup=False)
            if not isinstance(self.receiver.executor, WatchedExecutor) and self.receiver.executor:
                self.receiver.executor = WatchedExecutor(self.receiver.executor)
        return self.receiver

    def is_plain(self, function: Callable[..., Any]) -> bool:
        """Whether nothing stands around a call: no hook, no dependency, no thread.

        Then the Receiver would do nothing but await the function, at the price of a third of all
        that a short step costs a worker.
        """
        lone = self._lone.get(function)
        if lone is None:
            lone = self._lone[function] = _is_lone(function)
        return lone and not self.hooks.around

    async def call_plain(
        self,
        function: Callable[..., Any],
        args: list[Any],
        kwargs: dict[str, Any],
        make_message: Callable[[], StepMessage],
    ) -> Returned:
        """Await a function that `is_plain`; what it raises is logged and told as Taskiq does."""
        if pending_in_place.get() is not None:
            pending_in_place.set(None)
        try:
            returned: object = await function(*args, **kwargs)
            if hasattr(type(returned), "__await__"):
                returned = await cast("Awaitable[object]", returned)
        except BaseException as error:  # also what would end a worker, as in Taskiq
            message = make_message()
            if isinstance(error, NoResultError):
                receiver_logger.warning(
                    "Task %s with id %s skipped setting result.", message.task_name, message.task_id
                )
            elif isinstance(error, asyncio.CancelledError):
                # Somebody wanted it: no error of the task's, which a traceback would look like.
                receiver_logger.info("Step %s was stopped.", message.task_id)
            else:
                receiver_logger.exception(
                    "Exception found while executing function of step %r, run %s, try %d.",
                    message.labels["step"],
                    message.flow_address[0],
                    message.flow_attempt,
                )
            if self.hooks.of("on_error"):
                result = _failed_result(error, message)
                await self._tell(reversed(self.hooks.of("on_error")), message, result, error)
            return Returned(None, error)
        return Returned(returned)

    async def call(
        self, function: Callable[..., Any], message: StepMessage, work: Work
    ) -> TaskiqResult[Any]:
        """Run a function once, with hooks; exceptions come back in the result.

        Runs in the caller's task: whoever calls makes it a child task, so that cancelling the
        step cancels nothing else, and its context variables end with it.
        """
        if pending_in_place.get() is not None:
            pending_in_place.set(None)
        _work.set(work)
        receiver = self.adopt_receiver()
        current: TaskiqMessage = message
        for middleware in self.hooks.of("pre_execute"):
            try:
                current = await maybe_awaitable(middleware.pre_execute(current))
            except Exception:  # a broken middleware must not stop the run
                logger.exception("pre_execute of %s failed", type(middleware).__name__)
        work.message = current
        try:
            result = await receiver.run_task(target=function, message=current)
        except Exception as error:
            logger.exception("Step %s failed outside of its function", message.task_id)
            result = await self._rescue(error, current)
        for middleware in reversed(self.hooks.of("post_execute")):
            try:
                await maybe_awaitable(middleware.post_execute(current, result))
            except Exception:
                logger.exception("post_execute of %s failed", type(middleware).__name__)
        return result

    async def _rescue(self, error: Exception, message: TaskiqMessage) -> TaskiqResult[Any]:
        """What a step gave although ``run_task`` raised: a hook or a dependency did so after it.

        A dependency that fails while it is closed fails the step: its transaction may be undone.
        A hook ``on_error`` that raises changes nothing, and the others are called all the same.
        """
        known = _locals_of("run_task", error)
        result: TaskiqResult[Any] | None = known.get("result")
        left = [*reversed(self.hooks.of("on_error"))]
        if result is not None and known.get("middleware") in left:
            left = left[left.index(known["middleware"]) + 1 :]
        cause = known.get("found_exception") or error
        result = result or _failed_result(cause, message)
        await self._tell(left, message, result, cause)
        return result

    async def _tell(
        self,
        middlewares: Iterable[TaskiqMiddleware],
        message: TaskiqMessage,
        result: TaskiqResult[Any],
        error: BaseException,
    ) -> None:
        for middleware in middlewares:
            try:
                await maybe_awaitable(middleware.on_error(message, result, error))
            except Exception:
                logger.exception("on_error of %s failed", type(middleware).__name__)

    async def after_record(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        """Call ``post_save`` of other middlewares: the outcome is stored now."""
        for middleware in reversed(self.hooks.of("post_save")):
            try:
                await maybe_awaitable(middleware.post_save(message, result))
            except Exception:
                logger.exception("post_save of %s failed", type(middleware).__name__)

    @property
    def wants_post_save(self) -> bool:
        return bool(self.hooks.of("post_save"))


def step_message(
    address: Address,
    task_id: str,
    task_name: str,
    labels: dict[str, Any],
    args: list[Any],
    kwargs: dict[str, Any],
    attempt: int = 1,
) -> StepMessage:
    """Make the message of one step. Not validated: its parts come from the plan and the store."""
    # A retry middleware of the broker would take a failing step out of its run.
    labels["retry_on_error"] = False
    facts = {
        "task_id": task_id,
        "task_name": task_name,
        "labels": labels,
        "labels_types": None,
        "args": args,
        "kwargs": kwargs,
        "flow_address": tuple(address),
        "flow_attempt": attempt,
    }
    return unchecked(StepMessage, facts)


def labels_for_steps(labels: Mapping[str, Any]) -> Mapping[str, Any]:
    """The labels of a message without those that are the engine's own."""
    return {name: labels[name] for name in labels.keys() - _ENGINE_LABELS}


def _is_lone(function: Callable[..., Any]) -> bool:
    if not inspect.iscoroutinefunction(function):
        return False
    try:
        return DependencyGraph(function).is_empty()
    except Exception:  # noqa: BLE001 - annotations may name anything; Taskiq says what is wrong
        return False


def _failed_result(error: BaseException, message: TaskiqMessage) -> TaskiqResult[Any]:
    return TaskiqResult[Any](
        is_err=True, return_value=None, execution_time=0.0, error=error, labels=message.labels
    )


def _locals_of(function: str, error: Exception) -> Mapping[str, Any]:
    """The variables of a function when an error left it."""
    for frame, _line in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == function:
            return frame.f_locals
    return {}


def _frames() -> Iterator[FrameType]:
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def _receiver_on_stack() -> Receiver | None:
    for frame in _frames():
        if frame.f_code.co_name == "run_task":
            candidate = frame.f_locals.get("self")
            if isinstance(candidate, Receiver):
                return candidate
    return None
