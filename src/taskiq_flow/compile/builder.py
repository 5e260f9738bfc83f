"""Collects the steps of a plan: names them, finds what each waits for, applies policies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskiq_flow.compile.arguments import Call
from taskiq_flow.compile.builtin import PREFIX, StepOption
from taskiq_flow.compile.policies import Policies, retry_policy, step_labels, step_timeout
from taskiq_flow.compile.uses import Routing, TaskUse
from taskiq_flow.dataflow import TaskInfo
from taskiq_flow.model.records import OnFailure, StepKind
from taskiq_flow.plan import Binding, MapMode, MapSpec, Plan, PlanStep, Source, sources_of

DEFAULT_SLOTS = 1000
"""How many items of one map run at once where nothing was said."""


@dataclass(slots=True)
class PlanBuilder:
    """Steps in the order in which they are added; each may use those before it.

    ``on_failure`` is what a final failure does where the pipeline goes on past errors.
    """

    policies: Policies
    routing: Routing
    on_failure: OnFailure = OnFailure.STOP
    steps: list[PlanStep] = field(default_factory=list[PlanStep])
    outputs: list[tuple[str, Source]] = field(default_factory=list[tuple[str, Source]])
    _uses: dict[str, int] = field(default_factory=dict[str, int])
    _infos: dict[int, TaskInfo] = field(default_factory=dict[int, TaskInfo])

    def read(self, use: TaskUse) -> TaskInfo:
        """What a task takes and gives; read once, however often a long chain uses it."""
        info = self._infos.get(id(use.task))
        if info is None:
            info = use.read(context_by_name=self.policies.context_by_name)
            self._infos[id(use.task)] = info
        return info

    def name(self, wanted: str) -> str:
        """Reserve a name: itself at its first use, then ``name#2``, ``name#3`` and so on."""
        name, use = wanted, self._uses.get(wanted, 0)
        while use and name in self._uses:
            use += 1
            name = f"{wanted}#{use}"
        self._uses[wanted] = max(use, 1)
        self._uses.setdefault(name, 1)
        return name

    def add_task(
        self,
        name: str,
        use: TaskUse,
        info: TaskInfo,
        call: Call,
        *,
        after: Iterable[int] = (),
        spec: MapSpec | None = None,
        options: Mapping[str, Any] | None = None,
        is_output: bool = True,
    ) -> int:
        """Add a step that runs a task, and return its place in the plan."""
        labels = {**self.policies.labels, **use.labels}
        names = info.outputs if info.multiple_outputs and spec is None else ()
        step = PlanStep(
            name=name,
            task=use.task_name,
            args=call.args,
            kwargs=call.kwargs,
            after=_after(after, (*call.args, *(b for _, b in call.kwargs)), spec),
            labels=step_labels(labels),
            kind=StepKind.TASK if spec is None else StepKind.MAP,
            map=spec,
            retry=retry_policy(use.labels, info.options, self.policies.default_retry),
            timeout=step_timeout(labels, info.options),
            on_failure=self.on_failure,
            queue=self.routing.queue(labels),
            route=self.routing.route(labels),
            context=info.context_parameters,
            options={**({StepOption.OUTPUTS: list(names)} if names else {}), **(options or {})},
        )
        return self._append(step, names, is_output=is_output)

    def add_builtin(
        self, name: str, work: str, *args: Binding, like: TaskUse, after: Iterable[int] = ()
    ) -> int:
        """Add a step of the engine's own, routed as the task is that it works for."""
        labels = {**self.policies.labels, **like.labels}
        step = PlanStep(
            name=self.name(name),
            task=PREFIX + work,
            args=args,
            after=_after(after, args, None),
            on_failure=self.on_failure,
            queue=self.routing.queue(labels),
            route=self.routing.route(labels),
            builtin=work,
        )
        return self._append(step, (), is_output=False)

    def plan(self, kind: str, result: Binding, inputs: Sequence[str], name: str) -> Plan:
        return Plan(
            kind=kind,
            steps=tuple(self.steps),
            result=result,
            inputs=tuple(inputs),
            outputs=tuple(self.outputs),
            name=name,
        )

    def _append(self, step: PlanStep, outputs: Sequence[str], *, is_output: bool) -> int:
        index = len(self.steps)
        self.steps.append(step)
        if is_output and outputs:
            self.outputs.extend((output, Source(index, output)) for output in outputs)
        elif is_output:
            self.outputs.append((step.name, Source(index)))
        return index


def slots(max_parallel: int | None) -> int:
    return DEFAULT_SLOTS if max_parallel is None else max_parallel


def item_spec(
    items: Source | None,
    *,
    max_parallel: int | None = None,
    mode: MapMode = MapMode.MAP,
    skip_errors: bool = False,
) -> MapSpec:
    """Say how a step runs over items, which were bound at the start where there is no source."""
    return MapSpec(items, mode, slots(max_parallel), skip_errors)


def step_name(info: TaskInfo) -> str:
    """What a step is called: its output, or its function where it has several."""
    return info.name if info.multiple_outputs else info.outputs[0]


def _after(
    first: Iterable[int], bindings: Iterable[Binding], spec: MapSpec | None
) -> tuple[int, ...]:
    needed = set(first)
    needed.update(key for binding in bindings for key in sources_of(binding) if key >= 0)
    if spec is not None and spec.items is not None and spec.items.key >= 0:
        needed.add(spec.items.key)
    return tuple(sorted(needed))
