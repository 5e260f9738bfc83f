"""The queries of a SQL run store, in SQLAlchemy's words, each built once."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    func,
    literal,
    literal_column,
    null,
    select,
    text,
    union_all,
    update,
)

from taskiq_flow.model.records import RunStatus
from taskiq_flow.stores.sql import schema as s
from taskiq_flow.stores.sql.rows import (
    RUN_LOADED,
    SLOT_CHANGES,
    STEP_CHANGES,
    STEP_FIXED,
)
from taskiq_flow.stores.sql.session import among, one_of, server_clock

FINAL: Final = tuple(status.value for status in RunStatus if status.is_final)


def columns(table: Table, names: tuple[str, ...]) -> list[ColumnElement[Any]]:
    return [table.c[name] for name in names]


here = s.run.c.namespace == bindparam("namespace")
# Not by an index that begins with the namespace: where PostgreSQL knows nothing of a new table
# yet, it takes one for as good as the other.
_of_it = s.run.c.namespace.concat("") == bindparam("namespace")
this_run = and_(s.run.c.run_id == bindparam("run_id"), _of_it)
_these_runs = and_(one_of(s.run.c.run_id, "run_ids"), _of_it)
rid_of_run = select(s.run.c.rid).where(this_run).scalar_subquery()
one_rid = bindparam("rid", type_=s.run.c.rid.type)

# -- loading a run in part, see `LoadedRun`

RUN = select(*columns(s.run, RUN_LOADED)).where(this_run).with_for_update()

_STEP: Final = ("idx", *STEP_FIXED, *STEP_CHANGES)
STEP_WIDTH: Final = len(_STEP)

_index = bindparam("step", type_=s.step.c.idx.type)
_with_near = among(
    s.step.c.idx,
    union_all(
        select(_index),
        select(s.near.c.dst).where(s.near.c.rid == one_rid, s.near.c.src == _index),
    ),
)

STEP = select(*columns(s.step, _STEP)).where(s.step.c.rid == one_rid, s.step.c.idx == _index)

STEP_AND_NEAR = select(*columns(s.step, _STEP)).where(s.step.c.rid == one_rid, _with_near)

STEPS = select(*columns(s.step, _STEP)).where(
    s.step.c.rid == one_rid, one_of(s.step.c.idx, "indexes")
)

# All of its key is given, also where it is known from the step: a planner that expects few slots
# in a run would read all of them, and a long run has many.
_own_slot = and_(
    s.slot.c.rid == one_rid,
    s.slot.c.step == _index,
    s.slot.c.slot == bindparam("slot"),
    s.step.c.idx == _index,
)

PLACE = (
    select(*columns(s.step, _STEP), *columns(s.slot, SLOT_CHANGES), server_clock())
    .select_from(s.step.outerjoin(s.slot, _own_slot))
    .where(s.step.c.rid == one_rid, s.step.c.idx == _index)
)
"""A step with its slot (whose columns are null when it is not open) and the time."""

PLACE_AND_NEAR = (
    select(*columns(s.step, _STEP), *columns(s.slot, SLOT_CHANGES), server_clock())
    .select_from(s.step.outerjoin(s.slot, _own_slot))
    .where(s.step.c.rid == one_rid, _with_near)
)

RUN_AND_PLACE = (
    select(*columns(s.run, RUN_LOADED), *columns(s.step, _STEP), *columns(s.slot, SLOT_CHANGES))
    .select_from(
        s.run.join(s.step, and_(s.step.c.rid == s.run.c.rid, s.step.c.idx == _index)).outerjoin(
            s.slot,
            and_(
                s.slot.c.rid == s.run.c.rid,
                s.slot.c.step == _index,
                s.slot.c.slot == bindparam("slot"),
            ),
        )
    )
    .where(this_run)
)
"""The same with the run, where nobody else can write meanwhile: else it is locked first."""

_SLOT: Final = ("step", "slot", *SLOT_CHANGES)

SLOT = select(*columns(s.slot, SLOT_CHANGES)).where(
    s.slot.c.rid == one_rid, s.slot.c.step == _index, s.slot.c.slot == bindparam("slot")
)

BLOCKED_SLOTS = (
    select(*columns(s.slot, _SLOT))
    .where(s.slot.c.rid == one_rid, s.slot.c.turn > bindparam("after"))
    .order_by(s.slot.c.turn)
    .limit(bindparam("limit"))
)

WAITING_STEPS = select(*columns(s.step, _STEP)).where(
    s.step.c.rid == one_rid,
    s.step.c.event == bindparam("event"),
    s.step.c.status == bindparam("status"),
)
"""Steps that wait for an event of this name."""

INBOX = select(s.inbox.c.payload).where(
    s.inbox.c.rid == one_rid, s.inbox.c.name == bindparam("name")
)

_retry = (s.retry.c.idx, s.retry.c.attempt, s.retry.c.due)
_of_step = and_(s.retry.c.rid == one_rid, s.retry.c.step == _index)

RETRIES_DUE_FIRST = (
    select(*_retry).where(_of_step, s.retry.c.due.is_not(None)).order_by(s.retry.c.due).limit(2)
)
"""One claim takes one retry, and the next one says when to look again."""

RETRIES_IN_FLIGHT = select(*_retry).where(_of_step, one_of(s.retry.c.idx, "indexes"))

VALUES = select(s.value.c.key, s.value.c.body, s.value.c.length).where(
    s.value.c.rid == one_rid, one_of(s.value.c.key, "keys")
)

ITEM_COUNT = select(func.count()).where(s.item.c.rid == one_rid, s.item.c.key == bindparam("key"))

ITEMS = select(s.item.c.idx, s.item.c.body).where(
    s.item.c.rid == one_rid,
    s.item.c.key == bindparam("key"),
    s.item.c.idx >= bindparam("start"),
    s.item.c.idx < bindparam("stop"),
)

QUIET = update(s.slot).where(s.slot.c.rid == one_rid, s.slot.c.due.is_not(None)).values(due=null())
"""Nothing of an ended run is due any more."""

# -- operations

KNOWN = select(s.run.c.rid, s.run.c.ended_at).where(this_run)

READY_SLOTS = (
    select(s.slot.c.step, s.slot.c.slot)
    .where(s.slot.c.rid == one_rid, s.slot.c.status == bindparam("status"))
    .order_by(s.slot.c.step, s.slot.c.slot)
)

GOING = select(s.run.c.run_id).where(
    here, s.run.c.key == bindparam("key"), s.run.c.ended_at.is_(None)
)

TICK = select(s.tick.c.tick).where(
    s.tick.c.namespace == bindparam("namespace"), s.tick.c.tick == bindparam("tick")
)

PENDING_IN_BACKLOG = select(func.count()).where(
    # Written as a constant, or the partial index could not be used.
    here,
    s.run.c.backlog == bindparam("backlog"),
    s.run.c.status == literal_column(f"'{RunStatus.PENDING}'"),
)

SETTLE = delete(s.slot).where(s.slot.c.rid == rid_of_run, s.slot.c.step == bindparam("kind"))

_held = (
    *columns(s.run, RUN_LOADED),
    *columns(s.step, _STEP),
    s.slot.c.slot,
    *columns(s.slot, SLOT_CHANGES),
)
_held_from = s.run.join(s.slot, s.slot.c.rid == s.run.c.rid).join(
    s.step, and_(s.step.c.rid == s.slot.c.rid, s.step.c.idx == s.slot.c.step)
)

HELD = (
    select(*_held)
    .select_from(_held_from)
    .where(
        this_run,
        s.slot.c.step == _index,
        s.slot.c.slot == bindparam("slot"),
        s.slot.c.token == bindparam("token"),
    )
)
"""A slot with its step and its run, if this token holds it."""

_asked = (
    func.unnest(
        bindparam("run_ids", type_=ARRAY(Text)),
        bindparam("steps", type_=ARRAY(Integer)),
        bindparam("slots", type_=ARRAY(Integer)),
        bindparam("tokens", type_=ARRAY(Text)),
    )
    .table_valued("run_id", "step", "slot", "token", name="asked")
    .render_derived()
)

HELD_TOGETHER = (
    select(*_held)
    .select_from(_held_from.join(_asked, s.run.c.run_id == _asked.c.run_id))
    .where(
        _of_it,
        s.slot.c.step == _asked.c.step,
        s.slot.c.slot == _asked.c.slot,
        s.slot.c.token == _asked.c.token,
    )
)
"""The same for many tokens, in PostgreSQL's words."""

