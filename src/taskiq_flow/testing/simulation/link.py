"""A process's way to the store: calls that get lost, come late, or find it away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, TypeVar

from taskiq_flow.exceptions import StoreUnavailableError, TaskiqFlowError
from taskiq_flow.model.records import (
    Address,
    EventRecord,
    Finished,
    Grant,
    LostReason,
    NewRun,
    Outcome,
    Ready,
    Refusal,
    RunFilter,
    RunSnapshot,
    RunStatus,
    StepTotal,
    Value,
    Wake,
    WakeKind,
    WorkerRecord,
)
from taskiq_flow.model.state import OpenSlots
from taskiq_flow.stores.base import Ending, EndListener, Held, Page, RunStore
from taskiq_flow.testing.simulation.checks import Host
from taskiq_flow.testing.simulation.clock import VirtualLoop
from taskiq_flow.testing.simulation.faults import Dice, Fault
from taskiq_flow.testing.simulation.store import WatchedStore

T = TypeVar("T")

Call = Callable[[RunStore], Coroutine[Any, Any, T]]

TIMEOUT_SECONDS = 1.0
"""After which a caller takes a call for failed: what a store's socket timeout would be."""


@dataclass(slots=True)
class Wire:
    """The network between all processes and the store."""

    loop: VirtualLoop
    store: WatchedStore
    dice: Dice
    trace: Callable[[str], None]
    away: bool = False
    """Whether the store is away for everybody."""
    outages: list[tuple[float, float]] = field(default_factory=list["tuple[float, float]"])

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something that belongs to no process, so that none takes it into its grave."""
        self.loop.call_later(seconds, act, context=Context())

    def was_away(self, since: float) -> bool:
        return any(end >= since for _, end in self.outages)


class StoreLink(RunStore):
    """The store as one process has it. What is asked of it may happen, or not, or later.

    A process that has died gets no answers, but what it had sent off may still be obeyed.
    """

    shared = True

    def __init__(self, wire: Wire, host: Host, operation: Callable[[], bool]) -> None:
        super().__init__("simulated://", wire.store.options)
        self.wire, self.host = wire, host
        self.cut_off = False
        self._operation = operation  # counts towards a death; False: it died before sending

    def twin(self, *, namespace: str | None = None) -> StoreLink:
        return self

    async def _ask(self, name: str, call: Call[T], tokens: Iterable[str] = ()) -> T:
        reply: asyncio.Future[T] = self.wire.loop.create_future()
        if self._operation():
            request = _Request(self, name, call, tuple(tokens), reply)
            request.send()
        return await reply

    # -- the operations, one by one

    async def open(self) -> None:
        await self._ask("open", lambda store: store.open())

    async def close(self) -> None:
        """Other processes still use it."""

    async def create(
        self, new: NewRun, items: Mapping[int, Iterable[bytes]] | None = None
    ) -> tuple[Ready, ...]:
        return await self._ask("create", lambda store: store.create(new, items))

    async def start(self, address: Address, token: str, *, want: int = 1) -> Grant | Refusal:
        return await self._ask(
            "start", lambda store: store.start(address, token, want=want), [token]
        )

    async def finish(
        self, address: Address, token: str, outcome: Outcome, next_token: str | None
    ) -> Finished:
        tokens = [token, next_token] if next_token else [token]
        return await self._ask(
            "finish", lambda store: store.finish(address, token, outcome, next_token), tokens
        )

    async def renew(self, held: Sequence[Held]) -> dict[str, LostReason]:
        return await self._ask("renew", lambda store: store.renew(held))

    async def release(
        self, address: Address, token: str, *, delay_seconds: float = 0.0
    ) -> tuple[Ready, ...]:
        return await self._ask(
            "release",
            lambda store: store.release(address, token, delay_seconds=delay_seconds),
            [token],
        )

    async def due(self, queues: Sequence[str], *, limit: int = 100) -> tuple[Wake, ...]:
        return await self._ask("due", lambda store: store.due(queues, limit=limit))

    async def settle(self, run_id: str, kind: WakeKind) -> None:
        await self._ask("settle", lambda store: store.settle(run_id, kind))

    async def cancel(self, run_id: str, reason: str) -> bool:
        return await self._ask("cancel", lambda store: store.cancel(run_id, reason))

    async def resume(self, address: Address, note: str) -> tuple[Ready, ...]:
        return await self._ask("resume", lambda store: store.resume(address, note))

    async def send_event(self, run_id: str, name: str, payload: bytes) -> tuple[Ready, ...] | None:
        return await self._ask("event", lambda store: store.send_event(run_id, name, payload))

    async def put_items(self, held: Held, key: int, start: int, values: Sequence[bytes]) -> bool:
        return await self._ask("put", lambda store: store.put_items(held, key, start, values))

    async def items(self, run_id: str, key: int, start: int, stop: int) -> list[bytes | None]:
        return await self._ask("items", lambda store: store.items(run_id, key, start, stop))

    async def values(self, run_id: str, keys: Sequence[int]) -> dict[int, Value]:
        return await self._ask("values", lambda store: store.values(run_id, keys))

    async def get(self, run_id: str, *, steps: bool = True) -> RunSnapshot | None:
        return await self._ask("get", lambda store: store.get(run_id, steps=steps))

    async def open_slots(
        self, run_id: str, steps: Sequence[int], *, limits: Sequence[str] = (), limit: int = 200
    ) -> OpenSlots:
        return await self._ask(
            "slots", lambda store: store.open_slots(run_id, steps, limits=limits, limit=limit)
        )

    async def ending(self, run_id: str, keys: Sequence[int]) -> Ending | None:
        return await self._ask("ending", lambda store: store.ending(run_id, keys))

    async def find(self, key: str) -> str | None:
        return await self._ask("find", lambda store: store.find(key))

    async def plan(self, run_id: str) -> bytes | None:
        return await self._ask("plan", lambda store: store.plan(run_id))

    async def list_runs(
        self, which: RunFilter, *, cursor: str | None = None, limit: int = 100
    ) -> Page:
        return await self._ask(
            "list", lambda store: store.list_runs(which, cursor=cursor, limit=limit)
        )

    async def count_runs(self, where: RunFilter, *, at_most: int | None = None) -> int:
        return await self._ask("count", lambda store: store.count_runs(where, at_most=at_most))

    async def count_ended(
        self, *, since: float, until: float, buckets: int
    ) -> list[dict[RunStatus, int]]:
        return await self._ask(
            "buckets",
            lambda store: store.count_ended(since=since, until=until, buckets=buckets),
        )

    async def step_totals(self, *, newest: int = 200) -> list[StepTotal]:
        return await self._ask("totals", lambda store: store.step_totals(newest=newest))

    async def delete(self, run_id: str) -> bool:
        return await self._ask("delete", lambda store: store.delete(run_id))

    async def purge(self, *, before: float, limit: int = 1000) -> int:
        return await self._ask("purge", lambda store: store.purge(before=before, limit=limit))

    async def events(self, run_id: str, *, after: int = 0, limit: int = 1000) -> list[EventRecord]:
        return await self._ask(
            "events", lambda store: store.events(run_id, after=after, limit=limit)
        )

    async def feed(
        self, *, after: str | None = None, limit: int = 1000, wait_seconds: float = 0.0
    ) -> tuple[list[EventRecord], str]:
        # Without waiting: the memory store would wait on the real clock.
        return await self._ask("feed", lambda store: store.feed(after=after, limit=limit))

    async def note_progress(self, run_id: str, step: int, progress: bytes) -> None:
        await self._ask("progress", lambda store: store.note_progress(run_id, step, progress))

    async def append_log(self, run_id: str, lines: Sequence[bytes]) -> None:
        await self._ask("log", lambda store: store.append_log(run_id, lines))

    async def log(
        self, run_id: str, *, after: int = 0, limit: int = 1000
    ) -> tuple[list[bytes], int]:
        return await self._ask("log", lambda store: store.log(run_id, after=after, limit=limit))

    async def listen(self, listener: EndListener) -> bool:
        """Nothing is pushed: waiting processes ask."""
        return False

    async def ended_among(self, run_ids: Sequence[str]) -> dict[str, RunStatus]:
        return await self._ask("ended", lambda store: store.ended_among(run_ids))

    async def announce(self, worker: WorkerRecord, *, ttl_seconds: float) -> None:
        await self._ask("announce", lambda store: store.announce(worker, ttl_seconds=ttl_seconds))

    async def withdraw(self, worker_id: str) -> None:
        await self._ask("withdraw", lambda store: store.withdraw(worker_id))

    async def workers(self) -> list[WorkerRecord]:
        return await self._ask("workers", lambda store: store.workers())

    async def health(self) -> dict[str, Any]:
        return await self._ask("health", lambda store: store.health())


@dataclass(slots=True)
class _Request:
    """One call on its way to the store and back."""

    link: StoreLink
    name: str
    call: Call[Any]
    tokens: tuple[str, ...]
    reply: asyncio.Future[Any]
    lose_reply: bool = False

    @property
    def wire(self) -> Wire:
        return self.link.wire

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        self.wire.later(seconds, act)

    def send(self) -> None:
        dice = self.wire.dice
        rates, travel = dice.rates, dice.random.uniform(0.0002, 0.003)
        if dice.throw(Fault.SLOW, rates.per_call):
            travel = dice.random.uniform(0.02, 0.3) * self.wire.store.options.lease_seconds
        if dice.throw(Fault.LOST_REQUEST, rates.per_call):
            self.later(TIMEOUT_SECONDS, lambda: self.fail("request lost"))
            return
        if dice.throw(Fault.LATE_REQUEST, rates.per_call / 2):
            late = dice.random.uniform(0.0, 1.5) * self.wire.store.options.lease_seconds
            self.later(TIMEOUT_SECONDS, lambda: self.fail("request late", late=True))
            self.later(TIMEOUT_SECONDS + late, self.obey)
            return
        self.lose_reply = dice.throw(Fault.LOST_REPLY, rates.per_call)
        self.later(travel, self.obey)

    def obey(self) -> None:
        """Arrive at the store, if there is a way, and do there what is asked."""
        wire = self.wire
        if wire.away or self.link.cut_off:
            # A refused connection is seen at once, a silent one after the timeout.
            wait, outage = wire.dice.random.choice((0.005, TIMEOUT_SECONDS)), wire.away
            self.later(wait, lambda: self.fail("store away", outage=outage))
            return
        answer, error = self.happen()
        if self.tokens:
            wire.trace(f"store: {self.link.host.name} {self.name} {self.tokens} {_short(answer)}")
        if self.lose_reply:
            self.later(TIMEOUT_SECONDS, lambda: self.fail("reply lost"))
            return
        back = wire.dice.random.uniform(0.0002, 0.003)
        self.later(back, lambda: self.answer(answer, error))

    def happen(self) -> tuple[Any, Exception | None]:
        store = self.wire.store
        store.ledger.now = self.wire.loop.time()
        store.caller = self.link.host
        work = self.call(store)
        try:
            work.send(None)
        except StopIteration as done:
            return done.value, None
        except TaskiqFlowError as refused:
            return None, refused
        except Exception as error:  # noqa: BLE001 - a broken rule raises anything
            store.ledger.violated("The store does not break", f"{self.name}: {error!r}")
            return None, error
        work.close()
        raise RuntimeError(f"{self.name} of the memory store waits for something")

    def fail(self, why: str, *, outage: bool = False, late: bool = False) -> None:
        wire = self.wire
        wire.trace(f"{self.link.host.name} {self.name} {why}")
        wire.store.ledger.now = wire.loop.time()
        wire.store.ledger.call_failed(
            self.link.host, self.name, self.tokens, outage=outage, late=late
        )
        if not self.reply.done():
            self.reply.set_exception(StoreUnavailableError("simulated://", why))
            self.reply.exception()  # seen: whoever asked may be gone

    def answer(self, answer: Any, error: Exception | None) -> None:
        if self.reply.done():
            return
        if error is None:
            self.reply.set_result(answer)
        else:
            self.reply.set_exception(error)
            self.reply.exception()


def _short(answer: Any) -> str:
    """An answer as one line of a trace."""
    match answer:
        case Grant(address=address, items=items):
            return f"-> {tuple(address)} {[item.number for item in items] or ''}"
        case Finished(recorded=True, grant=Grant(address=address, items=items)):
            return f"-> recorded, next {tuple(address)} {[item.number for item in items] or ''}"
        case Finished(recorded=recorded, ended=ended):
            return f"-> {'recorded' if recorded else 'stale'} {ended or ''}"
        case _:
            return f"-> {answer}"
