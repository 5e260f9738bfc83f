"""Compiles a chain: each step takes what the one before it gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from taskiq_flow.compile.arguments import Calls, Given, bind_call
from taskiq_flow.compile.branches import Ways
from taskiq_flow.compile.builder import PlanBuilder, item_spec, step_name
from taskiq_flow.compile.builtin import MERGE, StepOption
from taskiq_flow.compile.children import Child
from taskiq_flow.compile.compensation import compensate
from taskiq_flow.compile.compiled import (
    Compiled,
    InputSlot,
    element_of,
    list_of,
    optional,
    returned_type,
)
from taskiq_flow.compile.links import (
    After,
    Arm,
    Branch,
    ChildUse,
    Compensate,
    Group,
    Link,
    Map,
    Next,
    Reduce,
    Shape,
    Sleep,
    Use,
    WaitFor,
)
from taskiq_flow.compile.policies import Policies
from taskiq_flow.compile.reduction import add_reduction
from taskiq_flow.compile.shapes import free_parameters, least_shape, size, slot_names
from taskiq_flow.compile.uses import Routing, TaskUse, constant
from taskiq_flow.conditions import Condition, ValueAt
from taskiq_flow.dataflow import TaskInfo
from taskiq_flow.exceptions import BadArgumentsError, EmptyPipelineError
from taskiq_flow.model.records import Join, OnFailure, StepKind
from taskiq_flow.plan import Binding, Item, ListOf, MapMode, MapSpec, Source, input_key


def compile_chain(
    links: Sequence[Link],
    shape: Shape | None,
    policies: Policies,
    routing: Routing,
    *,
    name: str = "",
) -> Compiled:
    """Compile a chain for starts of one shape; None is for a picture of it.

    Raises:
        EmptyPipelineError: There are no links.
        BadArgumentsError: A task cannot be called with what it would receive.
    """
    if not links:
        raise EmptyPipelineError("pipeline", "add a step first, with call_next() or map()")
    on_failure = policies.on_failure(going_on=OnFailure.PASS)
    chain = Chain(PlanBuilder(policies, routing, on_failure), shape)
    for link in links:
        chain.add(link)
    inputs = [slot.name for slot in chain.slots if slot.items_of is None]
    return Compiled(
        plan=chain.builder.plan("sequential", chain.value, inputs, name),
        slots=tuple(chain.slots),
        returns=chain.returns,
        bound_items=chain.bound_items,
    )


_NOTHING = ListOf(())


@dataclass(slots=True)
class Chain:
    """A chain as far as it is compiled: its value, and the steps that the next one waits for."""

    builder: PlanBuilder
    shape: Shape | None
    value: Binding = _NOTHING
    returns: Any = Any
    frontier: tuple[int, ...] = ()
    is_first: bool = True
    slots: list[InputSlot] = field(default_factory=list[InputSlot])
    bound_items: dict[int, Sequence[bytes]] = field(default_factory=dict[int, Sequence[bytes]])
    calls: Calls = field(default_factory=Calls)

    def add(self, link: Link) -> None:
        match link:
            case Sleep():
                self._sleep(link)
                return  # what comes after the first sleep is still what a run is started with
            case Compensate(use=use):
                compensate(self.builder, self.frontier, use)
                return
            case Next(use=use):
                index, returns = self._call(use)
                self._go_on((index,), Source(index), returns)
            case After():
                self._after(link)
            case Map():
                self._map(link)
            case Group(uses=uses):
                self._group(uses)
            case Reduce():
                self._reduce(link)
            case WaitFor():
                self._wait_for(link)
            case Branch():
                self._branch(link)
        self.is_first = False

    def _after(self, link: After) -> None:
        index, returns = self._call(link.use, None if self.is_first else Given())
        if link.replace or self.is_first:
            self._go_on((index,), Source(index), returns)
        else:
            self._go_on((index,), self.value, self.returns)

    def _call(self, use: Use, given: Given | None = None) -> tuple[int, Any]:
        """Add a step that takes the previous value, or what is given; say what it returns."""
        if isinstance(use, ChildUse):
            values = None if given is None else ()
            index, child = self._child(use, use.name, values)
            return index, child.plan.compiled.returns
        info = self.builder.read(use)
        index = self._step(use, info, self._given(use, info) if given is None else given)
        return index, returned_type(info, may_fail=self._may_fail)

    @property
    def _may_fail(self) -> bool:
        return self.builder.on_failure is OnFailure.PASS

    def _go_on(self, frontier: tuple[int, ...], value: Binding, returns: Any) -> None:
        self.frontier, self.value, self.returns = frontier, value, returns

    def _given(self, use: TaskUse, info: TaskInfo, *, item: Binding | None = None) -> Given:
        """What a step receives; the first one what the run is started with.

        ``item`` stands in for the previous value in a map.
        """
        if not self.is_first:
            return Given((self.value if item is None else item,))
        free = free_parameters(use, info, has_item=item is not None)
        shape = self.shape or least_shape(use, info, free)
        names = [*free[: shape.positional], *shape.named]
        names[shape.positional : shape.positional] = [
            f"argument {number}" for number in range(len(free) + 1, shape.positional + 1)
        ]
        sources = [Source(input_key(number)) for number in self._inputs(names)]
        values: list[Binding] = list(sources[: shape.positional])
        if item is not None:
            values.insert(0, item)
        named = dict(zip(shape.named, sources[shape.positional :], strict=True))
        return Given(tuple(values), named, hint="pass {name}= to kiq()", from_start=True)

    def _inputs(self, names: Sequence[str]) -> list[int]:
        """The numbers of the run inputs that a first step takes; those of a group share theirs."""
        if self.shape is not None:
            if not self.slots:
                self.slots.extend(InputSlot(name) for name in names)
            return list(range(len(names)))
        known = [slot.name for slot in self.slots]
        self.slots.extend(InputSlot(name) for name in names if name not in known)
        return [[slot.name for slot in self.slots].index(name) for name in names]

    def _step(self, use: TaskUse, info: TaskInfo, given: Given) -> int:
        name = self.builder.name(step_name(info))
        call = self.calls.bind(name, use, info, given)
        return self.builder.add_task(name, use, info, call, after=self.frontier)

    def _map(self, link: Map) -> None:
        use = link.use
        wanted = link.output or (
            use.name if isinstance(use, ChildUse) else step_name(self.builder.read(use))
        )
        items: Source | None = None
        items_slot: InputSlot | None = None
        if link.items is None and self.is_first:
            items_slot = self._take_items(wanted, link)
        elif link.items is None:
            items = self._items_source(wanted, use)
        spec = item_spec(
            items,
            max_parallel=link.max_parallel,
            mode=link.mode,
            skip_errors=link.skip_errors,
        )
        index, returns = self._map_step(use, wanted, spec)
        if link.items is not None:
            self.bound_items[index] = link.items
        if items_slot is not None:
            self.slots.insert(0, items_slot)
        may_fail = self._may_fail and not link.skip_errors
        if link.mode is MapMode.FILTER:
            returns, may_fail = element_of(self.returns), self._may_fail
        self._go_on((index,), Source(index), list_of(optional(returns) if may_fail else returns))

    def _map_step(self, use: Use, wanted: str, spec: MapSpec) -> tuple[int, Any]:
        """Add a step that is run for items; say what it returns for one."""
        if isinstance(use, ChildUse):
            index, child = self._child(use, wanted, (Item(),), spec)
            return index, child.plan.compiled.returns
        info, name = self.builder.read(use), self.builder.name(wanted)
        call = bind_call(name, use, info, self._given(use, info, item=Item()))
        index = self.builder.add_task(name, use, info, call, after=self.frontier, spec=spec)
        return index, returned_type(info)

    def _take_items(self, name: str, link: Map) -> InputSlot:
        """Take the first value of the start for the items of the first step."""
        if self.shape is not None:
            if not self.shape.positional:
                why = "the items to map over are missing; pass them to kiq() as its first argument"
                called = name if isinstance(link.use, ChildUse) else link.use.task_name
                raise BadArgumentsError(name, called, why)
            self.shape = Shape(self.shape.positional - 1, self.shape.named)
        return InputSlot("items", items_of=len(self.builder.steps))

    def _items_source(self, name: str, use: Use) -> Source:
        """Where the items come from; the values of a group are made one list first."""
        if isinstance(self.value, Source):
            return self.value
        index = self.builder.add_builtin(
            f"{name}.items", "collect", *_parts(self.value), like=use, after=self.frontier
        )
        self.frontier = (index,)
        return Source(index)

    def _group(self, uses: Sequence[Use]) -> None:
        added: list[int] = []
        returns: list[Any] = []
        for use in uses:
            index, returned = self._call(use)
            added.append(index)
            returns.append(returned)
        value = ListOf(tuple(Source(index) for index in added))
        self._go_on(tuple(added), value, list_of(_common(returns)))

    def _reduce(self, link: Reduce) -> None:
        info = self.builder.read(link.use)
        name = self.builder.name(link.output or step_name(info))
        if self.is_first:
            self._take_value(name)
        values = self._items_source(name, link.use)
        index = add_reduction(
            self.builder, name, link.use, info, values, link.how, after=self.frontier
        )
        self._go_on((index,), Source(index), returned_type(info, may_fail=self._may_fail))

    # -- waiting

    def _sleep(self, link: Sleep) -> None:
        index = self.builder.add_builtin(
            "sleep", "sleep", after=self.frontier, kind=StepKind.TIMER, delay_seconds=link.seconds
        )
        self.frontier = (index,)

    def _wait_for(self, link: WaitFor) -> None:
        if self.is_first and self.shape not in (None, Shape()):
            why = "the run begins by waiting for an event; start it without arguments"
            raise BadArgumentsError(link.event, "wait_for", why)
        index = self.builder.add_builtin(
            link.output or link.event,
            "wait_for",
            after=self.frontier,
            is_output=True,
            kind=StepKind.EVENT,
            event=link.event,
            delay_seconds=link.timeout_seconds,
        )
        self._go_on((index,), Source(index), Any)

    # -- pipelines as steps, and branches

    def _child(
        self,
        use: ChildUse,
        name: str,
        values: tuple[Binding, ...] | None = None,
        spec: MapSpec | None = None,
    ) -> tuple[int, Child]:
        """Add a step that starts a run of a pipeline; no values stand for the previous one.

        The first step hands on what the run is started with.
        """
        if self.is_first:
            start = self.shape
            ahead = () if spec is None else (Item(),)
            wanted = None if start is None else Shape(start.positional + len(ahead), start.named)
            child = Child.of(use, wanted)
            count = len(child.plan.compiled.slots) if wanted is None else size(wanted)
            names = slot_names(child, count)[len(ahead) :]
            sources = [Source(input_key(number)) for number in self._inputs(names)]
            values = (*ahead, *sources)
        else:
            values = (self.value,) if values is None else values
            child = Child.of(use, Shape(len(values)))
        policies = self.builder.policies
        index = self.builder.add_builtin(
            name,
            "pipeline",
            *values,
            like=use,
            after=self.frontier,
            is_output=True,
            kind=StepKind.TASK if spec is None else StepKind.MAP,
            map=spec,
            retry=policies.retry_over(self.builder.routing.retry),
            options={StepOption.CHILD: child.to_json()},
        )
        return index, child

    def _branch(self, link: Branch) -> None:
        if self.is_first:
            self._take_value("condition" if link.by_truth else "branch")
        value, returns = self.value, self.returns
        chooser = self._chooser(link)
        arms = [arm for _, arm in link.cases] + ([] if link.default is None else [link.default])
        ends = [self._arm(arm, chooser, value, returns) for arm in arms]
        ways = Ways(
            link.by_truth,
            tuple(key for key, _ in link.cases),
            tuple(entries for _, entries in ends),
        )
        step = self.builder.steps[chooser]
        options = {**step.options, StepOption.WAYS: ways.to_json()}
        # A way that nobody chose must not be gone: where others go on with None, this stops.
        on_failure = OnFailure.SKIP if self._may_fail else step.on_failure
        self.builder.change(chooser, options=options, on_failure=on_failure)
        merge = self.builder.add_builtin(
            f"{step.name}.{MERGE}",
            MERGE,
            Source(chooser),
            *(end.value for end, _ in ends),
            after=(chooser, *(index for end, _ in ends for index in end.frontier)),
            join=Join.ANY,
            options={StepOption.WAYS: ways.to_json()},
        )
        self._go_on((merge,), Source(merge), _common([end.returns for end, _ in ends]))

    def _chooser(self, link: Branch) -> int:
        match link.on:
            case Condition() as condition:
                how, name = ["condition", condition.to_json()], "condition"
            case ValueAt(path=path):
                how, name = ["at", list(path)], "branch"
            case use:
                info = self.builder.read(use)
                return self._step(use, info, Given((self.value,)))
        stored = constant(how, "the condition", name)
        return self.builder.add_builtin(
            name, "choose", self.value, stored, after=self.frontier, is_output=True
        )

    def _arm(
        self, arm: Arm, chooser: int, value: Binding, returns: Any
    ) -> tuple[Chain, tuple[int, ...]]:
        """Compile one way into the same plan; say with which steps it begins."""
        builder, first = self.builder, len(self.builder.steps)
        if arm.policies is not None:
            builder = builder.under(arm.policies, arm.policies.on_failure(going_on=OnFailure.PASS))
        inner = Chain(
            builder,
            None,
            value,
            returns,
            frontier=(chooser,),
            is_first=False,
            slots=self.slots,
            bound_items=self.bound_items,
        )
        for link in arm.links:
            inner.add(link)
        added = range(first, len(self.builder.steps))
        return inner, tuple(index for index in added if chooser in self.builder.steps[index].after)

    def _take_value(self, name: str) -> None:
        """Take the one value that a run is started with for the previous one."""
        if self.shape not in (None, Shape(1)):
            why = "it is the first step, so the run is started with exactly one value for it"
            raise BadArgumentsError(name, name, why)
        self.shape = Shape(1)
        self._inputs(["value"])
        self.value, self.is_first = Source(input_key(0)), False


def _common(returns: Sequence[Any]) -> Any:
    return returns[0] if all(each == returns[0] for each in returns) else Any


def _parts(value: Binding) -> tuple[Binding, ...]:
    return value.parts if isinstance(value, ListOf) else (value,)
