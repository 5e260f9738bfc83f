"""Finds what a grant asks for and runs it: a step, items of a map, or the splitting of a list."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from taskiq import AsyncBroker

from taskiq_flow.codec import decode, encode, encode_error
from taskiq_flow.compile.builtin import BUILTINS, MERGE, StepOption
from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.engine.asking import ask
from taskiq_flow.engine.children import Children, Delegated
from taskiq_flow.engine.invoke import (
    Invoker,
)
from taskiq_flow.engine.joining import merge
from taskiq_flow.engine.lease import Lease, now_monotonic
from taskiq_flow.engine.outcome import Again, decide_item
from taskiq_flow.engine.program import Loaded, Program, body_of, load_program
from taskiq_flow.engine.result_cache import ResultCache
from taskiq_flow.engine.step import Call, Interrupted, OneStep, StepHook
from taskiq_flow.exceptions import (
    FanOutError,
    NotIterableError,
    StoreUnavailableError,
    UnknownTaskError,
)
from taskiq_flow.model.records import (
    Aborted,
    Expanded,
    Failed,
    Grant,
    ItemDone,
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
from taskiq_flow.stores.base import CHUNK, Held, RunStore

UNKNOWN_TASK_PAUSE_SECONDS = 1.0
"""After about this long a step is offered again to a worker that may have its task."""

BATCH_SECONDS, BATCH_ITEMS = 0.1, 50
"""A slot of a map takes as many items at once as take about this long, and not more than that.

Items of one batch are recorded together, so this is also what a crash may have to repeat."""

FLUSH_SECONDS = 0.25
"""A batch that takes longer than this is recorded as far as it is."""

ITERABLES = (list, tuple, set, frozenset)


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
        program = load_program(lease.grant.blob)
        return lease.ended.get_loop().create_task(self._run(program, lease))

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

    async def _run(self, program: Program, lease: Lease) -> Outcome:
        grant = lease.grant
        try:
            if grant.expand:
                return await self._expand(grant, program, lease)
            if program.step.builtin == MERGE:
                return await self._merge(grant, program, lease)
            found = self._function_of(program)
            if found is None:
                return await self._unknown_task(grant, program)
            function, labels = found
            one = OneStep(self, grant, program, lease, body_of(program, function), labels)
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
        finally:
            lease.end()

    def _function_of(self, program: Program) -> tuple[Callable[..., Any], Mapping[str, Any]] | None:
        """The function of a step with its task's labels; None if this worker has not got it."""
        if program.step.builtin is not None:
            work = BUILTINS.get(program.step.builtin)
            return None if work is None else (work, {})
        task = self.broker.find_task(program.step.task)
        return None if task is None else (task.original_func, task.labels)

    def broken(self, grant: Grant, error: BaseException) -> Outcome:
        """The outcome of a grant whose work was ended by an error of nobody's function."""
        return self._broken(grant, load_program(grant.blob), error)

    def _broken(self, grant: Grant, program: Program, error: BaseException) -> Outcome:
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
        now = lease.ended.get_loop().time()
        return now - lease.confirmed_at > self.store.options.lease_seconds / 2

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

    async def _run_items(self, one: OneStep) -> Outcome:
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

    async def _taken(self, one: OneStep) -> dict[int, bytes]:
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
