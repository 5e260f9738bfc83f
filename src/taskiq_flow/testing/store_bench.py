"""The bench on which a run store is tested: a store on manual time, and runs made in one line."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

from taskiq_flow.events import EventType
from taskiq_flow.model.records import (
    Address,
    Done,
    EventRecord,
    Finished,
    Grant,
    ItemDone,
    ItemMark,
    Items,
    NewRun,
    Outcome,
    Ready,
    Refusal,
    RefusalReason,
    RunSnapshot,
    RunStatus,
    StepKind,
    StepRecord,
    StepSnapshot,
    Wake,
    WakeKind,
)
from taskiq_flow.stores.base import RunStore, StoreOptions
from taskiq_flow.testing.clock import ManualClock

QUEUE = "broker|queue"
LEASE = 8.0
KICK = 4.0
DONE = Done(b'"done"')

ErrorT = TypeVar("ErrorT", bound=Exception)
MakeStore: TypeAlias = Callable[[StoreOptions, ManualClock], RunStore]


@dataclass(frozen=True, slots=True)
class Draft:
    """A step before it has a number; see `step`."""

    name: str
    after: tuple[str, ...]
    facts: Mapping[str, Any]


def step(name: str, *after: str, **facts: Any) -> Draft:
    """A step that needs the steps named ``after``; ``facts`` are fields of `StepRecord`.

    It is given their values, and maps over the first of them if its kind is MAP and no items are
    bound to it.
    """
    return Draft(name, after, facts)


def lay_out(drafts: Sequence[Draft], bound: Iterable[str] = ()) -> tuple[StepRecord, ...]:
    """Number steps in their order, and connect each with those it needs."""
    index = {draft.name: number for number, draft in enumerate(drafts)}
    bound = set(bound)
    records: list[StepRecord] = []
    for draft in drafts:
        maps_over = draft.facts.get("kind") is StepKind.MAP and draft.name not in bound
        facts: dict[str, Any] = {
            "task": f"task:{draft.name}",
            "blob": b"\x00blob of " + draft.name.encode(),
            "queue": QUEUE,
            "need": len(draft.after),
            "sources": tuple(index[name] for name in draft.after),
            "successors": tuple(index[d.name] for d in drafts if draft.name in d.after),
            "items_from": index[draft.after[0]] if maps_over and draft.after else None,
            **draft.facts,
        }
        records.append(StepRecord(index=index[draft.name], name=draft.name, **facts))
    return tuple(records)


@dataclass(slots=True)
class BenchRun:
    """A stored run, driven by the names of its steps."""

    store: RunStore
    new: NewRun
    ready: tuple[Ready, ...] = ()
    index: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def run_id(self) -> str:
        return self.new.run_id

    def at(self, name: str, slot: int = 0) -> Address:
        return Address(self.run_id, self.index[name], slot)

    def names(self, ready: Iterable[Ready]) -> list[str]:
        """The names of steps that are to be sent, sorted; slots of a map stand apart."""
        names = {number: name for name, number in self.index.items()}
        return sorted(names[entry.address.step] for entry in ready)

    async def try_start(
        self, name: str, slot: int = 0, *, token: str | None = None, want: int = 1
    ) -> Grant | Refusal:
        return await self.store.start(self.at(name, slot), token or new_token(), want=want)

    async def start(
        self, name: str, slot: int = 0, *, token: str | None = None, want: int = 1
    ) -> Grant:
        answer = await self.try_start(name, slot, token=token, want=want)
        assert isinstance(answer, Grant), f"{name} was refused: {answer}"
        return answer

    async def refused(self, name: str, slot: int = 0) -> RefusalReason:
        answer = await self.try_start(name, slot)
        assert isinstance(answer, Refusal), f"{name} was granted"
        return answer.reason

    async def finish(
        self, grant: Grant, outcome: Outcome = DONE, next_token: str | None = None
    ) -> Finished:
        return await self.store.finish(grant.address, grant.token, outcome, next_token)

    async def run(self, name: str, outcome: Outcome = DONE) -> Finished:
        """Start a step and finish it at once."""
        finished = await self.finish(await self.start(name), outcome)
        assert finished.recorded, f"the outcome of {name} was not recorded"
        return finished

    async def snapshot(self) -> RunSnapshot:
        snapshot = await self.store.get(self.run_id)
        assert snapshot is not None, "the run is gone"
        return snapshot

    async def status(self) -> RunStatus:
        return (await self.snapshot()).status

    async def step(self, name: str) -> StepSnapshot:
        steps = {found.name: found for found in (await self.snapshot()).steps}
        assert name in steps, f"{name} has not started"
        return steps[name]

    async def events(self) -> list[EventRecord]:
        return await self.store.events(self.run_id)

    async def happened(self, name: str | None = None) -> list[EventType]:
        """The types of the run's events, or of those of one step, in order."""
        number = None if name is None else self.index[name]
        return [e.type for e in await self.events() if name is None or e.step == number]


