"""Random runs to simulate: a plan, what its steps will do, and a client's plans for it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from taskiq_flow.codec import encode
from taskiq_flow.model.records import ItemMark, Join, Limit, OnFailure, StepKind
from taskiq_flow.plan import (
    Binding,
    Item,
    ListOf,
    MapMode,
    MapSpec,
    Plan,
    PlanStep,
    RetryPolicy,
    Source,
    input_key,
)


class Work(StrEnum):
    """The tasks of a simulated worker; the names that its broker knows them by."""

    VALUE = "sim:value"  # an async function that returns a number
    LIST = "sim:list"  # an async function that returns a list
    STREAM = "sim:stream"  # an async generator
    THREAD = "sim:thread"  # a sync function, run in a thread


@dataclass(frozen=True, slots=True)
class Script:
    """What the function of a step does; the same for all its items, but for ``broken`` ones.

    Each of the first ``fails`` tries fails. ``hangs`` says that a failing try does nothing until
    its timeout. A ``broken`` item fails always; None stands for a step that is no map.
    ``length`` is that of the list it returns; ``filters`` says that it returns a truth value.
    """

    seconds: tuple[float, ...] = (0.01,)
    fails: int = 0
    hangs: bool = False
    blocks: float = 0.0
    broken: frozenset[int | None] = frozenset()
    aborts: bool = False
    length: int = 0
    filters: bool = False


@dataclass(frozen=True, slots=True)
class Workload:
    """One run: what is created, and what its client does with it.

    ``event_after`` is when the event that its steps wait for is sent. ``cancel_after`` is when
    its client cancels it. All in seconds after the run was created.
    """

    run_id: str
    plan: Plan
    scripts: tuple[Script, ...]
    inputs: tuple[int, ...]
    items: Mapping[int, tuple[int, ...]]
    start_after: float
    timeout_seconds: float | None = None
    max_parallel: int | None = None
    cancel_after: float | None = None
    event_after: float | None = None
    waits: bool = True

    @property
    def encoded_items(self) -> dict[int, list[bytes]]:
        return {
            step: [ItemMark.VALUE + encode(value, where="item") for value in values]
            for step, values in self.items.items()
        }


EVENT = "go"

_SECONDS = (0.0, 0.01, 0.2, 1.0, 2.5)
_LIMITS = (Limit("database", most=1), Limit("service", most=2), Limit("rate", per_second=4.0))


@dataclass(slots=True)
class WorkloadMaker:
    """Makes runs by chance; steps take up to 1.4 ``lease``, ``limited`` of them share limits."""

    random: random.Random
    queue: str
    lease: float
    limited: float = 0.2
    _steps: list[PlanStep] = field(default_factory=list[PlanStep])
    _scripts: list[Script] = field(default_factory=list[Script])
    _items: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])

    def make(self, number: int, seed: object) -> Workload:
        chance = self.random
        self._steps, self._scripts, self._items = [], [], {}
        for index in range(chance.choice((1, 2, 3, 4, 5, 6))):
            self._add_step(index)
        ends = [
            index
            for index in range(len(self._steps))
            if all(index not in step.after for step in self._steps)
        ]
        plan = Plan(
            kind="dataflow",
            steps=tuple(self._steps),
            result=ListOf(tuple(Source(index) for index in ends)),
            inputs=("x", "y"),
        )
        return Workload(
            run_id=f"run-{seed}-{number}",
            plan=plan,
            scripts=tuple(self._scripts),
            inputs=(chance.randrange(1000), chance.randrange(1000)),
            items=dict(self._items),
            start_after=chance.uniform(0.0, 6.0),
            timeout_seconds=chance.uniform(5.0, 40.0) if chance.random() < 0.12 else None,
            max_parallel=chance.choice((1, 2)) if chance.random() < 0.25 else None,
            cancel_after=chance.uniform(0.0, 12.0) if chance.random() < 0.12 else None,
            event_after=chance.uniform(0.0, 8.0),
            waits=chance.random() < 0.5,
        )

    def _add_step(self, index: int) -> None:
        chance = self.random
        after = self._dependencies(index)
        script = self._script()
        step = PlanStep(
            name=f"step{index}",
            task=Work.VALUE,
            args=(self._arguments(after),),
            after=after,
            queue=self.queue,
            route='{"priority":1}' if chance.random() < 0.1 else "",
            on_failure=chance.choice((OnFailure.STOP, OnFailure.PASS, OnFailure.SKIP)),
            join=chance.choice((Join.ALL, Join.ALL, Join.ANY)) if after else Join.ALL,
            retry=RetryPolicy(max_attempts=script.fails + 1, delay=0.3, backoff=1.5),
            limits=(chance.choice(_LIMITS),) if chance.random() < self.limited else (),
            lost_most=chance.choice((0, 2)) if chance.random() < 0.04 else 8,
            context=("ctx",),
        )
        kind = chance.random()
        sources = [one for one in after if self._gives_items(one)]
        if kind < 0.05:
            step = step._replace(
                kind=StepKind.TIMER, delay_seconds=chance.uniform(0.0, 3.0), args=()
            )
        elif kind < 0.1:
            step = self._event(step)
        elif kind < 0.25 or (sources and kind < 0.6):
            step, script = self._map(step, script, index, sources)
        elif kind < 0.68:
            step = step._replace(task=chance.choice((Work.LIST, Work.STREAM)))
            script = replace(script, length=chance.choice((0, 1, 3, 6)))
        elif kind < 0.76:
            step = step._replace(task=Work.THREAD)
        if step.task is Work.STREAM:
            script = replace(script, hangs=False)
        if script.hangs:
            step = step._replace(timeout=chance.choice((0.5, 1.5)))
            most = step.timeout or 0.0
            # A try that does not hang is done in time: whether it was would be chance.
            script = replace(script, seconds=tuple(min(x, most / 4) for x in script.seconds))
        self._steps.append(step)
        self._scripts.append(script)

    def _dependencies(self, index: int) -> tuple[int, ...]:
        chance = self.random
        if not index:
            return ()
        if chance.random() < 0.6:
            return (index - 1,)
        wanted = chance.sample(range(index), chance.randint(0, min(3, index)))
        return tuple(sorted(wanted))

    def _arguments(self, after: Sequence[int]) -> ListOf:
        parts: list[Binding] = [Source(one) for one in after]
        if not after or self.random.random() < 0.2:
            parts.append(Source(input_key(self.random.choice((0, 1)))))
        return ListOf(tuple(parts))

    def _script(self) -> Script:
        chance = self.random
        seconds = tuple(chance.choice(_SECONDS) for _ in range(chance.choice((1, 3))))
        if chance.random() < 0.1:
            seconds = (self.lease * 1.4,)
        fails = chance.choice((1, 2)) if chance.random() < 0.25 else 0
        hangs = bool(fails) and chance.random() < 0.3
        blocks = self.lease * 1.5 if chance.random() < 0.1 else 0.0
        broken = chance.random() < 0.08
        aborts = chance.random() < 0.015
        return Script(
            seconds=seconds,
            fails=fails,
            # What hangs for ever cannot abort.
            hangs=hangs and not (broken and aborts),
            blocks=blocks,
            broken=frozenset({None, 0, 2}) if broken else frozenset(),
            aborts=aborts,
        )

    def _event(self, step: PlanStep) -> PlanStep:
        # Without a time limit the event comes; with one it never does.
        limited = self.random.random() < 0.3
        return step._replace(
            kind=StepKind.EVENT,
            event="never" if limited else EVENT,
            delay_seconds=self.random.uniform(0.5, 3.0) if limited else None,
            args=(),
        )

    def _map(
        self, step: PlanStep, script: Script, index: int, sources: Sequence[int]
    ) -> tuple[PlanStep, Script]:
        chance = self.random
        items: Source | None = None
        if sources:
            items = Source(chance.choice(sources))
        else:
            self._items[index] = tuple(
                chance.randrange(1000) for _ in range(chance.choice((0, 1, 4, 9)))
            )
        spec = MapSpec(
            items=items,
            mode=MapMode.FILTER if chance.random() < 0.2 else MapMode.MAP,
            max_parallel=chance.choice((1, 2, 4)),
            skip_errors=chance.random() < 0.2,
        )
        others = tuple(Source(one) for one in step.after if items is None or one != items.key)
        step = step._replace(
            kind=StepKind.MAP,
            map=spec,
            args=(ListOf((Item(), *others)),),
            task=Work.THREAD if chance.random() < 0.15 else Work.VALUE,
            join=Join.ALL if sources else step.join,
        )
        seconds = tuple(min(x, 1.0) for x in script.seconds)
        return step, replace(script, seconds=seconds, filters=spec.mode is MapMode.FILTER)

    def _gives_items(self, index: int) -> bool:
        """Whether a step that is not skipped gives a list for sure, for a map to run over."""
        step = self._steps[index]
        if step.kind is StepKind.MAP:
            return True
        fails = bool(self._scripts[index].broken) and step.on_failure is OnFailure.PASS
        return step.task in (Work.LIST, Work.STREAM) and step.kind is StepKind.TASK and not fails
