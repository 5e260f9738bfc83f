"""What users ask of runs, as queries, each built once."""

from __future__ import annotations

from sqlalchemy import bindparam, null, or_, select, text, union_all

from taskiq_flow.stores.sql import schema as s
from taskiq_flow.stores.sql.rows import RUN_SHOWN, SLOT_SHOWN, STEP_SHOWN
from taskiq_flow.stores.sql.session import one_of, server_clock
from taskiq_flow.stores.sql.statements import columns, here, rid_of_run, this_run

SHOWN = select(*columns(s.run, RUN_SHOWN)).where(this_run)

_has_started = or_(s.step.c.started_at.is_not(None), s.step.c.ended_at.is_not(None))

# One statement sees one moment, without a transaction around it: the run comes first, and then a
# row for each step, which leaves the places of the run empty.
SHOWN_WITH_STEPS = union_all(
    select(
        *columns(s.run, RUN_SHOWN), *(null().label(f"step_{name}") for name in STEP_SHOWN)
    ).where(this_run),
    select(*(null() for _ in RUN_SHOWN), *columns(s.step, STEP_SHOWN)).where(
        s.step.c.rid == rid_of_run, _has_started
    ),
).order_by(text("step_idx NULLS FIRST"))

RUNS_WITH_PLANS = (
    select(s.run.c.rid, s.plan.c.body, *columns(s.run, RUN_SHOWN))
    .select_from(s.run.join(s.plan, s.plan.c.rid == s.run.c.rid))
    .where(here, one_of(s.run.c.run_id, "run_ids"))
)

STEPS_OF_RUNS = (
    select(s.step.c.rid, *columns(s.step, STEP_SHOWN))
    .where(one_of(s.step.c.rid, "rids"), _has_started)
    .order_by(s.step.c.rid, s.step.c.idx)
)

OPEN_SLOTS = (
    select(server_clock(), *columns(s.slot, SLOT_SHOWN))
    .where(
        s.slot.c.rid == rid_of_run,
        one_of(s.slot.c.step, "steps"),
        s.slot.c.status != bindparam("done"),
    )
    .order_by(s.slot.c.step, s.slot.c.slot)
    .limit(bindparam("limit"))
)

LATEST_OF_KEY = (
    select(s.run.c.run_id)
    .where(here, s.run.c.key == bindparam("key"))
    .order_by(s.run.c.rid.desc())
    .limit(1)
)

PLAN = select(s.plan.c.body).where(s.plan.c.rid == rid_of_run)

RUN_VALUES = select(s.value.c.key, s.value.c.body, s.value.c.length).where(
    s.value.c.rid == rid_of_run, one_of(s.value.c.key, "keys")
)

RUN_ITEMS = select(s.item.c.idx, s.item.c.body).where(
    s.item.c.rid == rid_of_run,
    s.item.c.key == bindparam("key"),
    s.item.c.idx >= bindparam("start"),
    s.item.c.idx < bindparam("stop"),
)

_event = (s.event.c.seq, s.event.c.at, s.event.c.body)

EVENTS = (
    select(*_event)
    .where(s.event.c.rid == rid_of_run, s.event.c.seq > bindparam("after"))
    .order_by(s.event.c.seq)
    .limit(bindparam("limit"))
)

LOG = (
    select(s.log.c.number, s.log.c.line)
    .where(s.log.c.rid == rid_of_run, s.log.c.number > bindparam("after"))
    .order_by(s.log.c.number)
    .limit(bindparam("limit"))
)

WORKERS = (
    select(s.worker.c.body)
    .where(s.worker.c.namespace == bindparam("namespace"), s.worker.c.until > bindparam("now"))
    .order_by(s.worker.c.worker_id)
)
