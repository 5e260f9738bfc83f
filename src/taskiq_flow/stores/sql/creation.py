"""How a run is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from taskiq_flow.exceptions import BacklogFullError, DuplicatePipelineError, DuplicateTickError
from taskiq_flow.model import transitions
from taskiq_flow.model.records import (
    Grant,
    NewRun,
    Ready,
    StepKind,
    StepRecord,
    bound_items_key,
)
from taskiq_flow.model.state import SlotStatus, StepState
from taskiq_flow.model.transitions import Pace
from taskiq_flow.stores.base import CHUNK
from taskiq_flow.stores.sql import schema, statements
from taskiq_flow.stores.sql.lazy import At
from taskiq_flow.stores.sql.loaded import LoadedRun
from taskiq_flow.stores.sql.rows import (
    RUN_CREATED,
    STEP_CHANGES,
    STEP_FIXED,
    RunFacts,
    from_new,
    from_record,
    from_run,
    from_slot,
    from_step,
    to_ready,
    to_step,
)
from taskiq_flow.stores.sql.session import ConflictError, Mode, Row, Session, Target, Verb
from taskiq_flow.stores.sql.writer import DEADLINE, ITEMS

TRIES: Final = 5
"""How often a run is tried whose obstacle was gone each time that it was looked for."""

RUNS: Final = Target(Verb.INSERT, schema.run, ("rid",), RUN_CREATED)
STEPS: Final = Target(Verb.INSERT, schema.step, ("rid", "idx"), (*STEP_FIXED, *STEP_CHANGES))
NEAR: Final = Target(Verb.INSERT, schema.near, ("rid", "src", "dst"))
PLANS: Final = Target(Verb.INSERT, schema.plan, ("rid",), ("body",))
TAGS: Final = Target(Verb.UPSERT, schema.tag, ("rid", "tag"), ("namespace", "created_at"))
TICKS: Final = Target(Verb.INSERT, schema.tick, ("namespace", "tick"), ("at",))


def mode_of(new: NewRun, items: Mapping[int, Sequence[bytes]]) -> Mode:
    """A run that needs no look at others, and fits, is stored by one statement."""
    many = sum(len(values) for values in items.values()) > CHUNK
    return Mode.WRITE if many or new.backlog is not None else Mode.STATEMENT


def create(
    session: Session,
    new: NewRun,
    items: Mapping[int, Sequence[bytes]],
    token: str | None,
    pace: Pace,
) -> tuple[Grant | tuple[Ready, ...], LoadedRun]:
    """Store a run; with a token its first slot is started, if it can be.

    Raises:
        ConflictError: It may not be stored, or is already; `explain` says which.
    """
    if new.backlog is not None and _is_full(session, *new.backlog):
        raise ConflictError
    rid = session.next_rid()
    if token is None:
        state, effects = transitions.create(new, session.now, pace)
    else:
        state, effects = transitions.create_started(new, token, session.now, pace)
    if new.key is not None and state.status.is_final and _going(session, new.key) is not None:
        raise ConflictError  # the index, which only knows runs that go on, would let it pass
    facts = RunFacts(rid, new.run_id, new.queue, new.key or new.run_id, seq=0, turn=0)
    run = LoadedRun(session, facts, state, from_run(state, len(effects.events), 0))
    writes = session.writes
    _add_run(run, new)
    ready = run.apply(effects)
    for key, value in new.inputs.items():
        run.put_value(key, value)
    steps: dict[int, Row] = {}
    for index, step in state.steps.items():
        changes = steps[index] = _changes(run, step)
        writes[STEPS].append((rid, index, *from_record(step.record), *changes))
        if step.record.successors:
            near = _near(step.record, state.steps)
            writes[NEAR] += [(rid, index, other) for other in near]
        run.put_sequence(index, step)
    slots: dict[At, Row | None] = {}
    for at, slot in state.slots.items():
        changes = slots[at] = from_slot(slot, None)
        run.put_slot(at, changes, state.steps[at[0]].record.queue)
    if state.deadline is not None and not state.status.is_final:
        run.set_due(DEADLINE, state.deadline)
    rows = _item_rows(rid, new, items) if items else []
    run.begin(steps, slots)
    for start in range(0, len(rows), CHUNK):
        writes[ITEMS] += rows[start : start + CHUNK]
        session.write()
    return ready if effects.claim is None else run.grant(effects.claim), run


async def attempt(
    do: Callable[..., Awaitable[Any]], new: NewRun, create: Callable[[Session], Any], mode: Mode
) -> tuple[Grant | tuple[Ready, ...], LoadedRun | None]:
    """Store a run; one that is there already is left as it is, and what is ready of it returned.

    Raises:
        ConflictError: It was in nobody's way each time that one was looked for.
    """
    for _ in range(TRIES):
        try:
            return await do(create, mode, new.run_id)
        except ConflictError:
            known = await do(partial(explain, new=new), Mode.READ)
            if known is not None:
                return known, None
    raise ConflictError


def _item_rows(
    rid: int, new: NewRun, items: Mapping[int, Sequence[bytes]]
) -> list[tuple[Any, ...]]:
    return [
        (rid, step if step in new.done else bound_items_key(step), index, body)
        for step, values in items.items()
        for index, body in enumerate(values)
    ]


def _going(session: Session, key: str) -> str | None:
    session.catch_up()
    row = session.row(statements.GOING, key=key)
    return None if row is None else row[0]


def _is_full(session: Session, name: str, most: int) -> bool:
    session.lock_name(name)
    counted = session.row(statements.PENDING_IN_BACKLOG, backlog=name)
    return counted is not None and counted[0] >= most


def _add_run(run: LoadedRun, new: NewRun) -> None:
    state, rid, writes = run.state, run.rid, run.session.writes
    here = run.session.namespace
    row = (rid, *from_new(new, here), 0, state.created_at, state.deadline, *run.was)
    writes[RUNS].append(row)
    if new.tick is not None:
        writes[TICKS].append((here, new.tick, state.created_at))
    writes[PLANS].append((rid, new.plan))
    for tag in dict.fromkeys(new.tags):
        writes[TAGS].append((rid, tag, here, state.created_at))


def _changes(run: LoadedRun, step: StepState) -> Row:
    items_key = None
    if step.record.kind is StepKind.MAP and step.length is not None:
        items_key = run.items_key(step)
    return from_step(step, 0, items_key)


def _near(record: StepRecord, steps: Mapping[int, StepState]) -> set[int]:
    """What may be looked at when a step ends: what it opens, and where that finds its items."""
    sources = {steps[index].record.items_from for index in record.successors}
    return {*record.successors, *(index for index in sources if index is not None)} - {record.index}


def explain(session: Session, new: NewRun) -> tuple[Ready, ...] | None:
    """Say why a run was not stored; None when nothing is in its way any more.

    Raises:
        DuplicatePipelineError: A run of the same key has not ended.
        DuplicateTickError: The tick has fired before.
        BacklogFullError: Too many runs of its backlog key are PENDING.
    """
    known = session.row(statements.KNOWN, run_id=new.run_id)
    if known is not None:
        rid, ended_at = known
        return _ready_of(session, new.run_id, rid) if ended_at is None else ()
    if new.key is not None:
        other = _going(session, new.key)
        if other is not None:
            raise DuplicatePipelineError(new.key, other)
    if new.tick is not None and session.row(statements.TICK, tick=new.tick) is not None:
        raise DuplicateTickError(new.tick)
    if new.backlog is not None and _is_full(session, *new.backlog):
        raise BacklogFullError(*new.backlog)
    return None


def _ready_of(session: Session, run_id: str, rid: int) -> tuple[Ready, ...]:
    slots = session.rows(statements.READY_SLOTS, rid=rid, status=SlotStatus.READY.value)
    indexes = list({step for step, _ in slots})
    steps = {
        row[0]: to_step(row) for row in session.rows(statements.STEPS, rid=rid, indexes=indexes)
    }
    return tuple(to_ready(run_id, steps[step].record, slot) for step, slot in slots)
