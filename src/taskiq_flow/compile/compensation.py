"""What takes back a step when its run does not complete, as it is stored with the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from taskiq_flow.compile.arguments import Given, bind_call
from taskiq_flow.compile.builder import PlanBuilder
from taskiq_flow.compile.builtin import StepOption
from taskiq_flow.compile.uses import TaskUse
from taskiq_flow.exceptions import EmptyPipelineError
from taskiq_flow.model.records import Join, OnFailure
from taskiq_flow.plan import (
    Binding,
    Plan,
    PlanStep,
    Source,
    input_key,
    step_from_json,
    step_to_json,
)

RESULT, FAILURE = Source(input_key(0)), Source(input_key(1))
"""What a compensation is given, before it is known which ones run: see `compensation_plan`."""


def compensate(builder: PlanBuilder, steps: Sequence[int], use: TaskUse) -> None:
    """Attach a task to steps; each of them that completed is taken back by a call of its own.

    Raises:
        EmptyPipelineError: There is no step that it could take back.
        BadArgumentsError: The task cannot be called with a result and a failure.
    """
    if not steps:
        raise EmptyPipelineError("pipeline", "add the step that on_failure() takes back before it")
    info = builder.read(use)
    free = [name for name in info.parameters if name not in use.kwargs]
    values: list[Binding] = [RESULT] if free and use.param_name is None else []
    wants_failure = [n for n in free[1:] if n == "failure" or info.parameters[n].is_required]
    named: dict[str, Binding] = {wants_failure[0]: FAILURE} if wants_failure else {}
    for index in steps:
        step = builder.steps[index]
        name = f"{step.name}.{use.name}"
        call = bind_call(name, use, info, Given(tuple(values), named))
        apart = replace(
            builder, steps=[], outputs=[], _uses={}, _kept={}, on_failure=OnFailure.LATER
        )
        apart.add_task(name, use, info, call)
        stored = step_to_json(apart.steps[0])
        builder.change(index, options={**step.options, StepOption.COMPENSATION: stored})


def compensation_plan(steps: Sequence[PlanStep], name: str) -> Plan:
    """The plan that takes back these steps, in this order, whether or not one of them fails.

    Its inputs are their results, then the failure.
    """
    found: list[dict[str, Any]] = [step.options[StepOption.COMPENSATION] for step in steps]
    # The steps follow one another, but also something that never fails: so none is skipped.
    begin = PlanStep(
        name="begin", task="taskiq_flow:collect", builtin="collect", queue=found[0].get("queue", "")
    )
    plan = [begin]
    for number, stored in enumerate(found):
        step = step_from_json(stored)
        places = {RESULT: Source(input_key(number)), FAILURE: Source(input_key(len(found)))}
        plan.append(
            step._replace(
                args=tuple(places.get(b, b) if isinstance(b, Source) else b for b in step.args),
                kwargs=tuple(
                    (at, places.get(b, b) if isinstance(b, Source) else b) for at, b in step.kwargs
                ),
                after=tuple(sorted({0, number})),
                join=Join.ANY,
            )
        )
    inputs = (*(step.name for step in steps), "failure")
    return Plan("compensation", tuple(plan), Source(len(found)), inputs, name=name)
