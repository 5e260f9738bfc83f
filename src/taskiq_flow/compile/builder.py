"""Collects the steps of a plan: names them, finds what each waits for, applies policies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from taskiq_flow.compile.arguments import Call
from taskiq_flow.compile.builtin import PREFIX, StepOption
from taskiq_flow.compile.caching import cache_option
from taskiq_flow.compile.limits import step_limits, useful_slots
from taskiq_flow.compile.policies import Policies, retry_policy, step_labels, step_timeout
from taskiq_flow.compile.uses import Routing, TaskUse
from taskiq_flow.dataflow import TaskInfo
from taskiq_flow.model.records import OnFailure, StepKind
from taskiq_flow.plan import Binding, MapMode, MapSpec, Plan, PlanStep, Source, sources_of

DEFAULT_SLOTS = 1000
"""How many items of one map run at once where nothing was said."""


class Labelled(Protocol):
    """A task or a pipeline as a step uses it."""

    @property
    def labels(self) -> Mapping[str, Any]: ...


class _Kept(NamedTuple):
    """The step of a task as its first use made it, for further uses with the same labels."""

    info: TaskInfo
    labels: Mapping[str, Any]
    step: PlanStep


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
    _kept: dict[int, _Kept] = field(default_factory=dict[int, "_Kept"])

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
        names = info.outputs if info.multiple_outputs and spec is None else ()
        if spec is None and options is None:
            # A long chain may use one task many times: only its place is new.
            kept = self._kept.get(id(info))
            if kept is None or kept.labels != use.labels:
                kept = self._kept[id(info)] = _Kept(info, use.labels, self._step(use, info, names))
            step = kept.step
        else:
            step = self._step(use, info, names, spec, options)
        step = step._replace(
            name=name,
            args=call.args,
            kwargs=call.kwargs,
            after=_after(after, (*call.args, *(b for _, b in call.kwargs)), step.map),
        )
        return self._append(step, names, is_output=is_output)

    def _step(
        self,
        use: TaskUse,
        info: TaskInfo,
        names: Sequence[str],
        spec: MapSpec | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> PlanStep:
        """A step of a task, but for its name, its place and its arguments."""
        labels = {**self.policies.labels, **use.labels}
        default = self.policies.retry_over(self.routing.retry)
        limits = step_limits(use.task_name, info.options, self.policies.limits)
        spec = None if spec is None else useful_slots(spec, limits)
        return PlanStep(
            name="",
            task=use.task_name,
            labels=step_labels(labels),
            kind=StepKind.TASK if spec is None else StepKind.MAP,
            map=spec,
            retry=retry_policy(use.labels, info.options, default),
            timeout=step_timeout(labels, info.options),
            on_failure=self.on_failure,
            queue=self.routing.queue(labels),
            route=self.routing.route(labels),
            limits=limits,
            context=info.context_parameters,
            options={
                **({StepOption.OUTPUTS: list(names)} if names else {}),
                **cache_option(info),
                **(options or {}),
            },
        )

    def add_builtin(
        self,
        name: str,
        work: str,
        *args: Binding,
        like: Labelled | None = None,
        after: Iterable[int] = (),
        is_output: bool = False,
        **facts: Any,
    ) -> int:
        """Add a step of the engine's own, routed as the task is that it works for.

        ``facts`` are further fields of the step.
        """
        labels = {**self.policies.labels, **({} if like is None else like.labels)}
        facts.setdefault("on_failure", self.on_failure)
        step = PlanStep(
            name=self.name(name),
            task=PREFIX + work,
            args=args,
            after=_after(after, args, facts.get("map")),
            queue=self.routing.queue(labels),
            route=self.routing.route(labels),
            builtin=work,
            **facts,
        )
        return self._append(step, (), is_output=is_output)

    def change(self, index: int, **facts: Any) -> None:
        """Change fields of a step by what was added after it."""
        self.steps[index] = self.steps[index]._replace(**facts)

    def under(self, policies: Policies, on_failure: OnFailure) -> PlanBuilder:
        """The same plan, for steps under other policies."""
        return replace(self, policies=policies, on_failure=on_failure, _kept={})

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
