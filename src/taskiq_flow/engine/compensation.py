"""Takes back what a run had done when it did not complete."""

from __future__ import annotations

from taskiq_flow.codec import encode
from taskiq_flow.compile.builtin import StepOption
from taskiq_flow.compile.compensation import compensation_plan
from taskiq_flow.engine.children import own_tags
from taskiq_flow.engine.ids import derived_run_id
from taskiq_flow.engine.program import evaluate
from taskiq_flow.engine.results import RunResults, describe
from taskiq_flow.model.records import (
    NONE_VALUE,
    NewRun,
    Ready,
    RunSnapshot,
    RunStatus,
    StepStatus,
)
from taskiq_flow.plan import Plan, Source, input_key
from taskiq_flow.stores.base import RunStore

COMPENSATES = "compensates"
"""The meta data of a compensating run name the one that it takes back."""


def compensation_id(run: RunSnapshot) -> str:
    """The id of the run that takes back what an ended run had done."""
    return derived_run_id(run.ended_at or 0.0, run.namespace, run.run_id, COMPENSATES)


async def compensate_run(
    store: RunStore, run_id: str, plan: Plan, *, publish: bool
) -> tuple[Ready, ...]:
    """Start the run that takes back the completed steps of a failed or cancelled one.

    However often this is asked, there is one such run. Returns what is to be sent.
    """
    if not any(StepOption.COMPENSATION in step.options for step in plan.steps):
        return ()
    run = await store.get(run_id)
    if run is None or run.status not in (RunStatus.FAILED, RunStatus.CANCELLED):
        return ()
    done = [
        step
        for step in run.steps
        if step.status is StepStatus.COMPLETED
        and StepOption.COMPENSATION in plan.steps[step.index].options
    ]
    if not done:
        return ()
    done.sort(key=lambda step: (step.ended_at or 0.0, step.index), reverse=True)
    undo = compensation_plan(
        [plan.steps[step.index] for step in done], f"{plan.name or run_id} taken back"
    )
    results = await _results(store, run_id, [step.index for step in done])
    values = [*results, encode(await _failure(store, run, plan), where="failure of a run")]
    return await store.create(
        NewRun(
            run_id=compensation_id(run),
            namespace=run.namespace,
            steps=undo.records,
            plan=undo.stored,
            kind=undo.kind,
            name=undo.name,
            tags=(*own_tags(run), f"{COMPENSATES}:{run_id}"),
            inputs={input_key(number): value for number, value in enumerate(values)},
            publish=publish,
            queue=undo.steps[0].queue,
            meta=encode({COMPENSATES: run_id}, where="meta data of the run"),
        )
    )


async def _results(store: RunStore, run_id: str, steps: list[int]) -> list[bytes]:
    found = await store.values(run_id, steps)
    whole = await RunResults(store).load(run_id, found)
    stored: list[bytes] = []
    for step in steps:
        value = found.get(step, NONE_VALUE)
        if not isinstance(value, bytes):
            loaded = evaluate(Source(step), whole)
            value = encode(loaded, where="result that is taken back", limit=None)
        stored.append(value)
    return stored


async def _failure(store: RunStore, run: RunSnapshot, plan: Plan) -> dict[str, str | None]:
    """What a compensation is told of the end of the run that it belongs to."""
    cause = await RunResults(store).cause(run, plan)
    return {
        "run_id": run.run_id,
        "status": str(run.status),
        "failed_step": None if run.failed_step is None else plan.steps[run.failed_step].name,
        "error": None if cause is None else describe(cause),
        "reason": run.reason,
    }
