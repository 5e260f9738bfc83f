"""What an operation writes of one run, gathered until all of it is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from taskiq_flow.model.records import (
    Ready,
    RunStatus,
    SequenceValue,
    StepStatus,
    Value,
    WakeKind,
    bound_items_key,
)
from taskiq_flow.model.state import Effects, RunState, SlotState, SlotStatus, StepState
from taskiq_flow.stores.sql import schema, statements
from taskiq_flow.stores.sql.rows import (
    SLOT_CHANGES,
    SLOT_FIXED,
    RunFacts,
    from_events,
    from_slot,
    to_ready,
)
from taskiq_flow.stores.sql.session import Row, Session, Target, Verb

DEADLINE: Final = -1
SETTLING: Final = {WakeKind.PUBLISH: -2, WakeKind.NOTIFY: -3}
"""Stand for the step in the slots that are due for the run itself."""

PUBLISH_AGAIN_SECONDS: Final = 5.0
"""How long the worker that saw a run end has to publish it before another one does."""

SLOTS: Final = Target(
    Verb.UPSERT, schema.slot, ("rid", "step", "slot"), (*SLOT_FIXED, *SLOT_CHANGES)
)
VALUES: Final = Target(Verb.UPSERT, schema.value, ("rid", "key"), ("body", "length"))
ITEMS: Final = Target(Verb.UPSERT, schema.item, ("rid", "key", "idx"), ("body",))
EVENTS: Final = Target(
    Verb.INSERT, schema.event, ("namespace", "rid", "seq"), ("count", "at", "body")
)


class RunWriter:
    """Turns what the rules ask for into rows."""

    __slots__ = ("facts", "items", "rid", "run_id", "seq", "session", "state", "turn", "values")

    def __init__(self, session: Session, facts: RunFacts, state: RunState) -> None:
        self.session, self.facts, self.state = session, facts, state
        self.rid, self.run_id = facts.rid, facts.run_id
        self.seq: int = facts.seq
        self.turn: int = facts.turn
        # What was written or read by this or an earlier operation on it.
        self.values: dict[int, Value] = {}
        self.items: dict[int, dict[int, bytes]] = {}

    def apply(self, effects: Effects) -> tuple[Ready, ...]:
        """Note values and events, end the run if it ended, and name what is to be sent."""
        for key, body in effects.values.items():
            self.put_value(key, body)
        if effects.events:
            session, count = self.session, len(effects.events)
            self.seq += count
            body = from_events(*effects.events)
            row = (session.namespace, self.rid, self.seq, count, session.now, body)
            session.writes[EVENTS].append(row)
        if effects.ended:
            self._end()
        return self.ready(effects)

    def ready(self, effects: Effects) -> tuple[Ready, ...]:
        if not effects.ready:
            return ()
        steps, run_id = self.state.steps, self.run_id
        return tuple([to_ready(run_id, steps[at[0]].record, at[1]) for at in effects.ready])

    def put_value(self, key: int, value: Value) -> None:
        self.values[key] = value
        body, length = (None, value.length) if isinstance(value, SequenceValue) else (value, None)
        self.session.writes[VALUES].append((self.rid, key, body, length))

    def put_sequence(self, index: int, step: StepState) -> None:
        """Note that the output of a step that is complete lies in `item`, if it does."""
        if is_sequence(step) and not isinstance(self.values.get(index), bytes):
            self.put_value(index, SequenceValue(index, step.out_length or 0))

    def put_items(self, key: int, items: Mapping[int, bytes]) -> None:
        # The step that these complete may open one that is granted them in the same call.
        self.items.setdefault(key, {}).update(items)
        self.session.writes[ITEMS] += [(self.rid, key, *item) for item in items.items()]

    def put_slot(self, at: tuple[int, int], changes: Row, queue: str) -> None:
        """Write a slot: ``changes`` are its `SLOT_CHANGES`."""
        row = (self.rid, *at, self.session.namespace, queue, *changes)
        self.session.writes[SLOTS].append(row)

    def set_due(self, step: int, due: float | None) -> None:
        """Say when something is to be done for the run itself."""
        slot = SlotState(SlotStatus.TIMER, due, ready_at=self.session.now)
        self.put_slot((step, 0), from_slot(slot, None), self.facts.queue)

    def settling(self) -> tuple[WakeKind, ...]:
        """What is to be done about the run's end."""
        notify = () if self.state.parent is None else (WakeKind.NOTIFY,)
        return (*notify, WakeKind.PUBLISH) if self.state.publish else notify

    def items_key(self, step: StepState) -> int:
        """Where the items of a map lie: with the step that made them, or by themselves."""
        source = step.record.items_from
        if source is not None and self.state.steps[source].out_length is not None:
            return source
        return bound_items_key(step.record.index)

    def _end(self) -> None:
        if self.state.status is not RunStatus.COMPLETED or self.state.deadline is not None:
            # What a completed run leaves behind (idle slots of a map) is dropped when it is due.
            self.session.execute(statements.QUIET, rid=self.rid)
            for slot in self.state.slots.values():
                slot.due = None
        for kind in self.settling():
            self.set_due(SETTLING[kind], self.session.now + PUBLISH_AGAIN_SECONDS)


def is_sequence(step: StepState) -> bool:
    return step.status is StepStatus.COMPLETED and step.out_length is not None
