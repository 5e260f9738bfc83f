"""Reads dead letters: the failed runs of a store, found by its index; there is no second copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from taskiq_flow.engine.forks import retry_id
from taskiq_flow.engine.program import evaluate
from taskiq_flow.engine.report import execution_report, stored_traceback
from taskiq_flow.engine.results import RunResults, describe, step_name, stored_exception
from taskiq_flow.engine.status import moment, pipeline_status
from taskiq_flow.errors import ExecutionReport
from taskiq_flow.exceptions import NotADeadLetterError, RunNotFoundError
from taskiq_flow.model.records import RunFilter, RunSnapshot, RunStatus
from taskiq_flow.model.transitions import DEADLINE_ERROR, POISON_ERROR
from taskiq_flow.plan import Plan, Source, input_key
from taskiq_flow.stores.base import RunStore


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A run that failed for good; ``task_id`` is its id.

    ``step`` and ``task_name`` are what failed; None where the time of the whole run was up.
    ``is_poison`` says that the step took down its workers. ``retried_as`` is the run that a retry
    made of it.
    """

    task_id: str
    pipeline_id: str
    name: str
    kind: str
    step: str | None
    task_name: str | None
    error: str
    error_type: str
    created_at: datetime
    failed_at: datetime
    tags: tuple[str, ...]
    is_poison: bool
    retried_as: str | None


@dataclass(frozen=True, slots=True)
class DeadLetterDetails:
    """All that is known of a dead letter: what it was started with, what it had, how it failed."""

    letter: DeadLetter
    inputs: Mapping[str, Any]
    partial_results: Mapping[str, Any]
    traceback: str
    report: ExecutionReport


class DeadLetters(list[DeadLetter]):
    """One page of a listing, newest first; ``cursor`` asks for the next one, None at the end."""

    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters are meant; every field narrows it. Times are the runs' creation.

    ``task`` is the name of the task that failed, ``error`` the name of the exception's type.
    Those that were retried, and runs that are steps of others, are left out unless wanted.
    """

    name: str | None = None
    kind: str | None = None
    tag: str | None = None
    task: str | None = None
    error: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    include_retried: bool = False
    include_children: bool = False

    def as_run_filter(self) -> RunFilter:
        return RunFilter(
            status=RunStatus.FAILED,
            name=self.name,
            kind=self.kind,
            tag=self.tag,
            since=None if self.since is None else self.since.timestamp(),
            until=None if self.until is None else self.until.timestamp(),
        )

    def takes(self, run: RunSnapshot, letter: DeadLetter) -> bool:
        """What no index answers."""
        if letter.retried_as is not None and not self.include_retried:
            return False
        if run.parent is not None and not self.include_children:
            return False
        if self.error not in (None, letter.error_type, letter.error_type.rpartition(".")[2]):
            return False
        return self.task is None or self.task == letter.task_name


async def list_letters(
    store: RunStore,
    which: LetterFilter,
    *,
    limit: int,
    cursor: str | None,
    looked_most: int | None = None,
) -> DeadLetters:
    """Read pages until so many are found; a page may then hold a few more than that.

    With ``looked_most`` it comes short, with a cursor, when so many failed runs were looked at.
    """
    found, looked = DeadLetters(), 0
    while len(found) < limit and (looked_most is None or looked < looked_most):
        page = await store.list_runs(which.as_run_filter(), cursor=cursor, limit=limit)
        letters = await letters_of(store, page.runs)
        looked += len(page.runs)
        pairs = zip(page.runs, letters, strict=True)
        found.extend(letter for run, letter in pairs if letter and which.takes(run, letter))
        cursor = page.cursor
        if cursor is None:
            break
    found.cursor = cursor
    return found


async def letters_of(store: RunStore, runs: Sequence[RunSnapshot]) -> list[DeadLetter | None]:
    """Describe failed runs; None in the place of one that was removed meanwhile."""
    again = {run.run_id: retry_id(run) for run in runs}
    found = await RunResults(store).with_plans([*again, *again.values()], steps=False)
    plans = {run.run_id: plan for run, plan in found}
    retried = {run_id: other for run_id, other in again.items() if other in plans}
    return [
        _letter(run, plans[run.run_id], retried.get(run.run_id)) if run.run_id in plans else None
        for run in runs
    ]


async def inspect_letter(store: RunStore, run_id: str) -> DeadLetterDetails:
    """Read all of a dead letter.

    Raises:
        RunNotFoundError: There is no such run.
        NotADeadLetterError: It has not failed.
    """
    run = await store.get(run_id)
    if run is None:
        raise RunNotFoundError(run_id)
    if run.status is not RunStatus.FAILED:
        raise NotADeadLetterError(run_id, run.status)
    (letter,) = await letters_of(store, [run])
    if letter is None:
        raise RunNotFoundError(run_id)
    results = RunResults(store)
    plan = await results.plan(run_id)
    keys = {name: input_key(number) for number, name in enumerate(plan.inputs)}
    values = await results.load(run_id, await store.values(run_id, list(keys.values())))
    return DeadLetterDetails(
        letter=letter,
        inputs={n: evaluate(Source(key), values) for n, key in keys.items() if key in values},
        partial_results=await results.partial(run_id, plan),
        traceback=stored_traceback(run.error),
        report=execution_report(run, plan),
    )


def _letter(run: RunSnapshot, plan: Plan, retried_as: str | None) -> DeadLetter:
    step = step_name(plan, run.failed_step)
    if run.error is None or run.error == DEADLINE_ERROR:
        status = pipeline_status(run)
        error, kind, step = status.error or "", status.error_type or "", None
    else:
        cause = stored_exception(run.error, step or "?")
        error, kind = describe(cause), getattr(cause, "type_name", type(cause).__name__)
    return DeadLetter(
        task_id=run.run_id,
        pipeline_id=run.key or run.run_id,
        name=run.name,
        kind=run.kind,
        step=step,
        task_name=None if step is None else plan.steps[run.failed_step or 0].task,
        error=error,
        error_type=kind,
        created_at=datetime.fromtimestamp(run.created_at, UTC),
        failed_at=moment(run.ended_at) or datetime.fromtimestamp(run.created_at, UTC),
        tags=run.tags,
        is_poison=run.error == POISON_ERROR,
        retried_as=retried_as,
    )
