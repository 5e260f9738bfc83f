"""A run store in the memory of one process: the model itself, behind a lock."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from taskiq_flow.model import transitions
from taskiq_flow.model.limits import after_outage
from taskiq_flow.model.records import (
    Address,
    Finished,
    Grant,
    LostReason,
    NewRun,
    Outcome,
    Ready,
    Refusal,
    RefusalReason,
    RunStatus,
    Wake,
    WakeKind,
    bound_items_key,
    stored_items,
)
from taskiq_flow.model.state import Effects, RunState, SlotStatus
from taskiq_flow.stores.base import TICK_SECONDS, Held
from taskiq_flow.stores.memory_kept import KeptRun, Shared
from taskiq_flow.stores.memory_reads import MemoryReads

PUBLISH_AGAIN_SECONDS = 5.0
"""How long the worker that saw a run end has to publish it before another one does."""

DEADLINE, PUBLISH, NOTIFY = -1, -2, -3
"""Stand for the step where a due entry belongs to the run itself."""


class MemoryRunStore(MemoryReads):
    """Runs in this process; gone with it.

    Safe to use from several threads: the lease thread renews through a `twin`.
    """

    def twin(self, *, namespace: str | None = None) -> MemoryRunStore:
        if namespace in (None, self.options.namespace):
            return MemoryRunStore(self.options, clock=self._clock, _shared=self._data)
        options = replace(self.options, namespace=namespace)
        with self._data.lock:
            shared = self._data.elsewhere.setdefault(namespace, Shared())
        return MemoryRunStore(options, clock=self._clock, _shared=shared)

    # -- the life of a run

    async def create(
        self, new: NewRun, items: Mapping[int, Iterable[bytes]] | None = None
    ) -> tuple[Ready, ...]:
        answer = self._create(new, items or {}, None)
        assert not isinstance(answer, Grant), "nothing is granted without a token"
        return answer

    async def create_started(self, new: NewRun, token: str) -> Grant | tuple[Ready, ...]:
        with self._data.lock:
            if new.run_id not in self._data.runs:
                return self._create(new, {}, token)
        return await super().create_started(new, token)

    def _create(
        self, new: NewRun, items: Mapping[int, Iterable[bytes]], token: str | None
    ) -> Grant | tuple[Ready, ...]:
        stored: dict[int, dict[int, bytes]] = {}
        for step, values in items.items():
            stored[step if step in new.done else bound_items_key(step)] = dict(enumerate(values))
        with self._data.lock:
            known = self._data.runs.get(new.run_id)
            if known is not None:
                slots = known.state.slots.items()
                waiting = [at for at, slot in slots if slot.status is SlotStatus.READY]
                return known.ready(() if known.state.status.is_final else waiting)
            self._data.admit(new)
            now = self._clock()
            pace = self._pace_of(new.queue)
            if token is None:
                state, effects = transitions.create(new, now, pace)
            else:
                state, effects = transitions.create_started(new, token, now, pace)
            run = KeptRun(new, state, dict(new.inputs), stored, [new.run_id])
            self._data.runs[new.run_id] = run
            if new.key is not None:
                self._data.by_key[new.key] = new.run_id
            if new.tick is not None:
                self._data.forget_ticks(now - max(TICK_SECONDS, self.options.retention_seconds))
                self._data.ticks[new.tick] = now
            if new.backlog is not None:
                run.pending = True
                name = new.backlog[0]
                self._data.backlog[name] = self._data.backlog.get(name, 0) + 1
            if state.deadline is not None:
                self._queue(run, (DEADLINE, 0), state.deadline)
            ready = self._apply(run, effects, now)
            if effects.claim is None:
                return ready
            self._queue_slot(run, effects.claim.at)
            return run.grant(effects.claim, now)

    async def start(self, address: Address, token: str, *, want: int = 1) -> Grant | Refusal:
        with self._data.lock:
            run = self._data.runs.get(address.run_id)
            if run is None:
                return Refusal(RefusalReason.GONE)
            now = self._clock()
            at = (address.step, address.slot)
            delay = run.delay_of(at, now)
            data = self._data
            data.limits.holds_back = after_outage(
                now, data.last_due, data.hold_until, self._pace.lease
            )
            answer = transitions.start(
                run.state, at, token, now, self._pace, self._data.limits, want
            )
            if isinstance(answer, Refusal):
                self._queue_slot(run, at)
                return answer
            if delay is not None:
                self._observe_delay(run.new.steps[address.step].queue, delay)
            self._apply(run, answer, now)
            claim = answer.claim
            if claim is None:  # pragma: no cover - a start that is not refused claims
                return Refusal(RefusalReason.DONE)
            self._queue_slot(run, at)
            return run.grant(claim, now)

    async def finish(
        self, address: Address, token: str, outcome: Outcome, next_token: str | None
    ) -> Finished:
        with self._data.lock:
            run = self._data.runs.get(address.run_id)
            if run is None:
                return Finished(recorded=False)
            now = self._clock()
            at = (address.step, address.slot)
            items = stored_items(outcome, address.step)
            if items is not None and len(run.items.get(items[0], ())) < items[1]:
                return Finished(recorded=False)
            effects = transitions.finish(
                run.state, at, token, outcome, next_token, now, self._pace, self._data.limits
            )
            if effects is None:
                return Finished(recorded=False)
            if effects.items:
                run.items.setdefault(address.step, {}).update(effects.items)
            again = effects.repeated
            ready = run.ready(effects.ready) if again else self._apply(run, effects, now)
            self._queue_slot(run, at)
            grant = None
            if effects.claim is not None:
                self._queue_slot(run, effects.claim.at)
                grant = run.grant(effects.claim, now)
            return Finished(
                recorded=effects.recorded,
                ready=ready,
                grant=grant,
                ended=run.state.status if effects.ended else None,
                retry_at=effects.retry_at,
                wakes=run.unsettled_wakes() if effects.ended else (),
            )

    async def renew(self, held: Sequence[Held]) -> dict[str, LostReason]:
        lost: dict[str, LostReason] = {}
        with self._data.lock:
            now = self._clock()
            for lease in held:
                run = self._data.runs.get(lease.address.run_id)
                at = (lease.address.step, lease.address.slot)
                reason = transitions.renew(
                    run.state if run else None, at, lease.token, now, self._pace, self._data.limits
                )
                if reason is not None:
                    lost[lease.token] = reason
                elif run is not None:
                    self._queue_slot(run, at)
        return lost

    async def release(
        self, address: Address, token: str, *, delay_seconds: float = 0.0
    ) -> tuple[Ready, ...]:
        with self._data.lock:
            run = self._data.runs.get(address.run_id)
            if run is None:
                return ()
            now = self._clock()
            at = (address.step, address.slot)
            effects = transitions.release(
                run.state, at, token, delay_seconds, now, self._pace, self._data.limits
            )
            if effects is None:
                return ()
            self._queue_slot(run, at)
            return self._apply(run, effects, now)

    async def due(self, queues: Sequence[str], *, limit: int = 100) -> tuple[Wake, ...]:
        with self._data.lock:
            now = self._clock()
            data = self._data
            if data.last_due is None or now - data.last_due > self._pace.lease / 2:
                data.hold_until = now + self._pace.lease if data.last_due is not None else 0.0
            data.last_due = now
            wakes: list[Wake] = []
            for queue in queues:
                # In rounds: what becomes due by that comes after what was due with it.
                while found := data.take_due(queue, now, limit - len(wakes)):
                    for when, run_id, step, number in found:
                        run = data.runs.get(run_id)
                        if run is not None and run.queued.get((step, number)) == when:
                            del run.queued[step, number]
                            if self._is_due(run, (step, number), when):
                                wakes.extend(self._wake(run, (step, number), now))
            return tuple(wakes)

    def _is_due(self, run: KeptRun, at: tuple[int, int], when: float) -> bool:
        """Whether an entry tells the truth; a slot that is due later is queued for then."""
        slot = run.state.slots.get(at)
        if slot is None or slot.due is None or slot.due <= when or run.state.status.is_final:
            return True
        self._queue(run, at, slot.due)
        return False

    def _wake(self, run: KeptRun, at: tuple[int, int], now: float) -> Iterable[Wake]:
        if at[0] in (PUBLISH, NOTIFY):
            kind = WakeKind.PUBLISH if at[0] == PUBLISH else WakeKind.NOTIFY
            if kind not in run.unsettled:
                return ()
            self._queue(run, at, now + PUBLISH_AGAIN_SECONDS)
            return (Wake(kind, run.new.run_id, parent=run.new.parent),)
        if at[0] == DEADLINE:
            effects = transitions.pass_deadline(run.state, now)
        else:
            pace = self._pace_of(run.new.steps[at[0]].queue)
            effects = transitions.wake(run.state, at, now, pace, self._data.hold_until)
            self._queue_slot(run, at)
        if effects is None:
            return ()
        ready = self._apply(run, effects, now)
        wakes = [Wake(WakeKind.KICK, entry.address.run_id, ready=entry) for entry in ready]
        if effects.ended:
            wakes.extend(run.unsettled_wakes())
        return wakes

    async def settle(self, run_id: str, kind: WakeKind) -> None:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            if run is not None:
                run.unsettled = tuple(left for left in run.unsettled if left is not kind)

    async def cancel(self, run_id: str, reason: str) -> bool:
        return (
            self._change(run_id, lambda run, now: transitions.cancel(run, reason, now)) is not None
        )

    async def resume(self, address: Address, note: str) -> tuple[Ready, ...]:
        at = (address.step, address.slot)
        ready = self._change(
            address.run_id,
            lambda run, now: transitions.resume(run, at, note, now, self._pace),
        )
        return ready or ()

    async def send_event(self, run_id: str, name: str, payload: bytes) -> tuple[Ready, ...] | None:
        return self._change(
            run_id, lambda run, now: transitions.receive(run, name, payload, now, self._pace)
        )

    def _change(
        self, run_id: str, rule: Callable[[RunState, float], Effects | None]
    ) -> tuple[Ready, ...] | None:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            if run is None:
                return None
            now = self._clock()
            effects = rule(run.state, now)
            return None if effects is None else self._apply(run, effects, now)

    # -- doing what the rules ask for

    def _apply(self, run: KeptRun, effects: Effects, now: float) -> tuple[Ready, ...]:
        """Save values and events, queue what became due, and name what is to be sent."""
        if effects.values:
            run.values.update(effects.values)
        if effects.events:
            self._data.record(run, effects, now)
        for at in effects.ready:
            self._queue_slot(run, at)
        for at in effects.sleeping:
            self._queue_slot(run, at)
        ready = run.ready(effects.ready) if effects.ready else ()
        for address in effects.freed:
            ready += self._hurry(address, now)
        if run.pending and run.state.status is not RunStatus.PENDING:
            run.pending = False
            name = run.new.backlog[0] if run.new.backlog else ""
            self._data.backlog[name] -= 1
        if effects.ended:
            self._end(run, now)
        return ready

    def _hurry(self, address: Address, now: float) -> tuple[Ready, ...]:
        run = self._data.runs.get(address.run_id)
        if run is None:
            return ()
        effects = transitions.hurry(run.state, (address.step, address.slot), now, self._pace)
        return () if effects is None else self._apply(run, effects, now)

    def _end(self, run: KeptRun, now: float) -> None:
        if run.new.parent is not None:
            run.unsettled += (WakeKind.NOTIFY,)
            self._queue(run, (NOTIFY, 0), now + PUBLISH_AGAIN_SECONDS)
        if run.new.publish:
            run.unsettled += (WakeKind.PUBLISH,)
            self._queue(run, (PUBLISH, 0), now + PUBLISH_AGAIN_SECONDS)
        for listener in self._data.listeners:
            listener(run.new.run_id, run.state.status)
        self._data.ended[run.new.run_id] = None
        while len(self._data.ended) > self.options.retained_runs:
            self._drop(next(iter(self._data.ended)))

    def _drop(self, run_id: str) -> None:
        self._data.ended.pop(run_id, None)
        run = self._data.runs.pop(run_id, None)
        if run is None:
            return
        self._data.listing.forget(run)
        key = run.new.key
        if key is not None and self._data.by_key.get(key) == run_id:
            del self._data.by_key[key]

    def _queue_slot(self, run: KeptRun, at: tuple[int, int]) -> None:
        if run.state.status.is_final:
            return  # its slots keep their due times; queued again, they would be due for ever
        slot = run.state.slots.get(at)
        if slot is not None and slot.due is not None:
            self._queue(run, at, slot.due)

    def _queue(self, run: KeptRun, at: tuple[int, int], due: float) -> None:
        """Put a due time into its queue's heap, unless an earlier one of the slot is there."""
        queued = run.queued.get(at)
        if queued is not None and queued <= due:
            return
        run.queued[at] = due
        queue = run.new.steps[at[0]].queue if at[0] >= 0 else run.new.queue
        heapq.heappush(self._data.due.setdefault(queue, []), (due, run.new.run_id, *at))

    def _observe_delay(self, queue: str, seconds: float) -> None:
        known = self._data.delays.get(queue, 0.0)
        self._data.delays[queue] = max(seconds, known * 0.9)

    def _pace_of(self, queue: str) -> transitions.Pace:
        """Wait three times what the queue has lately taken before a message counts as lost."""
        base = max(self._pace.kick, 3 * self._data.delays.get(queue, 0.0))
        return self._pace if base == self._pace.kick else self._pace._replace(kick=base)

    # -- values

    async def put_items(self, held: Held, key: int, start: int, values: Sequence[bytes]) -> bool:
        with self._data.lock:
            run = self._data.runs.get(held.address.run_id)
            if run is None or run.state.status.is_final:
                return False
            slot = run.state.slots.get((held.address.step, held.address.slot))
            if slot is None or slot.token != held.token:
                return False
            run.items.setdefault(key, {}).update(enumerate(values, start))
            return True

    # -- removal

    async def delete(self, run_id: str) -> bool:
        with self._data.lock:
            run = self._data.runs.get(run_id)
            if run is None or not run.state.status.is_final:
                return False
            self._drop(run_id)
            return True

    async def purge(self, *, before: float, limit: int = 1000) -> int:
        with self._data.lock:
            old = [
                run_id
                for run_id, run in self._data.runs.items()
                if run.state.ended_at is not None and run.state.ended_at < before
            ][:limit]
            for run_id in old:
                self._drop(run_id)
            return len(old)
