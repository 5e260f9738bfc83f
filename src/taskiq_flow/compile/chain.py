"""Compiles a chain: each step takes what the one before it gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from taskiq_flow.compile.arguments import Given, bind_call
from taskiq_flow.compile.builder import PlanBuilder, item_spec, step_name
from taskiq_flow.compile.compiled import (
    Compiled,
    InputSlot,
    element_of,
    list_of,
    optional,
    returned_type,
)
from taskiq_flow.compile.policies import OnError, Policies
from taskiq_flow.compile.uses import Routing, TaskUse
from taskiq_flow.dataflow import TaskInfo
from taskiq_flow.exceptions import BadArgumentsError, EmptyPipelineError
from taskiq_flow.model.records import OnFailure
from taskiq_flow.plan import Binding, Item, ListOf, MapMode, Source, input_key


@dataclass(frozen=True, slots=True)
class Next:
    """Take the previous value, give the next one."""

    use: TaskUse


@dataclass(frozen=True, slots=True)
class After:
    """Run without the previous value, which passes by unless it is replaced."""

    use: TaskUse
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Map:
    """Run once for each item: of the encoded ``items``, else of the previous value."""

    use: TaskUse
    items: Sequence[bytes] | None = None
    output: str | None = None
    max_parallel: int | None = None
    skip_errors: bool = False
    mode: MapMode = MapMode.MAP


@dataclass(frozen=True, slots=True)
class Group:
    """Run several tasks on the previous value; the list of their results is the next one."""

    uses: tuple[TaskUse, ...]


Link: TypeAlias = Next | After | Map | Group


class Shape(NamedTuple):
    """How a chain is started: so many positional values, and these by name."""

    positional: int = 0
    named: tuple[str, ...] = ()


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
    on_failure = OnFailure.PASS if policies.on_error is OnError.CONTINUE else OnFailure.STOP
    chain = _Chain(PlanBuilder(policies, routing, on_failure), shape)
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
class _Chain:
    """A chain as far as it is compiled: its value, and the steps that the next one waits for."""

    builder: PlanBuilder
    shape: Shape | None
    value: Binding = _NOTHING
    returns: Any = Any
    frontier: tuple[int, ...] = ()
    is_first: bool = True
    slots: list[InputSlot] = field(default_factory=list[InputSlot])
    bound_items: dict[int, Sequence[bytes]] = field(default_factory=dict[int, Sequence[bytes]])

    def add(self, link: Link) -> None:
        match link:
            case Next(use=use):
                info = self.builder.read(use)
                index = self._step(use, info, self._given(use, info))
                self._go_on((index,), Source(index), returned_type(info, may_fail=self._may_fail))
            case After(use=use, replace=replace):
                info = self.builder.read(use)
                given = self._given(use, info) if self.is_first else Given()
                index = self._step(use, info, given)
                if replace or self.is_first:
                    returns = returned_type(info, may_fail=self._may_fail)
                    self._go_on((index,), Source(index), returns)
                else:
                    self._go_on((index,), self.value, self.returns)
            case Map():
                self._map(link)
            case Group(uses=uses):
                self._group(uses)
        self.is_first = False

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
        free = _free_parameters(use, info, has_item=item is not None)
        shape = self.shape or _least_shape(use, info, free)
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
        call = bind_call(name, use, info, given)
        return self.builder.add_task(name, use, info, call, after=self.frontier)

    def _map(self, link: Map) -> None:
        info = self.builder.read(link.use)
        name = self.builder.name(link.output or step_name(info))
        items: Source | None = None
        items_slot: InputSlot | None = None
        if link.items is None and self.is_first:
            items_slot = self._take_items(name, link)
        elif link.items is None:
            items = self._items_source(name, link.use)
        given = self._given(link.use, info, item=Item())
        call = bind_call(name, link.use, info, given)
        spec = item_spec(
            items,
            max_parallel=link.max_parallel,
            mode=link.mode,
            skip_errors=link.skip_errors,
        )
        index = self.builder.add_task(name, link.use, info, call, after=self.frontier, spec=spec)
        if link.items is not None:
            self.bound_items[index] = link.items
        if items_slot is not None:
            self.slots.insert(0, items_slot)
        self._go_on((index,), Source(index), self._map_returns(link, info))

    def _map_returns(self, link: Map, info: TaskInfo) -> Any:
        if link.mode is MapMode.FILTER:
            kept = element_of(self.returns)
            return list_of(optional(kept) if self._may_fail else kept)
        return list_of(returned_type(info, may_fail=self._may_fail and not link.skip_errors))

    def _take_items(self, name: str, link: Map) -> InputSlot:
        """Take the first value of the start for the items of the first step."""
        if self.shape is not None:
            if not self.shape.positional:
                why = "the items to map over are missing; pass them to kiq() as its first argument"
                raise BadArgumentsError(name, link.use.task_name, why)
            self.shape = Shape(self.shape.positional - 1, self.shape.named)
        return InputSlot("items", items_of=len(self.builder.steps))

    def _items_source(self, name: str, use: TaskUse) -> Source:
        """Where the items come from; the values of a group are made one list first."""
        if isinstance(self.value, Source):
            return self.value
        index = self.builder.add_builtin(
            f"{name}.items", "collect", *_parts(self.value), like=use, after=self.frontier
        )
        self.frontier = (index,)
        return Source(index)

    def _group(self, uses: Sequence[TaskUse]) -> None:
        added: list[int] = []
        returns: list[Any] = []
        for use in uses:
            info = self.builder.read(use)
            added.append(self._step(use, info, self._given(use, info)))
            returns.append(returned_type(info, may_fail=self._may_fail))
        same = all(each == returns[0] for each in returns)
        value = ListOf(tuple(Source(index) for index in added))
        self._go_on(tuple(added), value, list_of(returns[0] if same else Any))


def _parts(value: Binding) -> tuple[Binding, ...]:
    return value.parts if isinstance(value, ListOf) else (value,)


def _free_parameters(use: TaskUse, info: TaskInfo, *, has_item: bool) -> list[str]:
    """The parameters that the values of a start go to, in order."""
    free = [name for name in info.parameters if name not in use.kwargs]
    if use.param_name in free:
        free.remove(use.param_name)
        free.insert(0, use.param_name)
    return free[1:] if has_item else free


def _least_shape(use: TaskUse, info: TaskInfo, free: Sequence[str]) -> Shape:
    """The start with the fewest values that a task could be called with."""
    required = [name for name in free if info.parameters[name].is_required]
    needed = required[: max(0, len(required) - len(use.args))]
    by_order = [name for name in needed if info.parameters[name].positional_only]
    return Shape(len(by_order), tuple(name for name in needed if name not in by_order))
