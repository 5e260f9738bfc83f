"""The plan: the immutable graph that every kind of pipeline compiles to, stored with each run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias, cast

from taskiq_flow.codec.facts import read_facts, write_facts
from taskiq_flow.model.records import Join, Limit, OnFailure, StepKind, StepRecord
from taskiq_flow.model.retry import NO_RETRY, RetryPolicy

PLAN_VERSION = 1
"""Stored with every plan, so that a later version can still read it."""


# --- where a value comes from -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Const:
    """A value bound when the pipeline was built; ``text`` is its encoded form."""

    text: str


@dataclass(frozen=True, slots=True)
class Source:
    """The output of step ``key``, or for a negative key the run input number ``-1 - key``.

    ``part`` picks one of several outputs: a key of a returned dict, or a place in a tuple.
    """

    key: int
    part: str | int | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """The element that a map step is run for."""


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of values from several places."""

    parts: tuple[Binding, ...]


@dataclass(frozen=True, slots=True)
class DictOf:
    """A dict of values from several places, in order."""

    parts: tuple[tuple[str, Binding], ...]


Binding: TypeAlias = Const | Source | Item | ListOf | DictOf


def input_key(number: int) -> int:
    """The key under which the run input of this number (from 0) is stored."""
    return -1 - number


def sources_of(binding: Binding) -> tuple[int, ...]:
    """The keys of all values that a binding reads, without repetition, in order."""
    found: dict[int, None] = {}
    stack = [binding]
    while stack:
        match stack.pop():
            case Source(key=key):
                found[key] = None
            case ListOf(parts=parts):
                stack.extend(reversed(parts))
            case DictOf(parts=parts):
                stack.extend(part for _, part in reversed(parts))
            case _:
                pass
    return tuple(found)


# --- policies ---------------------------------------------------------------------------------


class MapMode(StrEnum):
    """What becomes of the results of a map step."""

    MAP = "map"  # they are the new items
    FILTER = "filter"  # they say which items are kept


@dataclass(frozen=True, slots=True)
class MapSpec:
    """How a step runs over items; ``items`` is None when they were bound at the start."""

    items: Source | None
    mode: MapMode = MapMode.MAP
    max_parallel: int = 1000
    skip_errors: bool = False


_NOTHING: Mapping[str, Any] = MappingProxyType({})


class PlanStep(NamedTuple):
    """One step: which task, with what, after which others, under which policies.

    ``after`` are the steps that must have ended first, those whose values it takes included.
    ``builtin`` names work of the engine itself instead of a task. ``context`` names parameters
    that receive the `PipelineContext`.
    """

    name: str
    task: str
    args: tuple[Binding, ...] = ()
    kwargs: tuple[tuple[str, Binding], ...] = ()
    after: tuple[int, ...] = ()
    labels: Mapping[str, Any] = _NOTHING
    kind: StepKind = StepKind.TASK
    map: MapSpec | None = None
    retry: RetryPolicy = NO_RETRY
    timeout: float | None = None
    on_failure: OnFailure = OnFailure.STOP
    join: Join = Join.ALL
    queue: str = ""
    route: str = ""
    limits: tuple[Limit, ...] = ()
    delay_seconds: float | None = None
    event: str | None = None
    lost_most: int = 8
    context: tuple[str, ...] = ()
    builtin: str | None = None
    options: Mapping[str, Any] = _NOTHING


@dataclass(frozen=True)
class Plan:
    """A graph of steps, in an order in which every step comes after those that it needs.

    ``inputs`` are the names of the run inputs, ``result`` says what a run returns, ``outputs``
    under which names values are shown while it runs.
    """

    kind: str
    steps: tuple[PlanStep, ...]
    result: Binding
    inputs: tuple[str, ...] = ()
    outputs: tuple[tuple[str, Source], ...] = ()
    name: str = ""

    @cached_property
    def records(self) -> tuple[StepRecord, ...]:
        """The steps as a run store takes them; the same objects for every run of this plan."""
        successors: list[list[int]] = [[] for _ in self.steps]
        for index, step in enumerate(self.steps):
            for dependency in step.after:
                successors[dependency].append(index)
        head = write_facts({"plan": {"kind": self.kind, "name": self.name}})[:-1]
        return tuple(
            # The blob is what a worker needs of a step: the same bytes in every run of this plan,
            # so it is parsed once.
            _record(index, step, tuple(after), b'%b,"index":%d,%b' % (head, index, text[1:]))
            for index, (step, text, after) in enumerate(
                zip(self.steps, self._step_texts, successors, strict=True)
            )
        )

    @cached_property
    def stored(self) -> bytes:
        """The JSON that is stored with each run."""
        facts = write_facts({**_plan_facts(self), "steps": []})
        return b"".join((facts[:-2], b",".join(self._step_texts), b"]}"))

    @cached_property
    def _step_texts(self) -> tuple[bytes, ...]:
        """The steps as text, which stands in the stored plan and in each step's own record."""
        return tuple(write_facts(step_to_json(step)) for step in self.steps)

    @cached_property
    def is_followed(self) -> bool:
        """Whether the end of a run may leave something to do: children, compensations."""
        marks = {"child", "may_continue", "compensation"}
        return any(not marks.isdisjoint(step.options) for step in self.steps)

    @cached_property
    def result_keys(self) -> tuple[int, ...]:
        return sources_of(self.result)


