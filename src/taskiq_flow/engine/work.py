"""Runs what a grant asks for: a step, items of a map, or the splitting of a list into items."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from taskiq import AsyncBroker, TaskiqMessage, TaskiqResult

from taskiq_flow.codec import decode, encode, encode_error
from taskiq_flow.compile import Ways
from taskiq_flow.compile.builtin import BUILTINS, MERGE, StepOption
from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.context import PipelineContext
from taskiq_flow.dataflow import split_outputs
from taskiq_flow.engine.asking import ask
from taskiq_flow.engine.children import Children, Delegated
from taskiq_flow.engine.invoke import (
    Invoker,
    StepMessage,
    Work,
    outer_labels,
    step_message,
)
from taskiq_flow.engine.joining import copy_sequence, merge
from taskiq_flow.engine.lease import Lease, now_monotonic
from taskiq_flow.engine.outcome import Again, Try, decide_item, decide_step, named_timeout
from taskiq_flow.engine.program import Body, Loaded, Program, body_of, evaluate, load_program
from taskiq_flow.engine.result_cache import Question, ResultCache, through_cache
from taskiq_flow.engine.result_key import result_key
from taskiq_flow.engine.step_context import Progress, Surroundings
from taskiq_flow.exceptions import (
    AbortPipeline,
    ChildInputError,
    ConfigurationError,
    FanOutError,
    NoCaseError,
    NotIterableError,
    StoreUnavailableError,
    UnknownTaskError,
)
from taskiq_flow.model.records import (
    NONE_VALUE,
    Aborted,
    Done,
    DoneSequence,
    Expanded,
    Failed,
    Grant,
    ItemDone,
    ItemGrant,
    ItemMark,
    ItemRetry,
    Items,
    LostReason,
    OnFailure,
    Outcome,
    Parked,
    SequenceValue,
    bound_items_key,
)
from taskiq_flow.model.state import new_dict
from taskiq_flow.plan import MapMode, Source
from taskiq_flow.progress import Report, step_report
from taskiq_flow.stores.base import CHUNK, Held, RunStore

UNKNOWN_TASK_PAUSE_SECONDS = 1.0
"""After about this long a step is offered again to a worker that may have its task."""

BATCH_SECONDS, BATCH_ITEMS = 0.1, 50
"""A slot of a map takes as many items at once as take about this long, and not more than that.