RUNS_BY_ID = select(*columns(s.run, RUN_LOADED)).where(_these_runs)

RUN_STATUSES = select(s.run.c.run_id, s.run.c.status).where(_these_runs)

HOLDER = (
    select(s.run.c.rid)
    .select_from(s.run.join(s.slot, s.slot.c.rid == s.run.c.rid))
    .where(
        this_run,
        s.run.c.ended_at.is_(None),
        s.slot.c.step == bindparam("step"),
        s.slot.c.slot == bindparam("slot"),
        s.slot.c.token == bindparam("token"),
    )
    .with_for_update(of=s.slot)
)
"""The run of a slot, if this token holds it."""

# -- limits

LIMIT = (
    select(s.limit.c.next_at, s.limit.c.asked_at)
    .where(s.limit.c.namespace == bindparam("namespace"), s.limit.c.key == bindparam("key"))
    .with_for_update()
)

NEW_LIMIT = text(
    f"INSERT INTO {s.limit.name} (namespace, key, next_at, asked_at) "  # noqa: S608 - our own name
    "VALUES (:namespace, :key, 0, 0) ON CONFLICT DO NOTHING"
)

_holder = (s.hold.c.run_id, s.hold.c.step, s.hold.c.slot)
_held_key = and_(s.hold.c.namespace == bindparam("namespace"), s.hold.c.key == bindparam("key"))
HOLDERS = select(*_holder, s.hold.c.until).where(_held_key)
FIRST_HOLDERS = (
    select(*_holder, func.count().over())
    .where(_held_key)
    .order_by(*_holder)
    .limit(bindparam("limit"))
)

