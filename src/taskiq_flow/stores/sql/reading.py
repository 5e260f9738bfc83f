"""The operations that change no run's course: reads, listings, notes, and the end of a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from taskiq_flow.exceptions import RunNotFoundError
from taskiq_flow.model.records import (
    Address,
    EventRecord,
    RunSnapshot,
    RunStatus,
    Value,
    WorkerRecord,
)
from taskiq_flow.model.state import Holders, OpenSlot, OpenSlots, SlotStatus
from taskiq_flow.stores.base import HOLDERS_NAMED, TICK_SECONDS, Ending
from taskiq_flow.stores.sql import queries, schema, statements
from taskiq_flow.stores.sql.loaded import to_value
from taskiq_flow.stores.sql.rows import (
    RUN_SHOWN,
    from_worker,
    to_events,
    to_open_slot,
    to_snapshot,
    to_step_snapshot,
    to_worker,
)
from taskiq_flow.stores.sql.session import Row, Session, Target, Verb

LOG_LINES: Final = 10_000
"""Log lines kept of one run."""

LOG: Final = Target(Verb.INSERT, schema.log, ("rid", "number"), ("line",))
WORKERS: Final = Target(Verb.UPSERT, schema.worker, ("namespace", "worker_id"), ("until", "body"))


def get(session: Session, run_id: str, *, steps: bool) -> RunSnapshot | None:
    if not steps:
        row = session.row(queries.SHOWN, run_id=run_id)
        return None if row is None else to_snapshot(row)
    rows = session.rows(queries.SHOWN_WITH_STEPS, run_id=run_id)
    if not rows:
        return None
    width = len(RUN_SHOWN)
    shown = rows[0][:width]
    ended = to_snapshot(shown).status.is_final
    found = (to_step_snapshot(row[width:], run_has_ended=ended) for row in rows[1:])
    return to_snapshot(shown, tuple(found))


def get_all(
    session: Session, run_ids: Sequence[str], *, steps: bool
) -> list[tuple[RunSnapshot, bytes]]:
    rows = session.rows(queries.RUNS_WITH_PLANS, run_ids=list(run_ids))
    rids: list[int] = [row[0] for row in rows]
    started: dict[int, list[Row]] = {rid: [] for rid in rids}
    for rid, *step in session.rows(queries.STEPS_OF_RUNS, rids=rids) if steps else ():
        started[rid].append(step)
    found: dict[str, tuple[RunSnapshot, bytes]] = {}
    for rid, plan, *shown in rows:
        run = to_snapshot(shown)
        ended = run.status.is_final
        own = tuple(to_step_snapshot(step, run_has_ended=ended) for step in started[rid])
        found[run.run_id] = (to_snapshot(shown, own), plan)
    return [found[run_id] for run_id in run_ids if run_id in found]


def slots(
    session: Session, run_id: str, steps: Sequence[int], limits: Sequence[str], limit: int
) -> OpenSlots:
    run = get(session, run_id, steps=False)
    found: list[OpenSlot] = []
    if run is not None and not run.status.is_final and steps:
        facts = {"steps": list(steps), "done": SlotStatus.DONE.value, "limit": limit}
        for now, *row in session.rows(queries.OPEN_SLOTS, run_id=run_id, **facts):
            session.note_now(now)
            found.append(to_open_slot(row))
    return OpenSlots(session.now, tuple(found), {key: _holders(session, key) for key in limits})


def _holders(session: Session, key: str) -> Holders:
    rows = session.rows(statements.FIRST_HOLDERS, key=key, limit=HOLDERS_NAMED)
    count = rows[0][-1] if rows else 0
    return Holders(count, tuple(Address(*who) for *who, _ in rows))


def ending(session: Session, run_id: str, keys: Sequence[int]) -> Ending | None:
    snapshot = get(session, run_id, steps=False)
    if snapshot is None:
        raise RunNotFoundError(run_id)
    if not snapshot.status.is_final:
        return None
    return Ending(snapshot, values(session, run_id, keys))


def values(session: Session, run_id: str, keys: Sequence[int]) -> dict[int, Value]:
    if not keys:
        return {}
    rows = session.rows(queries.RUN_VALUES, run_id=run_id, keys=list(keys))
    found = {key: to_value(key, body, length) for key, body, length in rows}
    return {key: found[key] for key in keys if key in found}


def items(session: Session, run_id: str, key: int, start: int, stop: int) -> list[bytes | None]:
    found = session.pairs(queries.RUN_ITEMS, run_id=run_id, key=key, start=start, stop=stop)
    return [found.get(index) for index in range(start, stop)]


def events(session: Session, run_id: str, after: int, limit: int) -> list[EventRecord]:
    rows = session.rows(queries.EVENTS, run_id=run_id, after=after, limit=limit)
    found = [event for seq, at, body in rows for event in to_events(run_id, seq, at, body)]
    return [event for event in found if event.seq > after][:limit]


def feed(session: Session, after: str | None, limit: int) -> tuple[list[EventRecord], str]:
    """Read on from a position: where a row begins, and how many of its events are known."""
    if after is None:
        return [], session.feed_position()
    begin, _, known = after.partition("+")
    rows, end = session.feed_rows(begin, limit)
    found: list[EventRecord] = []
    skip = int(known or 0)
    for next_begin, run_id, seq, at, body in rows:
        fresh = to_events(run_id, seq, at, body)[skip:]
        room = limit - len(found)
        if len(fresh) > room:
            return found + fresh[:room], f"{begin}+{skip + room}"
        found += fresh
        begin, skip = next_begin, 0
    return found, end


def append_log(session: Session, run_id: str, lines: Sequence[bytes]) -> None:
    row = session.row(statements.COUNT_LOG, run_id=run_id, more=len(lines))
    if row is None:
        return
    rid, logged = row
    first = logged - len(lines) + 1
    kept = lines[-LOG_LINES:]
    session.writes[LOG] += [(rid, *line) for line in enumerate(kept, logged - len(kept) + 1)]
    if logged > LOG_LINES and first > 0:
        session.execute(statements.TRIM_LOG, rid=rid, last=logged - LOG_LINES)


def log(session: Session, run_id: str, after: int, limit: int) -> tuple[list[bytes], int]:
    rows = session.rows(queries.LOG, run_id=run_id, after=after, limit=limit)
    return [line for _, line in rows], rows[-1][0] if rows else after


def ended_among(session: Session, run_ids: Sequence[str]) -> dict[str, RunStatus]:
    rows = session.rows(statements.RUN_STATUSES, run_ids=list(run_ids))
    known = {run_id: RunStatus(status) for run_id, status in rows}
    statuses = {run_id: known.get(run_id, RunStatus.CANCELLED) for run_id in run_ids}
    return {run_id: status for run_id, status in statuses.items() if status.is_final}


def announce(session: Session, worker: WorkerRecord, ttl_seconds: float) -> None:
    session.execute(statements.SILENT_WORKERS, now=session.now)
    row = (session.namespace, worker.worker_id, session.now + ttl_seconds, from_worker(worker))
    session.writes[WORKERS].append(row)


def workers(session: Session) -> list[WorkerRecord]:
    return [to_worker(body) for (body,) in session.rows(queries.WORKERS, now=session.now)]


def delete(session: Session, run_id: str) -> bool:
    row = session.row(statements.RUN_TO_DELETE, run_id=run_id)
    if row is None:
        return False
    _forget(session, [row[0]])
    return True


def purge(session: Session, before: float, limit: int) -> int:
    rids = [row[0] for row in session.rows(statements.RUNS_TO_PURGE, before=before, limit=limit)]
    if rids:
        _forget(session, rids)
    session.execute(statements.FORGET_TICKS, before=min(before, session.now - TICK_SECONDS))
    return len(rids)


def _forget(session: Session, rids: list[int]) -> None:
    for statement in statements.FORGET:
        session.execute(statement, rids=rids)
