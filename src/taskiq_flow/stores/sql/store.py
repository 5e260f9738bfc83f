"""A run store in SQLite or PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from taskiq_flow.exceptions import StoreUnavailableError
from taskiq_flow.model import transitions
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
from taskiq_flow.stores.base import Ending, EndListener, Held, Page, RunStore, StoreOptions
from taskiq_flow.stores.sql import (
    creation,
    listings,
    migrations,
    operations,
    queries,
    reading,
    statements,
    sums,
    waking,
)
from taskiq_flow.stores.sql.address import open_gate
from taskiq_flow.stores.sql.common import Common
from taskiq_flow.stores.sql.delays import DELAYS, QueueDelays
from taskiq_flow.stores.sql.gate import Gate
from taskiq_flow.stores.sql.operations import NOTHING, Rule, Told
from taskiq_flow.stores.sql.session import ConflictError, Mode, ResultT, Session
from taskiq_flow.stores.sql.writer import SETTLING

if TYPE_CHECKING:
    from sqlalchemy.sql import ClauseElement

PURGED_TOGETHER: Final = 100
"""Runs that are removed in one transaction, so that nobody waits long for it."""

FEED_PAUSE_SECONDS, FEED_PAUSE_MOST_SECONDS = 0.02, 0.25
"""How often the feed is looked at while somebody waits for it."""


class SqlRunStore(RunStore):
    """Runs in SQLite (``sqlite:///file.db``) or PostgreSQL (``postgresql://user@host/name``).

    Several processes may share either. Times are PostgreSQL's, or for SQLite the machine's,
    unless a ``clock`` is given. A server that does not answer a statement within
    ``timeout_seconds`` counts as away, and so does a file that others keep locked for so long.
    A store belongs to one event loop; others take a `twin`.
    """

    shared = True
    forgets = False

    def __init__(
        self,
        url: str,
        options: StoreOptions | None = None,
        *,
        clock: Callable[[], float] | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        super().__init__(url, options or StoreOptions())
        self._clock, self._timeout_seconds = clock, timeout_seconds
        self._pace = self.options.pace
        self._gate: Gate = open_gate(url, self.options.namespace, clock, timeout_seconds)
        self._shown_url = self._gate.options.shown_url
        self._common = Common(QueueDelays(self._pace))
        self._is_open = False

    async def open(self) -> None:
        try:
            if not await self._gate.run(lambda s: migrations.check(s, self._shown_url), Mode.READ):
                await self._gate.run(lambda s: migrations.create(s, self._shown_url), Mode.WRITE)
        except BaseException:
            await self._gate.close()  # whoever tries again may do so with another twin
            raise
        self._is_open = True

    async def close(self) -> None:
        self._is_open = False
        await self._gate.close()

    def leave(self) -> None:
        self._gate.leave()

    def twin(self, *, namespace: str | None = None) -> SqlRunStore:
        options = replace(self.options, namespace=namespace or self.options.namespace)
        other = SqlRunStore(
            self.url, options, clock=self._clock, timeout_seconds=self._timeout_seconds
        )
        if options == self.options:
            other._common, other._gate = self._common, self._gate.twin()
        return other

    def at_once(self) -> SqlRunStore | None:
        found, gate = None, self._gate.at_once()
        if gate is not None:
            found = self.twin()
            found._gate, found.never_waits = gate, True
        return found

    async def migrate(self) -> tuple[str, ...]:
        """Bring an older store up to this version's format; return the formats passed.

        Raises:
            StoreFormatError: No migration leads from its format to ours.
        """
        return await self._gate.run(lambda s: migrations.migrate(s, self._shown_url), Mode.WRITE)

    # -- the life of a run

    async def create(
        self, new: NewRun, items: Mapping[int, Iterable[bytes]] | None = None
    ) -> tuple[Ready, ...]:
        kept = {step: tuple(values) for step, values in (items or {}).items()}
        answer = await self._create(new, kept, None)
        assert not isinstance(answer, Grant), "nothing is granted without a token"
        return answer

    async def create_started(self, new: NewRun, token: str) -> Grant | tuple[Ready, ...]:
        answer = await self._create(new, {}, token)
        if isinstance(answer, Grant) or transitions.first_slot(new) is None:
            return answer
        return await super().create_started(new, token)  # it was there already

    async def _create(
        self, new: NewRun, kept: Mapping[int, Sequence[bytes]], token: str | None
    ) -> Grant | tuple[Ready, ...]:
        if self._common.delays.is_stale:
            self._common.delays.learn(await self._do(_delays, Mode.READ))
        pace = self._common.delays.pace_of(new.queue)
        create = partial(creation.create, new=new, items=kept, token=token, pace=pace)
        try:
            mode = creation.mode_of(new, kept)
            answer, run = await creation.attempt(self._do, new, create, mode)
        except ConflictError:
            why = "other runs of this name come and go"
            raise StoreUnavailableError(self._shown_url, why) from None
        if run is not None and run.state.status.is_final:
            self._common.announce_end(new.run_id, run.state.status)
        return answer

    async def start(self, address: Address, token: str, *, want: int = 1) -> Grant | Refusal:
        start = partial(operations.start, address=address, token=token, want=want, pace=self._pace)
        answer, told = await self._do(start, Mode.WRITE, address.run_id)
        if told is not NOTHING:
            await self._pass_on(told)
        return answer

    async def finish(
        self, address: Address, token: str, outcome: Outcome, next_token: str | None
    ) -> Finished:
        finish = partial(
            operations.finish,
            address=address,
            token=token,
            outcome=outcome,
            next_token=next_token,
            pace=self._pace,
        )
        finished, told = await self._do(finish, Mode.WRITE, address.run_id)
        freed = () if told is NOTHING else await self._pass_on(told)
        return finished._replace(ready=finished.ready + freed) if freed else finished

    async def renew(self, held: Sequence[Held]) -> dict[str, LostReason]:
        if not held:
            return {}
        return await self._do(lambda s: operations.renew(s, held, self._pace), Mode.STATEMENT)

    async def release(
        self, address: Address, token: str, *, delay_seconds: float = 0.0
    ) -> tuple[Ready, ...]:
        rule = operations.release(address, token, delay_seconds, self._pace)
        return await self._apply(address.run_id, rule) or ()

    async def due(self, queues: Sequence[str], *, limit: int = 100) -> tuple[Wake, ...]:
        hold_until, delays = await self._do(
            lambda s: (waking.beat(s, self._pace.lease), _delays(s)), Mode.WRITE
        )
        self._common.delays.learn(delays)
        pace_of = self._common.delays.pace_of
        wakes, freed = await self._change(
            lambda s: waking.Waking(s, hold_until, pace_of).wake_all(queues, limit)
        )
        return wakes + tuple(
            Wake(WakeKind.KICK, ready.address.run_id, ready=ready) for ready in freed
        )

    async def settle(self, run_id: str, kind: WakeKind) -> None:
        await self._execute(statements.SETTLE, run_id=run_id, kind=SETTLING[kind])

    async def cancel(self, run_id: str, reason: str) -> bool:
        return await self._apply(run_id, operations.cancel(reason)) is not None

    async def resume(self, address: Address, note: str) -> tuple[Ready, ...]:
        rule = operations.resume(address, note, self._pace)
        return await self._apply(address.run_id, rule) or ()

    async def send_event(self, run_id: str, name: str, payload: bytes) -> tuple[Ready, ...] | None:
        return await self._apply(run_id, operations.receive(name, payload, self._pace))

    # -- values

    async def put_items(self, held: Held, key: int, start: int, values: Sequence[bytes]) -> bool:
        return await self._do(
            lambda s: operations.put_items(s, held, key, start, values), Mode.WRITE
        )

    async def items(self, run_id: str, key: int, start: int, stop: int) -> list[bytes | None]:
        return await self._do(lambda s: reading.items(s, run_id, key, start, stop), Mode.READ)

    async def values(self, run_id: str, keys: Sequence[int]) -> dict[int, Value]:
        return await self._do(lambda s: reading.values(s, run_id, keys), Mode.READ)

    # -- reading

    async def get(self, run_id: str, *, steps: bool = True) -> RunSnapshot | None:
        return await self._do(lambda s: reading.get(s, run_id, steps=steps), Mode.READ)

    async def get_all(
        self, run_ids: Sequence[str], *, steps: bool = True
    ) -> list[tuple[RunSnapshot, bytes]]:
        return await self._do(lambda s: reading.get_all(s, run_ids, steps=steps), Mode.READ)

    async def open_slots(
        self, run_id: str, steps: Sequence[int], *, limits: Sequence[str] = (), limit: int = 200
    ) -> OpenSlots:
        return await self._do(lambda s: reading.slots(s, run_id, steps, limits, limit), Mode.READ)

    async def ending(self, run_id: str, keys: Sequence[int]) -> Ending | None:
        # An ended run changes no more, so its values need no common moment with its status.
        return await self._do(lambda s: reading.ending(s, run_id, keys), Mode.READ)

    async def find(self, key: str) -> str | None:
        row = await self._do(lambda s: s.row(queries.LATEST_OF_KEY, key=key), Mode.READ)
        return None if row is None else row[0]

    async def plan(self, run_id: str) -> bytes | None:
        row = await self._do(lambda s: s.row(queries.PLAN, run_id=run_id), Mode.READ)
        return None if row is None else row[0]

    async def list_runs(
        self, which: RunFilter, *, cursor: str | None = None, limit: int = 100
    ) -> Page:
        return await self._do(lambda s: listings.list_runs(s, which, cursor, limit), Mode.READ)

    async def count_runs(self, where: RunFilter, *, at_most: int | None = None) -> int:
        return await self._do(lambda s: listings.count_runs(s, where, at_most), Mode.READ)

    async def count_ended(
        self, *, since: float, until: float, buckets: int
    ) -> list[dict[RunStatus, int]]:
        return await self._do(lambda s: sums.count_ended(s, since, until, buckets), Mode.READ)

    async def step_totals(self, *, newest: int = 200) -> list[StepTotal]:
        return await self._do(lambda s: sums.step_totals(s, newest), Mode.READ)

    async def delete(self, run_id: str) -> bool:
        return await self._do(lambda s: reading.delete(s, run_id), Mode.WRITE)

    async def purge(self, *, before: float, limit: int = 1000) -> int:
        purged = 0
        while purged < limit:
            most = min(PURGED_TOGETHER, limit - purged)
            done = await self._do(lambda s, most=most: reading.purge(s, before, most), Mode.WRITE)
            purged += done
            if done < most:
                break
        return purged

    async def events(self, run_id: str, *, after: int = 0, limit: int = 1000) -> list[EventRecord]:
        return await self._do(lambda s: reading.events(s, run_id, after, limit), Mode.READ)

    async def feed(
        self, *, after: str | None = None, limit: int = 1000, wait_seconds: float = 0.0
    ) -> tuple[list[EventRecord], str]:
        until = time.monotonic() + wait_seconds
        pause = FEED_PAUSE_SECONDS
        while True:
            look = partial(reading.feed, after=after, limit=limit)
            fresh, after = await self._do(look, Mode.READ)
            left = until - time.monotonic()
            if fresh or left <= 0:
                return fresh, after
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, FEED_PAUSE_MOST_SECONDS)

    # -- notes that steps leave while they run

    async def note_progress(self, run_id: str, step: int, progress: bytes) -> None:
        await self._execute(statements.NOTE_PROGRESS, run_id=run_id, index=step, body=progress)

    async def append_log(self, run_id: str, lines: Sequence[bytes]) -> None:
        if lines:
            await self._do(lambda s: reading.append_log(s, run_id, lines), Mode.WRITE)

    async def log(
        self, run_id: str, *, after: int = 0, limit: int = 1000
    ) -> tuple[list[bytes], int]:
        return await self._do(lambda s: reading.log(s, run_id, after, limit), Mode.READ)

    # -- who waits, who works

    async def listen(self, listener: EndListener) -> bool:
        """Call the listener for runs that this object or a twin of it ends; others are not told."""
        if listener not in self._common.listeners:
            self._common.listeners.append(listener)
        return False

    async def ended_among(self, run_ids: Sequence[str]) -> dict[str, RunStatus]:
        return await self._do(lambda s: reading.ended_among(s, run_ids), Mode.READ)

    async def announce(self, worker: WorkerRecord, *, ttl_seconds: float) -> None:
        await self._do(lambda s: reading.announce(s, worker, ttl_seconds), Mode.WRITE)

    async def withdraw(self, worker_id: str) -> None:
        await self._execute(statements.WITHDRAW, worker_id=worker_id)

    async def workers(self) -> list[WorkerRecord]:
        return await self._do(reading.workers, Mode.READ)

    async def health(self) -> dict[str, Any]:
        await self._do(lambda s: s.facts(), Mode.READ)  # the first call may have to connect
        asked_at = time.perf_counter()
        facts = await self._do(lambda s: {**s.facts(), "clock": s.now}, Mode.READ)
        return {**facts, "latency_ms": (time.perf_counter() - asked_at) * 1000}

    # -- how

    def _do(
        self, work: Callable[[Session], ResultT], mode: Mode, about: str | None = None
    ) -> Awaitable[ResultT]:
        if self._is_open:
            return self._gate.run(work, mode, about)
        return self._open_and_do(work, mode, about)

    async def _open_and_do(
        self, work: Callable[[Session], ResultT], mode: Mode, about: str | None
    ) -> ResultT:
        await self.open()
        return await self._gate.run(work, mode, about)

    async def _execute(self, statement: ClauseElement, **values: Any) -> None:
        await self._do(lambda s: s.execute(statement, **values), Mode.STATEMENT)

    async def _change(
        self, work: Callable[[Session], tuple[ResultT, Told]], about: str | None = None
    ) -> tuple[ResultT, tuple[Ready, ...]]:
        """Run an operation and pass on what it tells; return also the slots this makes ready."""
        result, told = await self._do(work, Mode.WRITE, about)
        return result, await self._pass_on(told)

    async def _pass_on(self, told: Told) -> tuple[Ready, ...]:
        """Let others hear what an operation tells; return the slots that this makes ready."""
        for run_id, status in told.ended:
            self._common.announce_end(run_id, status)
        if told.delay is not None:
            queue, seconds = told.delay
            worth_telling = self._common.delays.observe(queue, seconds)
            if worth_telling is not None:
                row = (self.options.namespace, queue, worth_telling)
                await self._do(lambda s: s.writes[DELAYS].append(row), Mode.STATEMENT)
        ready: tuple[Ready, ...] = ()
        for address in told.freed:
            # Not in the same transaction: it holds another run. Should this be lost, the slot
            # looks again by itself.
            rule = operations.hurry(address, self._pace)
            ready += await self._apply(address.run_id, rule) or ()
        return ready

    async def _apply(self, run_id: str, rule: Rule) -> tuple[Ready, ...] | None:
        change = partial(operations.change, run_id=run_id, rule=rule)
        ready, freed = await self._change(change, run_id)
        return None if ready is None else ready + freed


def _delays(session: Session) -> list[tuple[str, float]]:
    return [(queue, seconds) for queue, seconds in session.rows(statements.DELAYS)]
