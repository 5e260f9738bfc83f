"""Draws a plan: the same picture before a run, while it goes on, and long after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from taskiq_flow import visualization
from taskiq_flow.compile.branches import Ways
from taskiq_flow.compile.builtin import MERGE, StepOption
from taskiq_flow.model.records import StepKind
from taskiq_flow.plan import (
    Binding,
    DictOf,
    ListOf,
    MapMode,
    Plan,
    PlanStep,
    Source,
    input_key,
)


def plan_view(plan: Plan, statuses: Mapping[str, str] | None = None) -> visualization.GraphView:
    """Turn a plan into what is drawn; ``statuses`` are words by the names of steps."""
    said = statuses or {}
    names = _Names(plan)
    nodes = tuple(
        visualization.NodeView(
            id=step.name,
            label=step.name,
            kind=_kind(step),
            status=said.get(step.name),
            detail=_detail(step),
            inputs=tuple(dict.fromkeys(name for _, name in names.taken_by(step))),
            outputs=names.outputs.get(index, (step.name,)),
            task_name=step.task,
        )
        for index, step in enumerate(plan.steps)
    )
    edges = tuple(
        visualization.EdgeView(
            plan.steps[source].name,
            step.name,
            _way(plan.steps[source], index) or _label(names, step, source),
        )
        for index, step in enumerate(plan.steps)
        for source in step.after
    )
    return visualization.GraphView(plan.name, nodes, edges)


class _Names:
    """What the values of a plan are called."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.outputs: dict[int, tuple[str, ...]] = {}
        for name, source in plan.outputs:
            self.outputs[source.key] = (*self.outputs.get(source.key, ()), name)

    def taken_by(self, step: PlanStep) -> Iterator[tuple[int, str]]:
        """Yield the key and the name of every value that a step takes."""
        if step.map is not None and step.map.items is not None:
            yield from self._named(step.map.items)
        for binding in (*step.args, *(binding for _, binding in step.kwargs)):
            for source in _sources(binding):
                yield from self._named(source)

    def _named(self, source: Source) -> Iterator[tuple[int, str]]:
        if source.key < 0:
            yield source.key, self.plan.inputs[input_key(source.key)]
        elif isinstance(source.part, str):
            yield source.key, source.part
        else:
            names = self.outputs.get(source.key, (self.plan.steps[source.key].name,))
            for name in names:
                yield source.key, name


def _label(names: _Names, step: PlanStep, source: int) -> str:
    taken = dict.fromkeys(name for key, name in names.taken_by(step) if key == source)
    return ", ".join(taken)


def _way(chooser: PlanStep, step: int) -> str:
    """The case in which a branch goes on with a step."""
    ways = chooser.options.get(StepOption.WAYS)
    return "" if ways is None or chooser.builtin == MERGE else Ways.from_json(ways).label(step)


def _sources(binding: Binding) -> Iterator[Source]:
    match binding:
        case Source():
            yield binding
        case ListOf(parts=parts):
            for part in parts:
                yield from _sources(part)
        case DictOf(parts=parts):
            for _, part in parts:
                yield from _sources(part)
        case _:
            return


def _kind(step: PlanStep) -> str:
    if StepOption.WAYS in step.options and step.builtin != MERGE:
        return "branch"
    if step.builtin is not None:
        return step.builtin
    if step.map is not None and step.map.mode is MapMode.FILTER:
        return "filter"
    return step.kind.value if step.kind is not StepKind.TASK else "task"


def _detail(step: PlanStep) -> str:
    """The function's name, where the step is called otherwise."""
    if step.kind is StepKind.TIMER:
        return f"{step.delay_seconds:g} s"
    if step.kind is StepKind.EVENT and step.delay_seconds is not None:
        return f"at most {step.delay_seconds:g} s"
    if StepOption.CHILD in step.options:
        steps = len(step.options[StepOption.CHILD]["plan"]["steps"])
        return f"{steps} step" if steps == 1 else f"{steps} steps"
    function = step.task.rpartition(":")[2]
    is_named_so = step.name == function or step.name.startswith(f"{function}#")
    return "" if is_named_so or step.builtin is not None else f"{function}()"