_queuer = (s.queuer.c.run_id, s.queuer.c.step, s.queuer.c.slot, s.queuer.c.rank)
_queued = and_(s.queuer.c.namespace == bindparam("namespace"), s.queuer.c.key == bindparam("key"))
QUEUERS = select(func.count()).select_from(s.queuer).where(_queued)
FIRST_QUEUER = select(*_queuer).where(_queued).order_by(s.queuer.c.rank, s.queuer.c.id).limit(1)
QUEUER = select(*_queuer).where(
    _queued,
    s.queuer.c.run_id == bindparam("run_id"),
    s.queuer.c.step == bindparam("step"),
    s.queuer.c.slot == bindparam("slot"),
)

# -- what stood still

BEAT_SEEN = select(s.beat.c.last_due, s.beat.c.hold_until).where(
    s.beat.c.namespace == bindparam("namespace")
)
BEAT = BEAT_SEEN.with_for_update()

_due_here = and_(
    s.slot.c.namespace == bindparam("namespace"),
    s.slot.c.queue == bindparam("queue"),
    s.slot.c.due <= bindparam("now"),
)

DUE_RUNS = (
    select(*columns(s.run, RUN_LOADED), s.slot.c.step, s.slot.c.slot)
    .select_from(s.slot.join(s.run, s.run.c.rid == s.slot.c.rid))
    .where(_due_here)
    .order_by(s.slot.c.due, s.slot.c.rid, s.slot.c.step, s.slot.c.slot)
    .limit(bindparam("limit"))
    .with_for_update(of=s.run, skip_locked=True)
)

DUE_PLACES = (
    select(
        *(s.slot.c.rid, s.slot.c.step, s.slot.c.slot),
        *columns(s.slot, SLOT_CHANGES),
        *columns(s.step, _STEP),
    )
    .select_from(
        s.slot.outerjoin(s.step, and_(s.step.c.rid == s.slot.c.rid, s.step.c.idx == s.slot.c.step))
    )
    .where(one_of(s.slot.c.rid, "rids"), _due_here)
    .order_by(s.slot.c.due, s.slot.c.rid, s.slot.c.step, s.slot.c.slot)
)
"""Read after the runs are locked: what was seen before may have changed while waiting."""

DELAYS = select(s.delay.c.queue, s.delay.c.seconds).where(
    s.delay.c.namespace == bindparam("namespace")
)

# -- notes

NOTE_PROGRESS = (
    update(s.step)
    .where(s.step.c.rid == rid_of_run, s.step.c.idx == bindparam("index"))
    .values(progress=bindparam("body"))
)

COUNT_LOG = (
    update(s.run)
    .where(this_run)
    .values(logged=s.run.c.logged + bindparam("more"))
    .returning(s.run.c.rid, s.run.c.logged)
)

TRIM_LOG = delete(s.log).where(s.log.c.rid == one_rid, s.log.c.number <= bindparam("last"))

# -- the end of it all

RUN_TO_DELETE = select(s.run.c.rid).where(this_run, s.run.c.ended_at.is_not(None)).with_for_update()

RUNS_TO_PURGE = (
    select(s.run.c.rid)
    .where(here, s.run.c.ended_at < bindparam("before"))
    .order_by(s.run.c.ended_at)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)

FORGET_TICKS = delete(s.tick).where(
    s.tick.c.namespace == bindparam("namespace"), s.tick.c.at < bindparam("before")
)

FORGET = tuple(delete(table).where(one_of(table.c.rid, "rids")) for table in (*s.BELONGINGS, s.run))

WITHDRAW = delete(s.worker).where(
    s.worker.c.namespace == bindparam("namespace"), s.worker.c.worker_id == bindparam("worker_id")
)

SILENT_WORKERS = delete(s.worker).where(
    s.worker.c.namespace == bindparam("namespace"), s.worker.c.until <= bindparam("now")
)

FORMAT = select(s.meta.c.value).where(s.meta.c.name == literal("format"))