Items of one batch are recorded together, so this is also what a crash may have to repeat."""

FLUSH_SECONDS = 0.25
"""A batch that takes longer than this is recorded as far as it is."""

ITERABLES = (list, tuple, set, frozenset)


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


StepHook = Callable[[str, PipelineContext, Any], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class StepRunner:
    """Runs grants for a dispatcher. ``hook`` is called for subclasses of the middleware."""

    broker: AsyncBroker
    store: RunStore
    invoker: Invoker
    config: TaskiqFlowConfig
    hook: StepHook | None = None
    random: random.Random = field(default_factory=random.Random)
    _item_seconds: dict[str, float] = field(default_factory=dict[str, float])
    calls: dict[str, list[Call]] = field(default_factory=dict[str, list[Call]])
    children: Children = field(init=False)
    _cache: ResultCache | None = None

    def __post_init__(self) -> None:
        self.children = Children(self.broker, self.store, self.config.max_fan_out)

    @property
    def cache(self) -> ResultCache:
        """Results that outlive their runs; made when a step first asks for one."""
        if self._cache is None:
            self._cache = ResultCache.beside(self.store)
        return self._cache

    async def close(self) -> None:
        """Give up what the steps shared, in the event loop that they ran in."""
        if self._cache is not None:
            await self._cache.close()

    def leave_loop(self) -> None:
        """The same when that event loop is gone."""
        if self._cache is not None:
            self._cache.leave()

    def begin(self, lease: Lease) -> asyncio.Task[Outcome]:
        """Start a grant in a task of its own, with its own copy of the context variables.

        The task raises `Interrupted` when what it did no longer counts.
        """
        return asyncio.get_running_loop().create_task(self._run(lease))

    async def after_record(self, grant: Grant, *, recorded: bool) -> None:
        """Tell middlewares of calls whose outcome is stored now."""
        for call in self.calls.pop(grant.token, ()):
            if not recorded:
                continue
            if self.invoker.wants_post_save:
                await self.invoker.after_record(call.message, call.result)
            if self.hook is not None and call.context is not None:
                error = call.result.error
                if error is None:
                    await self.hook("complete", call.context, call.result.return_value)
                else:
                    await self.hook("error", call.context, error)

    # -- one grant

    async def _run(self, lease: Lease) -> Outcome:
        grant = lease.grant
        program = load_program(grant.blob)
        try:
            if grant.expand:
                return await self._expand(grant, program, lease)
            if program.step.builtin == MERGE:
                return await self._merge(grant, program, lease)
            found = self._function_of(program)
            if found is None:
                return await self._unknown_task(grant, program)
            function, labels = found
            one = _OneStep(self, grant, program, lease, body_of(program, function), labels)
            one.values.update(zip(program.sources, grant.values, strict=True))
            if SequenceValue in map(type, grant.values):
                await self._load(grant, program, one.values)
            if grant.items:
                return await self._run_items(one)
            return await one.run()
        except asyncio.CancelledError:
            if lease.is_over:
                raise Interrupted from None
            raise
        except (StoreUnavailableError, Interrupted):
            raise
        except Exception as error:  # noqa: BLE001 - bad arguments, bad items: the step's failure
            return self._broken(grant, program, error)

    def _function_of(self, program: Program) -> tuple[Callable[..., Any], Mapping[str, Any]] | None:
        """The function of a step with its task's labels; None if this worker has not got it."""
        if program.step.builtin is not None:
            work = BUILTINS.get(program.step.builtin)
            return None if work is None else (work, {})
        task = self.broker.find_task(program.step.task)
        return None if task is None else (task.original_func, task.labels)

    def _broken(self, grant: Grant, program: Program, error: Exception) -> Outcome:
        """The step failed before its function was called; a retry would meet the same."""
        failed = Failed(encode_error(error), program.step.on_failure)
        if grant.items:
            return Items(done=(), failed=Failed(failed.error, OnFailure.STOP))
        return failed

    async def _merge(self, grant: Grant, program: Program, lease: Lease) -> Outcome:
        run_id = grant.address.run_id
        return await merge(
            grant,
            program,
            functools.partial(self.page, run_id),
            functools.partial(self.put, grant, lease, grant.address.step),
            functools.partial(self.read_sequence, run_id),
        )

    async def _unknown_task(self, grant: Grant, program: Program) -> Outcome:
        """Give the step back for others: old workers may still be there in a deploy.

        It fails when nobody has had its task for ``unknown_task_seconds``.
        """
        waited = grant.granted_at - (grant.step_started_at or grant.ready_at)
        if waited >= self.config.unknown_task_seconds:
            workers = await ask(self.store.workers, self.random)
            if not any(program.step.task in worker.tasks for worker in workers):
                return self._broken(grant, program, UnknownTaskError(program.step.task, waited))
        raise Interrupted(UNKNOWN_TASK_PAUSE_SECONDS * (0.5 + self.random.random()))

    async def _load(self, grant: Grant, program: Program, values: dict[int, Loaded]) -> None:
        """Read whole, in pages, what is stored item by item; but not what is run item by item."""
        for key, value in zip(program.sources, grant.values, strict=True):
            if isinstance(value, SequenceValue) and key != program.items_source:
                values[key] = await self.read_sequence(grant.address.run_id, value)

    async def read_sequence(self, run_id: str, value: SequenceValue) -> Sequence[bytes]:
        found: list[bytes] = []
        for start in range(0, value.length, CHUNK):
            page = await self.page(run_id, value, start)
            found.extend(entry for entry in page if entry is not None)
        return found

    async def page(self, run_id: str, value: SequenceValue, start: int) -> list[bytes | None]:
        stop = min(start + CHUNK, value.length)
        return await ask(lambda: self.store.items(run_id, value.key, start, stop), self.random)

    # -- maps

    async def _expand(self, grant: Grant, program: Program, lease: Lease) -> Outcome:
        """Split the previous result into items, stored in chunks, and say how many there are."""
        spec = program.step.map
        source = None if spec is None else spec.items
        whole = grant.values[0]
        if not isinstance(whole, bytes) or source is None:
            raise NotIterableError(program.step.name, type(whole).__name__)
        loaded: Any = decode(whole)
        if source.part is not None:
            loaded = loaded[source.part]
        if not isinstance(loaded, ITERABLES):
            raise NotIterableError(program.step.name, type(loaded).__name__)
        items = list(cast("Iterable[Any]", loaded))
        if len(items) > self.config.max_fan_out:
            raise FanOutError(program.step.name, len(items), self.config.max_fan_out)
        key = bound_items_key(grant.address.step)
        where = f"item of step {program.step.name!r}"
        encoded = (ItemMark.VALUE + encode(item, where=where, limit=None) for item in items)
        return Expanded(await self._store_items(grant, lease, key, encoded))

    async def _store_items(
        self, grant: Grant, lease: Lease, key: int, items: Iterable[bytes], start: int = 0
    ) -> int:
        chunk: list[bytes] = []
        for item in items:
            chunk.append(item)
            if len(chunk) == CHUNK:
                await self.put(grant, lease, key, start, chunk)
                start += len(chunk)
                chunk = []
        if chunk:
            await self.put(grant, lease, key, start, chunk)
        return start + len(chunk)

    async def put(
        self, grant: Grant, lease: Lease, key: int, start: int, chunk: list[bytes]
    ) -> None:
        held = Held(grant.address, lease.token)
        if not await ask(lambda: self.store.put_items(held, key, start, chunk), self.random):
            raise Interrupted

    def is_doubtful(self, lease: Lease) -> bool:
        """Whether a lease has not been confirmed for long: this process may have stood still."""
        return now_monotonic() - lease.confirmed_at > self.store.options.lease_seconds / 2

    async def confirm(self, lease: Lease) -> None:
        """Make sure of a doubtful lease before user code starts.

        Raises:
            Interrupted: Somebody else may have done the step in the meantime.
        """
        while self.is_doubtful(lease):
            asked_at = now_monotonic()
            held = [Held(lease.address, lease.token)]
            lost = await ask(functools.partial(self.store.renew, held), self.random)
            if lost:
                lease.lost = lost.get(lease.token, LostReason.TAKEN)
                raise Interrupted
            lease.confirmed_at = asked_at

    async def _run_items(self, one: _OneStep) -> Outcome:
        """Run the granted items one after another, and record those that are done in time."""
        step, grant = one.program.step, one.grant
        done: list[ItemDone] = []
        retries: list[ItemRetry] = []
        errors = 0
        taken = await self._taken(one) if StepOption.TAKEN in step.options else {}
        began = now_monotonic()
        for item in grant.items:
            if done and now_monotonic() - began > FLUSH_SECONDS:
                break
            if one.lease.is_over:
                raise Interrupted
            if item.value[:1] == ItemMark.DROPPED:
                done.append(ItemDone(item.number, ItemMark.DROPPED))
                continue
            if item.number in taken:
                done.append(ItemDone(item.number, taken[item.number]))
                continue
            try:
                ended = await one.attempt(item)
            except Delegated:
                if not done and not retries:
                    return Parked()
                # Those before it are recorded first; then the slot comes back here, to wait.
                return Items(tuple(done), tuple(retries), None, errors)
            outcome = decide_item(step, item.number, item.value, ended, self.random.random())
            match outcome:
                case ItemDone():
                    done.append(outcome)
                    failed = outcome.value[:1] == ItemMark.FAILED
                    errors += failed or (one.last_failed and outcome.value == ItemMark.DROPPED)
                case ItemRetry():
                    retries.append(outcome)
                case Failed():
                    return Items(tuple(done), tuple(retries), outcome, errors)
                case Aborted():
                    return outcome
                case Again():
                    if not done and not retries:
                        raise Interrupted(outcome.delay_seconds)
                    break
        return Items(
            tuple(done), tuple(retries), None, errors, self._want(step.task, began, len(done))
        )

    async def _taken(self, one: _OneStep) -> dict[int, bytes]:
        """What earlier runs have for the granted items; items that failed are run again."""
        numbers = [item.number for item in one.grant.items if not item.attempt]
        found: dict[int, bytes] = {}
        for run_id in one.program.step.options[StepOption.TAKEN]:
            left = [number for number in numbers if number not in found]
            if not left:
                break
            first, stop = left[0], left[-1] + 1
            read = functools.partial(self.store.items, run_id, one.program.index, first, stop)
            for number, entry in enumerate(await ask(read, self.random), first):
                if entry is not None and entry[:1] != ItemMark.FAILED:
                    found.setdefault(number, entry)
        return found

    def _want(self, task: str, began: float, done: int) -> int:
        """How many items to take next, so that a batch takes about `BATCH_SECONDS`."""
        if done:
            seconds = (now_monotonic() - began) / done
            known = self._item_seconds.get(task, seconds)
            self._item_seconds[task] = (known + seconds) / 2
        average = self._item_seconds.get(task, BATCH_SECONDS)
        return max(1, min(BATCH_ITEMS, int(BATCH_SECONDS / max(average, 1e-6))))


