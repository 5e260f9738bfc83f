"""The tables of a SQL run store."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.event import listen
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine

from taskiq_flow.model.records import RunStatus
from taskiq_flow.stores.sql.session import in_c, in_posix

PREFIX: Final = "taskiq_flow_"

metadata = MetaData()

run_ids = Sequence(f"{PREFIX}run_rid", metadata=metadata)
"""Numbers of runs on PostgreSQL; SQLite takes the next one under its write lock."""

_BIG = BigInteger().with_variant(Integer, "sqlite")


def _table(name: str, *parts: SchemaItem) -> Table:
    # One tree instead of two on SQLite: every row is found by its whole key.
    return Table(f"{PREFIX}{name}", metadata, *parts, sqlite_with_rowid=False)


def _key(name: str, kind: TypeEngine[Any] = _BIG) -> Column[Any]:
    return Column(name, kind, primary_key=True, autoincrement=False)


run = Table(
    f"{PREFIX}run",
    metadata,
    _key("rid"),
    Column("namespace", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    # In the order of its letters' numbers, so that an index finds how names begin.
    Column("name", Text().with_variant(Text(collation="C"), "postgresql"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("key", Text),
    Column("tags", Text, nullable=False),
    Column("meta", LargeBinary, nullable=False),
    Column("queue", Text, nullable=False),
    Column("parent", Text),
    Column("backlog", Text),
    Column("publish", Integer, nullable=False),
    Column("max_parallel", Integer),
    Column("total", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("deadline", Double),
    # What the transitions change:
    Column("status", Text, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("failed_step", Integer),
    Column("error", LargeBinary),
    Column("reason", Text),
    Column("remaining", Integer, nullable=False),
    Column("running", Integer, nullable=False),
    Column("failures", _BIG, nullable=False),
    Column("seq", _BIG, nullable=False),  # events so far
    Column("turn", _BIG, nullable=False),  # slots that were ever put behind `max_parallel`
    # Written apart from them:
    Column("logged", _BIG, nullable=False),
    UniqueConstraint("run_id", "namespace", name=f"{PREFIX}run_id"),
)
"""One row per run. ``rid`` stands for the run everywhere else: shorter than its id."""

namespace_c: Final = in_c(run.c.namespace)
namespace_posix: Final = in_posix(run.c.namespace)
"""The namespace as only some indexes have it, each of which is a longer or shorter form of others.

