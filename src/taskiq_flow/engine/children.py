"""Steps that are runs of their own: started, waited for without a worker, and cancelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from taskiq import AsyncBroker

from taskiq_flow.codec import encode
from taskiq_flow.compile import Child, continuation
from taskiq_flow.compile.builtin import StepOption
from taskiq_flow.engine.forks import MAX_PARALLEL
from taskiq_flow.engine.ids import derived_run_id
from taskiq_flow.engine.program import Program, evaluate
from taskiq_flow.engine.results import RunResults, describe
from taskiq_flow.engine.routing import stand_ins
from taskiq_flow.exceptions import AbortPipeline, ChildRunError, FanOutError, ForeignPipelineError
from taskiq_flow.model.names import storable
from taskiq_flow.model.records import (
    Grant,
    NewRun,
    Ready,
    RunFilter,
    RunSnapshot,
    RunStatus,
    SequenceValue,
)
from taskiq_flow.optimization.parallel import lowest, max_parallel_tasks
from taskiq_flow.plan import Source, input_key
from taskiq_flow.stores.base import RunStore

MOST_PUT_OFF = 10_000
"""So many children of items that cannot wait yet are remembered."""


class Delegated(Exception):  # noqa: N818 - not an error: the step goes on as a run of its own
    """The step has started a child run, and waits for it without a worker."""


class ChildEnd(NamedTuple):
    """How a child run ended. ``sequence`` is a result that is stored item by item."""

    value: Any = None
    sequence: SequenceValue | None = None
    error: ChildRunError | None = None
    cause: BaseException | None = None


class Created(NamedTuple):
    """A child run that is stored; its messages are sent when its parent is known to wait."""

    run_id: str
    ready: tuple[Ready, ...]


@dataclass(slots=True)
class Children:
    """The child runs that steps of this process start.

    A child's id follows from the step, its item and its attempt. So however often a step is
    interrupted and begun again, it has one child; and a retry has another.
    """

    broker: AsyncBroker
    store: RunStore
    max_fan_out: int
    created: dict[str, Created] = field(default_factory=dict[str, Created])
    waiting: set[str] = field(default_factory=set[str])

    def child_id(self, grant: Grant, item: int | None, attempt: int) -> str:
        began = grant.step_started_at or grant.granted_at
        address = grant.address
        return derived_run_id(began, address.run_id, address.step, item, attempt, "child")

    def wanted(self, program: Program, returned: Any) -> tuple[Child, Sequence[Any]] | None:
        """The child that a step asks for by its definition, or by what it returned.

        Raises:
            ConfigurationError: It cannot be started with these values.
        """
        if StepOption.CHILD in program.step.options:
            return _stored_child(program), returned
        asked = continuation(returned)
        if asked is None:
            return None
        made_on = getattr(asked.pipeline, "broker", self.broker)
        if stand_ins.get(made_on, made_on) is not self.broker:
            raise ForeignPipelineError(program.step.name)
        return asked.child()

    async def begin(
        self, grant: Grant, program: Program, run_id: str, wanted: tuple[Child, Sequence[Any]]
    ) -> bool:
        """Store a child run, unless it was before; False when that one has ended already.

        Raises:
            ConfigurationError: A value cannot be stored, or mapped over.
        """
        child, values = wanted
        compiled = child.plan.compiled
        start = child.encode(program.step.name, values)
        for step, items in start.items.items():
            if len(items) > self.max_fan_out:
                raise FanOutError(compiled.plan.steps[step].name, len(items), self.max_fan_out)
        most = lowest(child.max_parallel, max_parallel_tasks())
        meta = {} if most is None else {MAX_PARALLEL: most}
        plan = compiled.plan
        new = NewRun(
            run_id=run_id,
            namespace=self.store.options.namespace,
            steps=plan.records,
            plan=plan.stored,
            kind=plan.kind,
            name=plan.name,
            tags=(*child.tags, child_tag(grant.address.run_id)),
            inputs={input_key(number): value for number, value in enumerate(start.inputs)},
            lengths={step: len(items) for step, items in start.items.items()},
            timeout_seconds=child.timeout_seconds,
            max_parallel=most,
            publish=plan.is_followed,
            queue=plan.steps[0].queue,
            parent=grant.address,
            meta=encode(meta, where="meta data of the run") if meta else b"",
        )
        ready = await self.store.create(new, start.items or None)
        if not ready and run_id in await self.store.ended_among([run_id]):
            return False
        self.created[grant.token] = Created(run_id, ready)
        return True

    def put_off(self, run_id: str) -> None:
        """Remember the child of an item that cannot wait yet: those before it are recorded first.

        If that is forgotten, or another worker takes the slot, the item's body runs once more, and
        finds its child there.
        """
        if len(self.waiting) >= MOST_PUT_OFF:
            self.waiting.clear()
        self.waiting.add(run_id)

    async def parked(self, grant: Grant, *, recorded: bool) -> tuple[Ready, ...]:
        """Say what is to be sent now that a step waits for its child.

        A step that may not wait any more (its run has ended meanwhile) takes its child with it.
        """
        created = self.created.pop(grant.token, None)
        if created is None or recorded:
            return () if created is None else created.ready
        parent = await self.store.get(grant.address.run_id, steps=False)
        if parent is None or parent.status.is_final:
            await cancel_run(self.store, created.run_id, _reason(grant.address.run_id))
        return ()

    async def end_of(self, run_id: str, step: str) -> ChildEnd:
        """How the child run of a step ended.

        Raises:
            RunNotFoundError: Its record has expired.
        """
        results = RunResults(self.store)
        plan = await results.plan(run_id)
        ending = await self.store.ending(run_id, plan.result_keys)
        if ending is not None and ending.snapshot.status is RunStatus.COMPLETED:
            result = plan.result
            if isinstance(result, Source) and result.part is None:
                whole = ending.values.get(result.key)
                if isinstance(whole, SequenceValue):
                    return ChildEnd(sequence=whole)
            values = await results.load(run_id, ending.values)
            known = {key: values.get(key, b"null") for key in plan.result_keys}
            return ChildEnd(evaluate(result, known))
        outcome = await results.outcome(run_id, plan=plan)
        if outcome is None:
            raise Delegated  # woken for nothing: it still goes on
        cause = outcome.cause
        if outcome.snapshot.status is RunStatus.CANCELLED:
            how = f"was cancelled: {outcome.snapshot.reason or 'no reason given'}"
        elif outcome.failed_step is None:
            how = f"failed: {outcome.as_error()}"
        else:
            why = "" if cause is None else f": {describe(cause)}"
            how = f"failed at step {outcome.failed_step!r}{why}"
        facts = {"failed_step": outcome.failed_step, "partial_results": outcome.partial}
        error = ChildRunError(step, run_id, how, **facts)
        return ChildEnd(error=error, cause=None if isinstance(cause, AbortPipeline) else cause)


@lru_cache(maxsize=256)
def _stored_child(program: Program) -> Child:
    facts: Mapping[str, Any] = program.step.options[StepOption.CHILD]
    return Child.from_json(facts)


def child_tag(run_id: str) -> str:
    """The tag by which the child runs of a run are listed."""
    return f"parent:{run_id}"


def own_tags(run: RunSnapshot) -> tuple[str, ...]:
    """The tags of a run without the one that has it end with its parent."""
    ends_with = None if run.parent is None else child_tag(run.parent.run_id)
    return tuple(tag for tag in run.tags if tag != ends_with)


def _reason(run_id: str) -> str:
    return f"its parent run {run_id} has ended"


async def cancel_run(store: RunStore, run_id: str, reason: str) -> bool:
    """Cancel a run with all that it has started; False when it had ended."""
    cancelled = await store.cancel(run_id, storable(reason))
    if cancelled:
        await cancel_children(store, run_id)
    return cancelled


async def cancel_children(store: RunStore, run_id: str) -> None:
    """Cancel the child runs of an ended run that still go on, and theirs."""
    for status in (RunStatus.PENDING, RunStatus.RUNNING):
        which = RunFilter(tag=child_tag(run_id), status=status)
        cursor: str | None = None
        while True:
            page = await store.list_runs(which, cursor=cursor)
            for child in page.runs:
                await cancel_run(store, child.run_id, _reason(run_id))
            cursor = page.cursor
            if cursor is None:
                break