class StoreBench:
    """A store on manual time with a namespace of its own; `aclose` when the test is over.

    ``make`` is called with options and a clock, more than once where a test needs a second
    namespace on the same data; it must not open the store.
    """

    def __init__(self, make: MakeStore, **options: Any) -> None:
        self._make = make
        self.clock = ManualClock()
        self.options = replace(
            StoreOptions(
                namespace=f"test-{secrets.token_hex(6)}", lease_seconds=LEASE, kick_seconds=KICK
            ),
            **options,
        )
        self._opened: list[RunStore] = []

    @property
    def store(self) -> RunStore:
        return self._opened[0]

    async def __aenter__(self) -> StoreBench:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def open(self, **options: Any) -> RunStore:
        """Open the bench's store; or, later, another one on the same data."""
        return await self._keep(self._make(replace(self.options, **options), self.clock))

    async def twin(self, *, namespace: str | None = None) -> RunStore:
        return await self._keep(self.store.twin(namespace=namespace))

    async def aclose(self) -> None:
        while self._opened:
            await self._opened.pop().close()

    async def _keep(self, store: RunStore) -> RunStore:
        self._opened.append(store)
        await store.open()
        return store

    async def create(
        self,
        *drafts: Draft,
        items: Mapping[str, Sequence[bytes]] | None = None,
        store: RunStore | None = None,
        **facts: Any,
    ) -> BenchRun:
        """Store a run of these steps; ``items`` are bound to map steps, ``facts`` to `NewRun`."""
        target = store or self.store
        run = self.draft(*drafts, items=items, store=store, **facts)
        bound = {run.index[name]: values for name, values in (items or {}).items()}
        run.ready = await target.create(run.new, bound)
        return run

    def draft(
        self,
        *drafts: Draft,
        items: Mapping[str, Sequence[bytes]] | None = None,
        store: RunStore | None = None,
        **facts: Any,
    ) -> BenchRun:
        """A run that is not stored yet."""
        target = store or self.store
        bound = items or {}
        steps = lay_out(drafts, bound)
        index = {record.name: record.index for record in steps}
        defaults: dict[str, Any] = {
            "run_id": f"run-{secrets.token_hex(8)}",
            "namespace": target.options.namespace,
            "steps": steps,
            "plan": b"\x00plan\xff",
            "kind": "pipeline",
            "queue": QUEUE,
            "lengths": {index[name]: len(values) for name, values in bound.items()},
        }
        return BenchRun(target, NewRun(**{**defaults, **facts}), index=index)

    # -- time

    async def due(self, *queues: str, limit: int = 1000) -> tuple[Wake, ...]:
        return await self.store.due(queues or (QUEUE,), limit=limit)

    async def wait(self, seconds: float) -> list[Wake]:
        """Let time pass while somebody keeps asking what is due, and return all of it."""
        woken = [*await self.due()]
        while seconds > 0:
            pace = min(seconds, self.options.lease_seconds / 4)
            self.clock.advance(pace)
            seconds -= pace
            woken += await self.due()
        return woken


def new_token() -> str:
    return secrets.token_hex(8)


def kicked(wakes: Iterable[Wake]) -> list[Address]:
    """The slots that a message is to be sent for, in order of their addresses."""
    return sorted(wake.ready.address for wake in wakes if wake.kind is WakeKind.KICK and wake.ready)


def marked(values: Iterable[bytes]) -> list[bytes]:
    """Items as they are stored."""
    return [ItemMark.VALUE + value for value in values]


def items_done(grant: Grant, **facts: Any) -> Items:
    """Report every granted item as finished, each with its own value."""
    return Items(tuple(ItemDone(item.number, item.value) for item in grant.items), **facts)


async def error_of(kind: type[ErrorT], doing: Awaitable[object]) -> ErrorT:
    """Wait for the error that something must raise."""
    try:
        answer = await doing
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised; the answer was {answer!r}")
