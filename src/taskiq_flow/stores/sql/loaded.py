"""A run in a transaction: as much of it as the rules touch, and what they changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from taskiq_flow.model.limits import LimitBook
from taskiq_flow.model.records import (
    NONE_VALUE,
    Address,
    Grant,
    ItemGrant,
    SequenceValue,
    StepKind,
    StepStatus,
    Value,
    WakeKind,
)
from taskiq_flow.model.state import Claim, RunState, SlotState, SlotStatus, StepState
from taskiq_flow.stores.sql import schema, statements
from taskiq_flow.stores.sql.lazy import At, LazyBlocked, LazyInbox, LazySlots, LazySteps
from taskiq_flow.stores.sql.limits import StoredLimits
from taskiq_flow.stores.sql.rows import (
    RUN_CHANGES,
    RUN_COUNTERS,
    RUN_LOADED,
    SLOT_CHANGES,
    STEP_CHANGES,
    RunFacts,
    from_run,
    from_slot,
    from_step,
    to_run,
    to_slot,
    to_step,
)
from taskiq_flow.stores.sql.session import Row, Session, Target, Verb
from taskiq_flow.stores.sql.writer import SETTLING, RunWriter, is_sequence

RUN_ALL: Final = Target(Verb.UPDATE, schema.run, ("rid",), RUN_CHANGES)
RUN_SOME: Final = Target(Verb.UPDATE, schema.run, ("rid",), RUN_COUNTERS)
STEPS: Final = Target(Verb.UPDATE, schema.step, ("rid", "idx"), STEP_CHANGES)
KNOWN_SLOTS: Final = Target(Verb.UPDATE, schema.slot, ("rid", "step", "slot"), SLOT_CHANGES)
RETRIES: Final = Target(Verb.UPSERT, schema.retry, ("rid", "step", "idx"), ("attempt", "due"))
NO_RETRIES: Final = Target(Verb.DELETE, schema.retry, ("rid", "step", "idx"))
INBOX: Final = Target(Verb.UPSERT, schema.inbox, ("rid", "name"), ("payload",))

NO_LIMITS: Final = LimitBook()
"""Of runs whose step has none; nobody puts anything in."""

KEPT_BYTES: Final = 4096
"""A run whose values take more than this is read again."""

_CHANGES_AT: Final = statements.STEP_WIDTH - len(STEP_CHANGES)
_RUN_FIXED: Final = len(RUN_LOADED) - len(RUN_CHANGES)
_COUNTERS_AT: Final = len(RUN_CHANGES) - len(RUN_COUNTERS)
_RETRYING, _ITEMS_KEY = STEP_CHANGES.index("retrying"), STEP_CHANGES.index("items_key")
_SLOT_STATUS, _SLOT_TURN = SLOT_CHANGES.index("status"), SLOT_CHANGES.index("turn")


class LoadedRun(RunWriter):
    """The rules see a whole `RunState`; what they look at that is not here is fetched then.

    The run's row is locked, so nothing of it changes meanwhile. `save` writes the differences
    between the rows as they are and what the rules made of them. A short run goes on from there
    with the next operation, see `KeptRuns`.
    """

    __slots__ = (
        *("_retries_were", "_slots_were", "_steps_were", "_was_short"),
        *("_limits", "was"),
    )

    def __init__(self, session: Session, facts: RunFacts, state: RunState, was: Row) -> None:
        super().__init__(session, facts, state)
        self.was = was
        self._limits: StoredLimits | None = None
        self._was_short = False
        self._steps_were: dict[int, Row] = {}
        self._slots_were: dict[At, Row | None] = {}
        self._retries_were: dict[At, tuple[int, float | None]] = {}

    @classmethod
    def of(cls, session: Session, row: Row) -> LoadedRun:
        """A run of which nothing is here yet but its row."""
        facts, state = to_run(row)
        run = cls(session, facts, state, tuple(row[_RUN_FIXED:]))
        state.steps, state.slots, state.inbox = LazySteps(run), LazySlots(run), LazyInbox(run)
        if state.max_parallel is not None:
            state.blocked = LazyBlocked(run, last_turn=facts.turn)
        return run

    def begin(self, steps: dict[int, Row], slots: dict[At, Row | None]) -> None:
        """Note that the whole run is stored now, in these rows."""
        self._steps_were, self._slots_were = steps, slots
        self._leave()

    def go_on(self, session: Session) -> None:
        """Take up another operation."""
        self.session = session

    @property
    def limits(self) -> LimitBook:
        """The limits that the operation looks at; a short run has none."""
        if self._was_short:
            return NO_LIMITS
        if self._limits is None:
            self._limits = StoredLimits(self.session)
        return self._limits

    # -- loading

    def load_place(self, step: int, slot: int, *, near: bool = False) -> None:
        """Fetch a step with one of its slots; ``near`` brings what it may open."""
        known = self.state.steps.get(step) if (step, slot) in self._slots_were else None
        if known is not None and not (near and known.record.successors):
            return
        statement = statements.PLACE_AND_NEAR if near else statements.PLACE
        for row in self.session.rows(statement, rid=self.rid, step=step, slot=slot):
            self.take_step(row)
            if row[0] == step:
                self.take_slot((step, slot), row[statements.STEP_WIDTH : -1])
            self.session.note_now(row[-1])

    def load_waiting(self, event: str) -> None:
        """Fetch the steps that wait for an event now."""
        for row in self.session.rows(
            statements.WAITING_STEPS, rid=self.rid, event=event, status=StepStatus.READY.value
        ):
            self.take_step(row)

    def take_step(self, row: Row) -> None:
        """Make a step that was read part of the state, unless it is there already."""
        index: int = row[0]
        if index in self.state.steps:
            return
        step = self.state.steps[index] = to_step(row[: statements.STEP_WIDTH])
        was = self._steps_were[index] = tuple(row[_CHANGES_AT : statements.STEP_WIDTH])
        if was[_RETRYING]:
            first = self.session.rows(statements.RETRIES_DUE_FIRST, rid=self.rid, step=index)
            self._take_retries(step, first)

    def take_slot(self, at: At, row: Row | None) -> None:
        """Make a slot that was read part of the state; nulls, or no row: there is none."""
        if row is None or row[_SLOT_STATUS] is None:
            self._slots_were[at] = None
            return
        slot = self.state.slots[at] = to_slot(row)
        self._slots_were[at] = tuple(row)
        if slot.items and self.state.steps[at[0]].record.kind is StepKind.MAP:
            self._load_items_in_flight(at[0], slot)

    def _load_items_in_flight(self, index: int, slot: SlotState) -> None:
        if self._steps_were[index][_RETRYING]:
            rows = self.session.rows(
                statements.RETRIES_IN_FLIGHT, rid=self.rid, step=index, indexes=list(slot.items)
            )
            self._take_retries(self.state.steps[index], rows)

    def _take_retries(self, step: StepState, rows: Iterable[Row]) -> None:
        for number, attempt, due in rows:
            key = (step.record.index, number)
            if key not in self._retries_were:
                self._retries_were[key] = (attempt, due)
                step.note_attempt(number, attempt)
                if due is not None:
                    step.retry_item(number, due)

    def fetch_step(self, index: int) -> None:
        for row in self.session.rows(statements.STEP_AND_NEAR, rid=self.rid, step=index):
            self.take_step(row)

    def fetch_slot(self, at: At) -> None:
        if at not in self._slots_were:
            self.take_slot(
                at, self.session.row(statements.SLOT, rid=self.rid, step=at[0], slot=at[1])
            )

    def fetch_blocked(self, after: int, limit: int) -> Sequence[tuple[At, int]]:
        found: list[tuple[At, int]] = []
        for step, slot, *row in self.session.rows(
            statements.BLOCKED_SLOTS, rid=self.rid, after=after, limit=limit
        ):
            if (step, slot) not in self._slots_were:
                self.take_slot((step, slot), row)
            found.append(((step, slot), row[_SLOT_TURN]))
        return found

    def fetch_payload(self, name: str) -> bytes | None:
        row = self.session.row(statements.INBOX, rid=self.rid, name=name)
        return None if row is None else row[0]

    # -- granting

    def grant(self, claim: Claim) -> Grant:
        """Hand out a slot that was claimed."""
        step, slot = self.state.steps[claim.at[0]], self.state.slots[claim.at]
        items: tuple[ItemGrant, ...] = ()
        if claim.items:
            bodies = self._read_items(step, [index for index, _ in claim.items])
            items = tuple(ItemGrant(index, bodies[index], tries) for index, tries in claim.items)
        return Grant(
            address=Address(self.run_id, *claim.at),
            token=claim.token,
            blob=step.record.blob,
            values=self._read_values(step.record.sources),
            attempt=slot.attempt,
            lost=slot.lost,
            granted_at=self.session.now if slot.started_at is None else slot.started_at,
            ready_at=slot.ready_at,
            run_started_at=self.state.started_at or self.state.created_at,
            run_name=self.facts.name,
            deadline=self.state.deadline,
            items=items,
            length=step.length,
            expand=claim.expand,
            note=slot.note,
            step_started_at=step.started_at,
        )

    def unsettled(self) -> tuple[WakeKind, ...]:
        """What is still to be done about the run's end."""
        return tuple(
            kind
            for kind in self.settling()
            if self.session.row(statements.SLOT, rid=self.rid, step=SETTLING[kind], slot=0)
        )

    def items_key(self, step: StepState) -> int:
        was = self._steps_were.get(step.record.index)
        if was is None or was[_ITEMS_KEY] is None:
            return super().items_key(step)
        return was[_ITEMS_KEY]

    def _read_items(self, step: StepState, indexes: Sequence[int]) -> dict[int, bytes]:
        key = self.items_key(step)
        found = self.session.pairs(
            statements.ITEMS,
            rid=self.rid,
            key=key,
            start=min(indexes),
            stop=max(indexes) + 1,
        )
        return {**found, **self.items.get(key, {})}

    def _read_values(self, keys: Sequence[int]) -> tuple[Value, ...]:
        known = self.values
        if not all(map(known.__contains__, keys)):
            self._load_values([key for key in keys if key not in known])
        return tuple([known.get(key, NONE_VALUE) for key in keys])

    def _load_values(self, keys: Sequence[int]) -> None:
        unknown: list[int] = []
        for key in keys:
            step = self.state.steps.get(key)  # only if it is here
            if step is not None and is_sequence(step):
                self.values[key] = SequenceValue(key, step.out_length or 0)
            else:
                unknown.append(key)
        if unknown:
            for row in self.session.rows(statements.VALUES, rid=self.rid, keys=unknown):
                self.values[row[0]] = to_value(*row)

    # -- saving

    def save(self) -> None:
        """Have written what has changed."""
        state = self.state
        for index, step in [*state.steps.items()]:
            self._save_step(index, step)
        for at, slot in state.slots.items():
            self._save_slot(at, slot)
        for name, payload in state.inbox.items():
            self.session.writes[INBOX].append((self.rid, name, payload))
        if self._limits is not None:
            self._limits.save()
        self._save_run()
        if type(state.steps) is not dict:
            # What was not here is not looked at any more; and a state that can fetch it would lie
            # in a circle with what it fetches with, for the collector to find.
            state.steps, state.slots, state.inbox = dict(state.steps), dict(state.slots), {}
        self._leave()

    def _leave(self) -> None:
        """Leave the run to the next operation, if all that it will look at is here."""
        if self.state.status.is_final or not (self._was_short or self._is_short()):
            self.session.forget(self.run_id)
        else:
            self._was_short = True
            self.session.keep(self)

    def _is_short(self) -> bool:
        """Whether its own rows are all that the beginning and the end of its step look at.

        Until it ends it stays so.
        """
        state, known = self.state, self.values
        if state.remaining != 1 or len(state.steps) != 1 or len(state.slots) != 1:
            return False
        (step,) = state.steps.values()
        if step.status.is_final or state.max_parallel is not None:
            return False
        record = step.record
        if record.kind is not StepKind.TASK or record.successors or record.limits:
            return False
        if not all(map(known.__contains__, record.sources)):
            return False
        return sum(map(len, known.values())) <= KEPT_BYTES

    def _save_run(self) -> None:
        changes = from_run(self.state, self.seq, self.turn)
        # The other columns are indexed, and SQLite moves what it is told to write.
        if changes[:_COUNTERS_AT] != self.was[:_COUNTERS_AT]:
            self.session.writes[RUN_ALL].append((self.rid, *changes))
        elif changes != self.was:
            self.session.writes[RUN_SOME].append((self.rid, *changes[_COUNTERS_AT:]))
        self.was = changes

    def _save_step(self, index: int, step: StepState) -> None:
        was = self._steps_were[index]
        more_retrying, items_key = 0, was[_ITEMS_KEY]
        if step.record.kind is StepKind.MAP and step.length is not None:
            more_retrying, items_key = self._save_retries(index, step), self.items_key(step)
        changes = from_step(step, was[_RETRYING] + more_retrying, items_key)
        if changes != was:
            self.session.writes[STEPS].append((self.rid, index, *changes))
            if step.out_length is not None and step.status != was[0]:
                self.put_sequence(index, step)
            self._steps_were[index] = changes

    def _save_retries(self, index: int, step: StepState) -> int:
        """Write the items that failed; return how many more of them there are than before."""
        due = {number: at for at, number in step.retries or ()}
        before = {
            number: row for (step, number), row in self._retries_were.items() if step == index
        }
        after = {
            number: (step.attempt_of(number), due.get(number))
            for number in {*(step.attempts or ()), *due}
        }
        for number, row in after.items():
            if before.get(number) != row:
                self.session.writes[RETRIES].append((self.rid, index, number, *row))
        gone = before.keys() - after.keys()
        self.session.writes[NO_RETRIES] += [(self.rid, index, number) for number in gone]
        return len(after) - len(before)

    def _save_slot(self, at: At, slot: SlotState) -> None:
        was = self._slots_were.get(at)
        turn: int | None = None
        if slot.status is SlotStatus.BLOCKED:
            if was is not None and was[_SLOT_TURN] is not None:
                turn = was[_SLOT_TURN]
            else:
                self.turn += 1
                turn = self.turn
        changes = from_slot(slot, turn)
        if changes != was:
            if was is None:
                self.put_slot(at, changes, self.state.steps[at[0]].record.queue)
            else:
                self.session.writes[KNOWN_SLOTS].append((self.rid, *at, *changes))
            self._slots_were[at] = changes


def to_value(key: int, body: bytes | None, length: int | None) -> Value:
    return SequenceValue(key, length or 0) if body is None else body


def open_run(session: Session, run_id: str, at: At | None = None) -> LoadedRun | None:
    """Lock a run and begin to load it, with a place in it if that costs nothing."""
    run = session.kept(run_id)
    if run is not None:
        run.go_on(session)
        return run
    place = None if at is None else session.place(run_id, at)
    if at is not None and place is not None:
        run = LoadedRun.of(session, place.run)
        run.take_step(place.step)
        run.take_slot(at, place.slot)
        return run
    row = session.row(statements.RUN, run_id=run_id)
    return None if row is None else LoadedRun.of(session, row)