@dataclass(slots=True)
class _OneStep:
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
        message = self._message(item, args, kwargs)
        step_report.set((message.task_id, self._report))
        if runner.hook is not None and context is not None:
            await runner.hook("start", context, None)
        if runner.is_doubtful(self.lease):
            await runner.confirm(self.lease)
        work = Work()
        target = self._collector() if self.body.is_stream else self.body.function
        try:
            result = await runner.invoker.call(target, message, work)
            if result.is_err and (step.timeout is not None or self.lease.is_over):
                # A thread cannot be stopped: the next try waits until this one's has ended.
                await work.settled()
        except asyncio.CancelledError:
            await work.settled()
            raise
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
        if runner.hook is not None or runner.invoker.wants_post_save:
            call = Call(work.message or message, result, context)
            runner.calls.setdefault(self.lease.token, []).append(call)
        return ended

    def _child_id(self, item: ItemGrant | None, failures: int) -> str:
        number = None if item is None else item.number
        return self.runner.children.child_id(self.grant, number, failures)

    async def _delegate(
        self, result: TaskiqResult[Any], item: ItemGrant | None, failures: int
    ) -> TaskiqResult[Any] | Try:
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
            context = self._context(item, failures)
            call = Call(self._message(item, [], {}), result, context)
            runner.calls.setdefault(self.lease.token, []).append(call)
        # Filters of a retry policy mean what failed in the child.
        return ended if end.cause is None else ended._replace(error=end.cause)

    def _ended(self, result: TaskiqResult[Any], failures: int) -> Try:
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
        self, item: ItemGrant | None, args: list[Any], kwargs: dict[str, Any]
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
            self.grant.address, self._task_id(item), step.task, labels, args, kwargs
        )

    def _report(self) -> Report:
        """What takes the progress of this step, made for a tracker that asks for it."""
        return Progress(self.runner.store, self.grant).report

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
