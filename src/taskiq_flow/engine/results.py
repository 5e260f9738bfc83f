"""Reads how a run ended: its result, its error as an exception, and what it had by then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from taskiq import TaskiqResult

from taskiq_flow.codec import decode_error
from taskiq_flow.engine.program import Loaded, evaluate
from taskiq_flow.engine.unchecked import unchecked
from taskiq_flow.exceptions import (
    AbortPipeline,
    EventTimeoutError,
    PipelineCancelledError,
    PipelineError,
    PipelineTimeoutError,
    PoisonStepError,
    RunNotFoundError,
    StepFailedError,
)
from taskiq_flow.model.records import ItemMark, RunSnapshot, RunStatus, SequenceValue, Value
from taskiq_flow.model.transitions import DEADLINE_ERROR, EVENT_TIMEOUT_ERROR, POISON_ERROR
from taskiq_flow.plan import Plan, PlanStep, Source, load_plan
from taskiq_flow.stores.base import CHUNK, Ending, RunStore

PLAIN_TASK_KIND = "task"
"""Runs that were plain Taskiq tasks: their callers expect the task's own exception."""

_cached_plan = lru_cache(maxsize=256)(load_plan)
_NOTHING: Mapping[str, Any] = {}
_Result = TaskiqResult[Any]


class RunOutcome(NamedTuple):
    """A run that has ended, as a client sees it.

    ``cause`` is the failed step's own exception, or what stands for it; ``errors`` has one of
    each step that failed, also where the run went on.
    """

    snapshot: RunSnapshot
    value: Any = None
    cause: BaseException | None = None
    failed_step: str | None = None
    partial: Mapping[str, Any] = _NOTHING

    @property
    def failed(self) -> bool:
        return self.snapshot.status is not RunStatus.COMPLETED

    def as_result(self) -> TaskiqResult[Any]:
        """The outcome as Taskiq has it."""
        run, failed = self.snapshot, self.failed
        started = run.started_at or run.created_at
        return unchecked(
            _Result,
            {
                "is_err": failed,
                "log": None,
                "return_value": self.value,
                "execution_time": round((run.ended_at or started) - started, 6),
                "labels": {"pipeline_id": run.key or run.run_id},
                "error": self._error_of_result() if failed else None,
            },
        )

    def _error_of_result(self) -> BaseException:
        plain = self.snapshot.kind == PLAIN_TASK_KIND
        return self.cause if plain and self.cause is not None else self.as_error()

    def as_error(self) -> PipelineError:
        """The error that a waiting client gets; its cause is the step's own exception."""
        name = self.snapshot.key or self.snapshot.run_id
        facts: dict[str, Any] = {
            "run_id": self.snapshot.run_id,
            "failed_step": self.failed_step,
            "partial_results": self.partial,
        }
        error: PipelineError
        if self.snapshot.status is RunStatus.CANCELLED:
            reason = self.snapshot.reason or "no reason given"
            error = PipelineCancelledError(f"Pipeline {name} was cancelled: {reason}", **facts)
        elif self.snapshot.error == DEADLINE_ERROR:
            seconds = (self.snapshot.deadline or 0.0) - self.snapshot.created_at
            error = PipelineTimeoutError(
                f"Pipeline {name} took longer than its timeout of {seconds:g} s.",
                timeout=seconds,
                **facts,
            )
        else:
            cause = "" if self.cause is None else f": {describe(self.cause)}"
            error = PipelineError(
                f"Pipeline {name} failed at step {self.failed_step!r}{cause}", **facts
            )
        error.__cause__ = self.cause
        return error


