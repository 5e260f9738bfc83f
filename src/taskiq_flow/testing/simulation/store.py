"""The one store of a simulated cluster: a memory store that is watched and can forget."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from taskiq_flow.events import EventType
from taskiq_flow.model.records import (
    Address,
    EventRecord,
    Finished,
    Grant,
    Limit,
    LostReason,
    Outcome,
    Ready,
    Refusal,
    Wake,
)
from taskiq_flow.model.records import Items as ItemsOutcome
from taskiq_flow.model.state import RunState, SlotStatus
from taskiq_flow.stores.base import Held, StoreOptions
from taskiq_flow.stores.memory import MemoryRunStore
from taskiq_flow.testing.simulation.checks import Host, Ledger, Unit

T = TypeVar("T")

STEP_ENDS = frozenset({EventType.STEP_COMPLETED, EventType.STEP_FAILED, EventType.STEP_SKIPPED})
RUN_ENDS = frozenset({EventType.RUN_COMPLETED, EventType.RUN_FAILED, EventType.RUN_CANCELLED})


class WatchedStore(MemoryRunStore):
    """A memory store that tells a ledger of every lease, and can forget its last moments.

    ``caller`` is the process on whose behalf the next operation is made.
    """

    shared = True

    def __init__(self, options: StoreOptions, clock: Callable[[], float]) -> None:
        super().__init__(options, clock=clock)
        self.caller: Host | None = None
        self.ledger = Ledger(options.lease_seconds, self)

    # -- what the checks ask

    def states(self) -> Iterable[RunState]:
        return (run.state for run in self._data.runs.values())

    def unsettled(self) -> list[str]:
        """Ended runs whose end is still to be told."""
        return [run_id for run_id, run in self._data.runs.items() if run.unsettled]

    def is_recorded(self, unit: Unit) -> bool:
        run = self._data.runs.get(unit[0])
        if run is None:
            return False
        if unit[2] is not None:
            return unit[2] in run.items.get(unit[1], {})
        return run.state.steps[unit[1]].status.is_final

    def may_begin(self, unit: Unit) -> bool:
        run = self._data.runs.get(unit[0])
        return run is None or run.state.steps[unit[1]].waiting_for == 0

    def limits_of(self, unit: Unit) -> tuple[Limit, ...]:
        run = self._data.runs.get(unit[0])
        return () if run is None else run.state.steps[unit[1]].record.limits

    def ended_at(self, run_id: str) -> float | None:
        """On the virtual clock, as everything in the ledger."""
        run = self._data.runs.get(run_id)
        if run is None or run.state.ended_at is None:
            return None
        return run.state.ended_at - self._clock() + self.ledger.now

    # -- leases

    async def start(self, address: Address, token: str, *, want: int = 1) -> Grant | Refusal:
        answer = await super().start(address, token, want=want)
        if isinstance(answer, Grant):
            self._claimed(answer)
        self._check(address.run_id)
        return answer

    async def finish(
        self, address: Address, token: str, outcome: Outcome, next_token: str | None
    ) -> Finished:
        run = self._data.runs.get(address.run_id)
        state = None if run is None else run.state
        is_open = state is not None and not (
            state.status.is_final or state.steps[address.step].status.is_final
        )
        before = {} if run is None else dict(run.items.get(address.step, {}))
        slot = None if run is None else run.state.slots.get((address.step, address.slot))
        again = slot is not None and slot.finish_token == token
        answer = await super().finish(address, token, outcome, next_token)
        self.ledger.finished(address, token, recorded=answer.recorded, open_=is_open)
        if answer.recorded and not again and isinstance(outcome, ItemsOutcome):
            for item in outcome.done:
                if is_open and item.number in before:
                    self.ledger.violated(
                        "An outcome is recorded once", f"item {item.number} of {address}"
                    )
        if answer.grant is not None:
            self._claimed(answer.grant)
        self._check(address.run_id)
        return answer

    def _claimed(self, grant: Grant) -> None:
        if self.caller is not None:
            items = [item.number for item in grant.items]
            self.ledger.claimed(self.caller, grant.address, grant.token, items)

    async def renew(self, held: Sequence[Held]) -> dict[str, LostReason]:
        lost = await super().renew(held)
        for lease in held:
            if lease.token not in lost:
                self.ledger.confirmed(lease.token)
        return lost

    async def release(
        self, address: Address, token: str, *, delay_seconds: float = 0.0
    ) -> tuple[Ready, ...]:
        ready = await super().release(address, token, delay_seconds=delay_seconds)
        self.ledger.given_back(token)
        self._check(address.run_id)
        return ready

    async def due(self, queues: Sequence[str], *, limit: int = 100) -> tuple[Wake, ...]:
        _, position = await self.feed()
        wakes = await super().due(queues, limit=limit)
        fresh, _ = await self.feed(after=position)
        for event in fresh:
            if event.type is EventType.STEP_LOST and event.step is not None:
                address = Address(event.run_id, event.step, event.slot or 0)
                slot = self._data.runs[event.run_id].state.slots[address.step, address.slot]
                self.ledger.lost(address, slot.last_token)
            self._check(event.run_id)
        return wakes

    # -- what must be true of a run at any time

    def _check(self, run_id: str) -> None:
        run = self._data.runs.get(run_id)
        if run is None or run.state.status.is_final:
            return
        state, running = run.state, 0
        for at, slot in state.slots.items():
            running += slot.status is SlotStatus.RUNNING
            self._check_slot(state, at, slot.status, slot.due)
        if running != state.running:
            self.ledger.violated(
                "Running slots are counted", f"{running} run, {state.running} are counted"
            )
        if state.max_parallel is not None and running > state.max_parallel:
            self.ledger.violated("A run keeps to its max_parallel", f"{run_id} runs {running}")

    def _check_slot(
        self, state: RunState, at: tuple[int, int], status: SlotStatus, due: float | None
    ) -> None:
        waits = status in (SlotStatus.READY, SlotStatus.RUNNING, SlotStatus.TIMER)
        if waits and due is None:
            self.ledger.violated("Nothing is forgotten", f"{state.run_id} {at} is never due")
        elif waits:
            queued = self._data.runs[state.run_id].queued.get(at)
            if queued is None or (due is not None and queued > due):
                self.ledger.violated(
                    "Nothing is forgotten", f"{state.run_id} {at} is due and nobody will look"
                )
        elif status is SlotStatus.BLOCKED and at not in (state.blocked or ()):
            self.ledger.violated("Nothing is forgotten", f"{state.run_id} {at} is blocked by none")

    def check_ended(self, state: RunState, events: Sequence[EventRecord]) -> None:
        """What must be true of a run that has ended."""
        ends = [event for event in events if event.type in RUN_ENDS]
        if len(ends) != 1:
            self.ledger.violated("A run ends once", f"{state.run_id} ended {len(ends)} times")
        steps = [event.step for event in events if event.type in STEP_ENDS]
        if len(steps) != len(set(steps)):
            self.ledger.violated("A step ends once", f"{state.run_id}: {sorted(map(str, steps))}")
        for index, step in state.steps.items():
            items = self._data.runs[state.run_id].items.get(index, {})
            whole = step.length is not None and step.status.value == "COMPLETED"
            if whole and len(items) != step.length:
                self.ledger.violated(
                    "Every item is recorded", f"{len(items)} of {step.length} in {state.run_id}"
                )

    # -- failover

    def snapshot(self) -> Any:
        """A copy of all that is stored, as an asynchronous replica has it."""
        memo: dict[int, Any] = {id(self._data.lock): self._data.lock}
        memo[id(self._data.listeners)] = self._data.listeners
        memo[id(self._data.feed)] = self._data.feed
        for run in self._data.runs.values():
            memo[id(run.new)] = run.new
            for step in run.state.steps.values():
                memo[id(step.record)] = step.record
        return copy.deepcopy(self._data, memo)

    def roll_back(self, snapshot: Any) -> None:
        """Go on from a copy; what was acknowledged since is forgotten."""
        self._data = snapshot
        self.ledger.rolled_back()