def _record(index: int, step: PlanStep, successors: tuple[int, ...], blob: bytes) -> StepRecord:
    bindings = (*step.args, *(binding for _, binding in step.kwargs))
    sources = dict.fromkeys(key for binding in bindings for key in sources_of(binding))
    items_from: int | None = None
    if step.map is not None and step.map.items is not None:
        # First, because a worker that is asked to expand reads the items there.
        sources = dict.fromkeys((step.map.items.key, *sources))
        if step.map.items.key >= 0 and step.map.items.part is None:
            items_from = step.map.items.key
    return StepRecord(
        index=index,
        name=step.name,
        task=step.task,
        blob=blob,
        successors=successors,
        need=len(step.after),
        sources=tuple(sources),
        queue=step.queue,
        route=step.route,
        kind=step.kind,
        slots=step.map.max_parallel if step.map is not None else 1,
        items_from=items_from,
        join=step.join,
        lost_most=step.lost_most,
        delay_seconds=step.delay_seconds,
        event=step.event,
        on_failure=step.on_failure,
        limits=step.limits,
    )


# --- JSON -------------------------------------------------------------------------------------


def binding_to_json(binding: Binding) -> Any:
    """Turn a binding into JSON: a list whose first element says what it is."""
    match binding:
        case Const(text=text):
            return ["const", text]
        case Source(key=key, part=part):
            return ["source", key] if part is None else ["source", key, part]
        case Item():
            return ["item"]
        case ListOf(parts=parts):
            return ["list", [binding_to_json(part) for part in parts]]
        case DictOf(parts=parts):
            return ["dict", [[name, binding_to_json(part)] for name, part in parts]]


def binding_from_json(data: Any) -> Binding:
    """Turn JSON back into a binding."""
    match data:
        case ["source", key, *part]:
            return Source(key, part[0] if part else None)
        case ["const", text]:
            return Const(text)
        case ["item"]:
            return Item()
        case ["list", parts]:
            return ListOf(tuple(binding_from_json(part) for part in parts))
        case ["dict", parts]:
            return DictOf(tuple((name, binding_from_json(part)) for name, part in parts))
        case _:
            raise ValueError(f"{data!r} is no binding of plan version {PLAN_VERSION}.")


def step_to_json(step: PlanStep) -> dict[str, Any]:
    """Turn a step into JSON, leaving out what has its default."""
    data: dict[str, Any] = {"name": step.name, "task": step.task}
    if step.args:
        data["args"] = [binding_to_json(binding) for binding in step.args]
    if step.kwargs:
        data["kwargs"] = [[name, binding_to_json(binding)] for name, binding in step.kwargs]
    if step.map is not None:
        data["map"] = {
            "items": None if step.map.items is None else binding_to_json(step.map.items),
            "mode": step.map.mode,
            "max_parallel": step.map.max_parallel,
            "skip_errors": step.map.skip_errors,
        }
    if step.retry != NO_RETRY:
        data["retry"] = {
            name: value
            for name, value in asdict(step.retry).items()
            if value != getattr(NO_RETRY, name)
        }
    if step.limits:
        data["limits"] = [[x.key, x.most, x.per_second, x.burst, x.priority] for x in step.limits]
    for name in _PLAIN_FIELDS:
        value = getattr(step, name)
        if value != _DEFAULTS[name]:
            data[name] = value
    return data


def step_from_json(data: Mapping[str, Any]) -> PlanStep:
    """Turn JSON back into a step; what is not there has its default."""
    facts: dict[str, Any] = {}
    for name, value in data.items():
        read = _READERS.get(name)
        if read is not None:
            facts[name] = read(value)
        elif name in _DEFAULTS or name in ("name", "task"):
            facts[name] = value
    return PlanStep(**facts)


def _map_from_json(data: Mapping[str, Any]) -> MapSpec:
    items = data["items"]
    return MapSpec(
        items=None if items is None else cast("Source", binding_from_json(items)),
        mode=MapMode(data["mode"]),
        max_parallel=data["max_parallel"],
        skip_errors=data["skip_errors"],
    )


def _retry_from_json(data: Mapping[str, Any]) -> RetryPolicy:
    facts: dict[str, Any] = dict(data)
    for name in ("retry_on", "no_retry_on"):
        facts[name] = tuple(facts.get(name, ()))
    return RetryPolicy(**facts)


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "args": lambda data: tuple(binding_from_json(x) for x in data),
    "kwargs": lambda data: tuple((name, binding_from_json(x)) for name, x in data),
    "map": _map_from_json,
    "retry": _retry_from_json,
    "limits": lambda data: tuple(Limit(*x) for x in data),
    "after": tuple,
    "context": tuple,
    "kind": StepKind,
    "on_failure": OnFailure,
    "join": Join,
}
_PLAIN_FIELDS = (
    "after",
    "labels",
    "kind",
    "timeout",
    "on_failure",
    "join",
    "queue",
    "route",
    "delay_seconds",
    "event",
    "lost_most",
    "context",
    "builtin",
    "options",
)
_DEFAULTS: dict[str, Any] = {
    name: getattr(PlanStep(name="", task=""), name) for name in _PLAIN_FIELDS
}


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Turn a plan into JSON."""
    return {**_plan_facts(plan), "steps": [step_to_json(step) for step in plan.steps]}


def _plan_facts(plan: Plan) -> dict[str, Any]:
    return {
        "version": PLAN_VERSION,
        "kind": plan.kind,
        "name": plan.name,
        "inputs": list(plan.inputs),
        "result": binding_to_json(plan.result),
        "outputs": [[name, binding_to_json(source)] for name, source in plan.outputs],
    }


def load_plan(stored: bytes) -> Plan:
    """Read a plan back from what is stored with a run."""
    data = read_facts(stored)
    return Plan(
        kind=data["kind"],
        name=data["name"],
        inputs=tuple(data["inputs"]),
        result=binding_from_json(data["result"]),
        outputs=tuple(
            (name, cast("Source", binding_from_json(source))) for name, source in data["outputs"]
        ),
        steps=tuple(step_from_json(step) for step in data["steps"]),
    )