def describe(error: BaseException) -> str:
    """Type and message of an exception in one line."""
    if isinstance(error, StepFailedError):
        return str(error)
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@dataclass(frozen=True, slots=True)
class RunResults:
    """Reads outcomes from a store."""

    store: RunStore

    async def plan(self, run_id: str) -> Plan:
        """The plan of a run; those of equal plans are parsed once.

        Raises:
            RunNotFoundError: No such run.
        """
        stored = await self.store.plan(run_id)
        if stored is None:
            raise RunNotFoundError(run_id)
        return _cached_plan(stored)

    async def with_plans(
        self, run_ids: Sequence[str], *, steps: bool = True
    ) -> list[tuple[RunSnapshot, Plan]]:
        """These runs and their plans; without those that are gone."""
        found = await self.store.get_all(run_ids, steps=steps)
        return [(run, _cached_plan(plan)) for run, plan in found]

    async def outcome(
        self, run_id: str, *, plan: Plan | None = None, annotation: Any = None
    ) -> RunOutcome | None:
        """How a run ended; None while it goes on.

        Raises:
            RunNotFoundError: No such run.
        """
        known = plan or await self.plan(run_id)
        ending = await self.store.ending(run_id, known.result_keys)
        if ending is None:
            return None
        if ending.snapshot.status is RunStatus.COMPLETED:
            return await self._completed(run_id, known, ending, annotation)
        return RunOutcome(
            snapshot=ending.snapshot,
            cause=await self.cause(ending.snapshot, known),
            failed_step=step_name(known, ending.snapshot.failed_step),
            partial=await self.partial(run_id, known),
        )

    async def _completed(
        self, run_id: str, plan: Plan, ending: Ending, annotation: Any
    ) -> RunOutcome:
        values = await self.load(run_id, ending.values)
        for key in plan.result_keys:
            values.setdefault(key, b"null")  # a skipped step has no value
        return RunOutcome(snapshot=ending.snapshot, value=evaluate(plan.result, values, annotation))

    async def load(self, run_id: str, values: Mapping[int, Value]) -> dict[int, Loaded]:
        """Read whole what is stored item by item, in pages."""
        loaded: dict[int, Loaded] = {}
        for key, value in values.items():
            if not isinstance(value, SequenceValue):
                loaded[key] = value
                continue
            entries: list[bytes] = []
            for start in range(0, value.length, CHUNK):
                stop = min(start + CHUNK, value.length)
                page = await self.store.items(run_id, value.key, start, stop)
                entries.extend(ItemMark.FAILED if e is None else e for e in page)
            loaded[key] = entries
        return loaded

    async def partial(self, run_id: str, plan: Plan) -> dict[str, Any]:
        """The outputs that a run has so far, by output or step name, in plan order.

        Inside a map that did not complete nothing counts as an output.
        """
        named = output_sources(plan)
        keys = list(dict.fromkeys(source.key for _, source in named))
        found = await self.load(run_id, await self.store.values(run_id, keys))
        return {name: evaluate(source, found) for name, source in named if source.key in found}

    async def cause(self, snapshot: RunSnapshot, plan: Plan) -> BaseException | None:
        """The exception behind a failed run."""
        if snapshot.error is None or snapshot.error == DEADLINE_ERROR:
            return AbortPipeline(snapshot.reason) if snapshot.reason else None
        if snapshot.failed_step is None:
            return stored_exception(snapshot.error, "?")
        return step_exception(snapshot.error, plan.steps[snapshot.failed_step])


def step_exception(stored: bytes, step: PlanStep) -> BaseException:
    """The same as `stored_exception` for a step of which the plan is known."""
    if stored == EVENT_TIMEOUT_ERROR and step.event is not None:
        return EventTimeoutError(step.name, step.event, step.delay_seconds or 0.0)
    return stored_exception(stored, step.name, step.lost_most)


def stored_exception(stored: bytes, step: str, lost_most: int = 8) -> BaseException:
    """Turn a stored error, or the code of one that the store recorded, into an exception."""
    if stored == POISON_ERROR:
        return PoisonStepError(step, lost_most)
    if stored == EVENT_TIMEOUT_ERROR:
        return EventTimeoutError(step)
    error = decode_error(stored)
    return error.rebuild() or StepFailedError(error.type_name, error.message, error.traceback)


def step_name(plan: Plan, index: int | None) -> str | None:
    return None if index is None else plan.steps[index].name


def output_sources(plan: Plan) -> Iterable[tuple[str, Source]]:
    """Under which names the values of a plan are shown."""
    if plan.outputs:
        return plan.outputs
    return [
        (step.name, Source(index)) for index, step in enumerate(plan.steps) if step.builtin is None
    ]