A planner that believes all runs to be of one status, as they were when it last looked, or that
knows nothing yet, would take a shorter one as gladly, and read them all.
"""

_GOING: Final = text("key IS NOT NULL AND ended_at IS NULL")
_KEYED: Final = text("key IS NOT NULL")
_ENDED: Final = text("ended_at IS NOT NULL")
_QUEUED: Final = text(f"backlog IS NOT NULL AND status = '{RunStatus.PENDING}'")

# The name of a run is free again as soon as it has ended: the index forgets it then.
Index(
    f"{PREFIX}run_going",
    run.c.namespace,
    run.c.key,
    unique=True,
    sqlite_where=_GOING,
    postgresql_where=_GOING,
)
Index(
    f"{PREFIX}run_key",
    run.c.namespace,
    run.c.key,
    run.c.rid,
    sqlite_where=_KEYED,
    postgresql_where=_KEYED,
)
Index(
    f"{PREFIX}run_ended",
    *(run.c.namespace, run.c.ended_at, run.c.status),
    sqlite_where=_ENDED,
    postgresql_where=_ENDED,
)
Index(
    f"{PREFIX}run_outcome",
    *(namespace_posix, run.c.status, run.c.ended_at),
    sqlite_where=_ENDED,
    postgresql_where=_ENDED,
)
Index(
    f"{PREFIX}run_backlog",
    run.c.namespace,
    run.c.backlog,
    sqlite_where=_QUEUED,
    postgresql_where=_QUEUED,
)
# Listings: with the number of the run, so that those of one moment are in order too.
Index(f"{PREFIX}run_age", namespace_posix, run.c.created_at, run.c.rid)
for _field in ("status", "name", "kind"):
    Index(f"{PREFIX}run_{_field}", *(run.c.namespace, run.c[_field], run.c.created_at, run.c.rid))
for _field in ("name", "kind"):
    Index(
        f"{PREFIX}run_{_field}_status",
        *(namespace_c, run.c[_field], run.c.status, run.c.created_at, run.c.rid),
    )

tag = _table(
    "tag",
    _key("rid"),
    _key("tag", Text()),
    Column("namespace", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)
Index(f"{PREFIX}tag_age", tag.c.namespace, tag.c.tag, tag.c.created_at, tag.c.rid)

plan = _table("plan", _key("rid"), Column("body", LargeBinary, nullable=False))

step = _table(
    "step",
    _key("rid"),
    _key("idx", Integer()),
    Column("name", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("event", Text),
    Column("rules", Text, nullable=False),
    Column("blob", LargeBinary, nullable=False),
    # What the transitions change:
    Column("status", Text, nullable=False),
    Column("waiting_for", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("attempt", Integer, nullable=False),
    Column("lost", Integer, nullable=False),
    Column("error", LargeBinary),
    Column("retry_at", Double),
    Column("out_length", Integer),
    Column("length", Integer),
    Column("cursor", Integer, nullable=False),
    Column("items_left", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("retrying", Integer, nullable=False),  # rows of the step in `retry`
    Column("items_key", _BIG),  # where a map finds its items, once they are known
    # Written apart from them:
    Column("progress", LargeBinary),
)
"""A step: ``rules`` is the part of its record that the transitions read, as JSON."""

_AWAITED: Final = text("event IS NOT NULL")
Index(
    f"{PREFIX}step_event",
    step.c.rid,
    step.c.event,
    sqlite_where=_AWAITED,
    postgresql_where=_AWAITED,
)

near = _table("near", _key("rid"), _key("src", Integer()), _key("dst", Integer()))
"""What is loaded together with a step: its successors, and the steps they take items from."""

slot = _table(
    "slot",
    _key("rid"),
    _key("step", Integer()),
    _key("slot", Integer()),
    Column("namespace", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("due", Double),
    Column("ready_at", Double, nullable=False),
    Column("token", Text),
    Column("last_token", Text),
    Column("finish_token", Text),
    Column("answer", Text),
    Column("started_at", Double),
    Column("attempt", Integer, nullable=False),
    Column("lost", Integer, nullable=False),
    Column("kicks", Integer, nullable=False),
    Column("items", Text),
    Column("note", Text),
    Column("turn", _BIG),
)
"""A slot; a negative ``step`` is what is due for the run itself."""

_DUE: Final = text("due IS NOT NULL")
Index(
    f"{PREFIX}slot_due",
    slot.c.namespace,
    slot.c.queue,
    slot.c.due,
    sqlite_where=_DUE,
    postgresql_where=_DUE,
)
_BLOCKED: Final = text("turn IS NOT NULL")
Index(
    f"{PREFIX}slot_turn",
    slot.c.rid,
    slot.c.turn,
    sqlite_where=_BLOCKED,
    postgresql_where=_BLOCKED,
)

value = _table(
    "value", _key("rid"), _key("key"), Column("body", LargeBinary), Column("length", Integer)
)
"""An output or input: its bytes, or the length of the sequence that is stored in `item`."""

item = _table(
    "item",
    _key("rid"),
    _key("key"),
    _key("idx", Integer()),
    Column("body", LargeBinary, nullable=False),
)

retry = _table(
    "retry",
    _key("rid"),
    _key("step", Integer()),
    _key("idx", Integer()),
    Column("attempt", Integer, nullable=False),
    Column("due", Double),
)
"""Items that failed and were not done since; without ``due`` while a slot tries them again."""

Index(f"{PREFIX}retry_due", retry.c.rid, retry.c.step, retry.c.due)

inbox = _table("inbox", _key("rid"), _key("name", Text()), Column("payload", LargeBinary))

event = Table(
    f"{PREFIX}event",
    metadata,
    Column("id", _BIG, primary_key=True, autoincrement=True),
    Column("namespace", Text, nullable=False),
    Column("rid", _BIG, nullable=False),
    Column("seq", _BIG, nullable=False),
    Column("count", Integer, nullable=False),
    Column("at", Double, nullable=False),
    Column("body", Text, nullable=False),
    sqlite_autoincrement=True,
)
"""One row for all events of one operation; ``seq`` is the number of the last one."""

Index(f"{PREFIX}event_run", event.c.rid, event.c.seq)

# PostgreSQL gives numbers before the commit, so a reader may not skip what lies behind the
# highest one that it saw: it also needs to know which transaction wrote a row.
for _statement in (
    f"ALTER TABLE {event.name} ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id()",
    f"CREATE INDEX {PREFIX}event_xid ON {event.name} (xid)",
):
    listen(event, "after_create", DDL(_statement).execute_if(dialect="postgresql"))

log = _table("log", _key("rid"), _key("number"), Column("line", LargeBinary, nullable=False))

tick = _table(
    "tick",
    _key("namespace", Text()),
    _key("tick", Text()),
    Column("at", Double, nullable=False),
)
"""Ticks that have fired, and when. Kept for a while when their run goes."""

Index(f"{PREFIX}tick_age", tick.c.namespace, tick.c.at)

limit = _table(
    "limit",
    _key("namespace", Text()),
    _key("key", Text()),
    Column("next_at", Double, nullable=False),
    Column("asked_at", Double, nullable=False),
)
"""A limit's next free moment, and the last look that is due for it.

Its row is locked by whoever counts the holders.
"""

hold = _table(
    "hold",
    _key("namespace", Text()),
    _key("key", Text()),
    _key("run_id", Text()),
    _key("step", Integer()),
    _key("slot", Integer()),
    Column("until", Double, nullable=False),
)
"""Slots that hold a limit, and until when if nobody renews their leases."""

queuer = Table(
    f"{PREFIX}queuer",
    metadata,
    Column("id", _BIG, primary_key=True, autoincrement=True),
    Column("namespace", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("rank", Integer, nullable=False),
    UniqueConstraint("namespace", "key", "run_id", "step", "slot", name=f"{PREFIX}queuer_once"),
    sqlite_autoincrement=True,
)
"""Slots that found a limit used up, by rank and then in the order in which they came."""

_order = (queuer.c.namespace, queuer.c.key, queuer.c.rank, queuer.c.id)
Index(f"{PREFIX}queuer_order", *_order)

worker = _table(
    "worker",
    _key("namespace", Text()),
    _key("worker_id", Text()),
    Column("until", Double, nullable=False),
    Column("body", Text, nullable=False),
)

beat = _table(
    "beat",
    _key("namespace", Text()),
    Column("last_due", Double, nullable=False),
    Column("hold_until", Double, nullable=False),
)
"""When `due` was last called, and until when no lease expires."""

delay = _table(
    "delay",
    _key("namespace", Text()),
    _key("queue", Text()),
    Column("seconds", Double, nullable=False),
)
"""How long messages of a queue have lately taken."""

meta = _table("meta", _key("name", Text()), Column("value", Text, nullable=False))

BELONGINGS: Final = (tag, plan, step, near, slot, value, item, retry, inbox, event, log)
"""Everything that goes with its run."""
