"""One granted step or item as it is run: its arguments, its call, and what becomes of that."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from taskiq import TaskiqMessage, TaskiqResult

from taskiq_flow.codec import decode, encode, encode_error
from taskiq_flow.compile import Ways
from taskiq_flow.compile.builtin import StepOption
from taskiq_flow.context import PipelineContext
from taskiq_flow.dataflow import split_outputs
from taskiq_flow.engine.children import Delegated
from taskiq_flow.engine.invoke import (
    Returned,
    StepMessage,
    Work,
    outer_labels,
    step_message,
)
from taskiq_flow.engine.joining import copy_sequence
from taskiq_flow.engine.lease import Lease, now_monotonic
from taskiq_flow.engine.outcome import Again, Try, decide_step, named_timeout
from taskiq_flow.engine.program import Body, Loaded, Program, evaluate
from taskiq_flow.engine.result_cache import Question, through_cache
from taskiq_flow.engine.result_key import result_key
from taskiq_flow.engine.step_context import Progress, Surroundings
from taskiq_flow.exceptions import (
    AbortPipeline,
    ChildInputError,
    ConfigurationError,
    FanOutError,
    NoCaseError,
)
from taskiq_flow.model.records import (
    NONE_VALUE,
    Done,
    DoneSequence,
    Failed,
    Grant,
    ItemGrant,
    ItemMark,
    Outcome,
    Parked,
)
from taskiq_flow.model.state import new_dict
from taskiq_flow.plan import MapMode, Source
from taskiq_flow.progress import Report, step_report
from taskiq_flow.stores.base import CHUNK

if TYPE_CHECKING:
    from taskiq_flow.engine.work import StepRunner


class Interrupted(Exception):  # noqa: N818 - not an error: the work is handed on
    """The outcome of this try no longer counts; with a delay, the slot is given back for then."""

    def __init__(self, delay_seconds: float | None = None) -> None:
        self.delay_seconds = delay_seconds
        super().__init__(delay_seconds)


@dataclass(slots=True)
class Call:
    """One call of user code that has ended, kept until its outcome is recorded."""

    message: TaskiqMessage
    result: TaskiqResult[Any]
    context: PipelineContext | None


Gave = TaskiqResult[Any] | Returned
"""How a call ended."""

StepHook = Callable[[str, PipelineContext, Any], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class OneStep:
    """A grant with everything that its calls have in common."""

    runner: StepRunner
    grant: Grant
    program: Program
    lease: Lease
    body: Body
    task_labels: Mapping[str, Any]
    values: dict[int, Loaded] = field(default_factory=new_dict)
    last_failed: bool = False
    _sequence_length: int | None = None
    _around: Surroundings | None = None

    async def run(self) -> Outcome:
        """Run a plain step once and decide what that means."""
        try:
            ended = await self.attempt(None)
        except Delegated:
            return Parked()
        if ended.error is None and self._sequence_length is not None:
            return DoneSequence(self._sequence_length)
        if ended.error is None and StepOption.WAYS in self.program.step.options:
            return self._go(ended)
        outcome = decide_step(self.program.step, ended, self.runner.random.random())
        if isinstance(outcome, Again):
            raise Interrupted(outcome.delay_seconds)
        return outcome

    def _go(self, ended: Try) -> Outcome:
        """Take the way that the step chose."""
        step, value = self.program.step, ended.value or NONE_VALUE
        ways = Ways.from_json(step.options[StepOption.WAYS])
        try:
            taken = ways.taken(step.name, decode(value))
        except NoCaseError as error:  # another try would choose the same
            return Failed(encode_error(error), step.on_failure)
        return Done(value, ways.skipped(taken))

    async def attempt(self, item: ItemGrant | None) -> Try:
        """Call the function once, for an item if there is one.

        Raises:
            Delegated: A child run goes on in its place.
        """
        runner, step, grant = self.runner, self.program.step, self.grant
        failures = grant.attempt if item is None else item.attempt
        if grant.note is not None or runner.children.waiting:
            child = self._child_id(item, failures)
            if grant.note == child:
                return await self._end_of(child, item, failures)
            if child in runner.children.waiting:
                runner.children.waiting.discard(child)
                raise Delegated
        element = None if item is None or item.value[:1] != ItemMark.VALUE else item.value[1:]
        args, kwargs = self.body.bind(self.values, element)
        if StepOption.LONE in step.options:
            lone = _lone(step.options[StepOption.LONE], args, kwargs)
            if lone is not None:
                return self._ended(_given_back(lone[0]), failures)
        if StepOption.CACHE not in step.options:
            return await self._call(item, args, kwargs, failures)
        ended = await through_cache(
            runner.cache,
            self._question(args, kwargs),
            lambda: self._call(item, args, kwargs, failures),
            filters=self._filters,
        )
        self.last_failed = ended.error is not None
        return ended

    async def _call(
        self, item: ItemGrant | None, args: list[Any], kwargs: dict[str, Any], failures: int
    ) -> Try:
        runner, step = self.runner, self.program.step
        context: PipelineContext | None = None
        if step.context or runner.hook is not None:
            context = self._context(item, failures)
            for name in step.context:
                kwargs[name] = context
        if runner.hook is not None and context is not None:
            await runner.hook("start", context, None)
        if runner.is_doubtful(self.lease):
            await runner.confirm(self.lease)
        make_message = functools.partial(self._message, item, args, kwargs, failures + 1)
        message: TaskiqMessage | None = None
        if (
            runner.hook is None
            and step.timeout is None
            and runner.invoker.is_plain(self.body.function)
        ):
            result = await runner.invoker.call_plain(self.body.function, args, kwargs, make_message)
        else:
            step_report.set((self._task_id(item), self._report))
            message, result = await self._call_around(make_message())
        if self._around is not None:
            await self._around.settle()
        if self.lease.is_over or isinstance(result.error, Interrupted):
            raise Interrupted
        if result.error is None:
            delegated = await self._delegate(result, item, failures)
            if isinstance(delegated, Try):
                return delegated
            result = delegated
        ended = self._ended(result, failures)
        self.last_failed = ended.error is not None
        if message is not None and isinstance(result, TaskiqResult):
            self._note_call(message, result, context)
        return ended

    async def _call_around(self, message: StepMessage) -> tuple[TaskiqMessage, Gave]:
        """Call the function with all that stands around it: hooks, dependencies, a thread."""
        work = Work()
        target = self._collector() if self.body.is_stream else self.body.function
        try:
            result = await self.runner.invoker.call(target, message, work)
            if result.is_err and (self.program.step.timeout is not None or self.lease.is_over):
                # A thread cannot be stopped: the next try waits until this one's has ended.
                await work.settled()
        except asyncio.CancelledError:
            await work.settled()
            raise
        return work.message or message, result

    def _note_call(
        self, message: TaskiqMessage, result: TaskiqResult[Any], context: PipelineContext | None
    ) -> None:
        """Remember a call for those who hear of it when its outcome is recorded."""
        runner = self.runner
        if runner.hook is not None or runner.invoker.wants_post_save:
            call = Call(message, result, context)
            runner.calls.setdefault(self.lease.token, []).append(call)

    def _child_id(self, item: ItemGrant | None, failures: int) -> str:
        number = None if item is None else item.number
        return self.runner.children.child_id(self.grant, number, failures)

    async def _delegate(self, result: Gave, item: ItemGrant | None, failures: int) -> Gave | Try:
        """Start a child run if the step asks for one; else give the result back.

        A child that has ended already (this step's worker died before it could wait) gives its
        outcome at once.

        Raises:
            Delegated: The child goes on in this step's place.
        """
        children, child = self.runner.children, ""
        try:
            wanted = children.wanted(self.program, result.return_value)
            if wanted is None:
                return result
            child = self._child_id(item, failures)
            begun = await children.begin(self.grant, self.program, child, wanted)
        except (ConfigurationError, ChildInputError, FanOutError) as error:
            return _failed(error)
        if begun and item is not None and item is not self.grant.items[0]:
            children.put_off(child)
        if begun:
            raise Delegated
        return await self._end_of(child, item, failures)

    async def _end_of(self, child: str, item: ItemGrant | None, failures: int) -> Try:
        """Make the outcome of a child run that of the step."""
        runner, step, grant = self.runner, self.program.step, self.grant
        end = await runner.children.end_of(child, step.name)
        if end.sequence is not None and (item is not None or step.options.get(StepOption.OUTPUTS)):
            loaded = {end.sequence.key: await runner.read_sequence(child, end.sequence)}
            end = end._replace(value=evaluate(Source(end.sequence.key), loaded), sequence=None)
        if end.sequence is not None:
            page = functools.partial(runner.page, child)
            put = functools.partial(runner.put, grant, self.lease, grant.address.step)
            self._sequence_length = await copy_sequence(end.sequence, page, put)
            return Try(failures=failures)
        result = _given_back(end.value) if end.error is None else _failed(end.error)
        ended = self._ended(result, failures)
        self.last_failed = ended.error is not None
        if runner.hook is not None or runner.invoker.wants_post_save:
            self._note_call(self._message(item, [], {}), result, self._context(item, failures))
        # Filters of a retry policy mean what failed in the child.
        return ended if end.cause is None else ended._replace(error=end.cause)

    def _ended(self, result: Gave, failures: int) -> Try:
        step = self.program.step
        error: BaseException | None = result.error
        value: bytes | None = None
        filters = self._filters
        if error is None and not filters:
            try:
                returned: Any = result.return_value
                outputs = step.options.get(StepOption.OUTPUTS)
                if outputs:
                    returned = split_outputs(step.name, outputs, returned)
                limit = self.runner.config.max_value_bytes
                value = encode(returned, where=self.body.returns, limit=limit)
            except Exception as refused:  # noqa: BLE001 - a user's codec may raise anything
                error = refused
        if error is not None:
            error = named_timeout(step, error)
            if isinstance(error, AbortPipeline):
                return Try(error=error)
            began = self.grant.step_started_at or self.grant.granted_at
            elapsed = self.grant.granted_at - began + (now_monotonic() - self.lease.asked_at)
            return Try(
                error=error, stored_error=encode_error(error), failures=failures, elapsed=elapsed
            )
        return Try(value, failures=failures, truthy=not filters or bool(result.return_value))

    @property
    def _filters(self) -> bool:
        spec = self.program.step.map
        return spec is not None and spec.mode is MapMode.FILTER

    def _question(self, args: list[Any], kwargs: dict[str, Any]) -> Question:
        """Ask for a result that another call of this task may have given."""
        step, grant = self.program.step, self.grant
        policy = step.options[StepOption.CACHE]
        return Question(
            key=result_key(step.task, self.body.function, policy, args, kwargs),
            task=step.task,
            ttl=policy.get("ttl"),
            now=grant.granted_at + (now_monotonic() - self.lease.asked_at),
            waited=grant.granted_at - (grant.step_started_at or grant.granted_at),
        )

    def _collector(self) -> Callable[..., Coroutine[Any, Any, None]]:
        """A function that stores what an async generator yields, in chunks, as it comes."""

        async def collect(*args: Any, **kwargs: Any) -> None:
            runner, grant, name = self.runner, self.grant, self.program.step.name
            where = f"item of step {name!r}"
            key, start, chunk = grant.address.step, 0, list[bytes]()
            async with aclosing(self.body.function(*args, **kwargs)) as items:
                async for item in items:
                    chunk.append(ItemMark.VALUE + encode(item, where=where))
                    if len(chunk) == CHUNK:
                        await runner.put(grant, self.lease, key, start, chunk)
                        start, chunk = start + len(chunk), []
                    if start + len(chunk) > runner.config.max_fan_out:
                        raise FanOutError(name, start + len(chunk), runner.config.max_fan_out)
            if chunk:
                await runner.put(grant, self.lease, key, start, chunk)
            self._sequence_length = start + len(chunk)

        return collect

    def _task_id(self, item: ItemGrant | None) -> str:
        address = self.grant.address
        base = f"{address.run_id}:{address.step}"
        return base if item is None else f"{base}:{item.number}"

    def _message(
        self, item: ItemGrant | None, args: list[Any], kwargs: dict[str, Any], attempt: int = 1
    ) -> StepMessage:
        step = self.program.step
        labels = {
            **outer_labels.get(),
            **self.task_labels,
            **step.labels,
            "pipeline_id": self.grant.run_name,
            "step": step.name,
        }
        labels.pop("timeout", None)
        if step.timeout is not None:
            labels["timeout"] = step.timeout
        return step_message(
            self.grant.address, self._task_id(item), step.task, labels, args, kwargs, attempt
        )

    def _report(self) -> Report:
        """What takes the progress of this step, made for a tracker that asks for it."""
        return Progress(self.runner.store, self.grant, self.lease.ended.get_loop()).report

    def _context(self, item: ItemGrant | None, failures: int) -> PipelineContext:
        if self._around is None:
            runner = self.runner
            self._around = Surroundings(runner.broker, runner.store, self.lease, self.program)
        number = None if item is None else item.number
        return self._around.context(self._task_id(item), failures, number)


def _lone(place: str | int | None, args: list[Any], kwargs: dict[str, Any]) -> list[Any] | None:
    """The list that a step reduces, if it has only one element, and so is reduced already."""
    if place is None:
        return None
    value = args[place] if isinstance(place, int) else kwargs.get(place)
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return items if len(items) == 1 else None


def _failed(error: BaseException) -> TaskiqResult[Any]:
    return TaskiqResult[Any](is_err=True, return_value=None, execution_time=0.0, error=error)


def _given_back(value: Any) -> TaskiqResult[Any]:
    return TaskiqResult[Any](is_err=False, return_value=value, execution_time=0.0)
