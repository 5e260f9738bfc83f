"""Replies of redis.lua as records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from taskiq_flow.events import EventType
from taskiq_flow.model.records import (
    NONE_VALUE,
    Address,
    EventRecord,
    Finished,
    Grant,
    ItemGrant,
    Ready,
    RunSnapshot,
    RunStatus,
    SequenceValue,
    StepKind,
    StepSnapshot,
    StepStatus,
    Value,
    Wake,
    WakeKind,
    WorkerRecord,
)
from taskiq_flow.model.state import Holders, OpenSlot, OpenSlots, SlotStatus
from taskiq_flow.stores.step_sums import StepTimes

Row: TypeAlias = list[Any]

ENDS = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)
"""In the order of the script."""


def ready(rows: Sequence[Row]) -> tuple[Ready, ...]:
    return tuple(
        Ready(Address(run_id.decode(), step, slot), queue.decode(), route.decode(), task.decode())
        for run_id, step, slot, queue, route, task in rows
    )


def grant(run_id: str, row: Row) -> Grant:
    (step, slot, token, blob, stored, attempt, lost, granted_at, ready_at, started_at) = row[:10]
    run_name, deadline, items, length, expand, note, step_started_at = row[10:]
    return Grant(
        address=Address(run_id, step, slot),
        token=token.decode(),
        blob=blob,
        values=tuple(_value(value) for value in stored),
        attempt=attempt,
        lost=lost,
        granted_at=float(granted_at),
        ready_at=float(ready_at),
        run_started_at=float(started_at),
        run_name=run_name.decode(),
        deadline=_float(deadline),
        items=tuple(ItemGrant(*item) for item in items),
        length=length,
        expand=bool(expand),
        note=_text(note),
        step_started_at=_float(step_started_at),
    )


def finished(run_id: str, reply: Row) -> Finished:
    if not reply[0]:
        return Finished(recorded=False, ready=ready(reply[1]) if len(reply) > 1 else ())
    _, rows, granted, ended, retry_at, left = reply
    return Finished(
        recorded=True,
        ready=ready(rows) if rows else (),
        grant=None if granted is None else grant(run_id, granted),
        ended=None if ended is None else RunStatus(ended.decode()),
        retry_at=_float(retry_at),
        wakes=wakes(left) if left else (),
    )


def wakes(rows: Sequence[Row]) -> tuple[Wake, ...]:
    return tuple(
        Wake(
            WakeKind(kind.decode()),
            run_id.decode(),
            ready=None if row is None else ready([row])[0],
            parent=_parent(None if parent is None else json.loads(parent)),
        )
        for kind, run_id, row, parent in rows
    )


def values(keys: Sequence[int], stored: Sequence[Any]) -> dict[int, Value]:
    return {
        key: _value(value) for key, value in zip(keys, stored, strict=True) if value is not None
    }


def snapshot(row: Row) -> RunSnapshot:
    (run_id, text, meta, error, status, created_at, started_at, ended_at) = row[:8]
    deadline, remaining, failed_step, reason, failures = row[8:]
    facts = json.loads(text)
    return RunSnapshot(
        run_id=run_id.decode(),
        namespace=facts["namespace"],
        name=facts["name"],
        key=facts["key"],
        kind=facts["kind"],
        status=RunStatus(status.decode()),
        tags=tuple(facts["tags"]),
        created_at=float(created_at),
        started_at=_float(started_at),
        ended_at=_float(ended_at),
        deadline=_float(deadline),
        remaining=remaining,
        total=facts["total"],
        failed_step=failed_step,
        error=error,
        reason=_text(reason),
        failures=failures,
        parent=_parent(facts["parent"]),
        meta=meta,
    )


def with_steps(run: RunSnapshot, steps: Iterable[StepSnapshot]) -> RunSnapshot:
    return run._replace(steps=tuple(steps))


def step_snapshot(row: Row, run_status: RunStatus) -> StepSnapshot:
    (index, text, status, started_at, ended_at, attempt, lost, error) = row[:8]
    retry_at, length, done, failed, progress = row[8:]
    record = json.loads(text)
    stands = StepStatus(status.decode())
    return StepSnapshot(
        index=index,
        name=record["name"],
        task=record["task"],
        kind=StepKind(record["kind"]),
        status=stands if stands.is_final or not run_status.is_final else StepStatus.CANCELLED,
        started_at=_float(started_at),
        ended_at=_float(ended_at),
        attempt=attempt,
        lost=lost,
        error=error,
        retry_at=_float(retry_at),
        length=length,
        items_done=done,
        items_failed=failed,
        progress=progress,
    )


def open_slots(limits: Sequence[str], reply: Row) -> OpenSlots:
    now, slots, held = reply
    holders = {
        key: Holders(count, tuple(_holder(name.decode()) for name in first))
        for key, (count, first) in zip(limits, held, strict=True)
    }
    return OpenSlots(float(now), tuple(_open_slot(row) for row in slots), holders)


def _holder(name: str) -> Address:
    run_id, step, slot = name.rsplit("|", 2)
    return Address(run_id, int(step), int(slot))


def _open_slot(row: Row) -> OpenSlot:
    step, slot, status, due, ready_at, started_at, token, lost, kicks = row
    return OpenSlot(
        step=step,
        slot=slot,
        status=SlotStatus(status.decode()),
        due=_float(due),
        ready_at=float(ready_at),
        started_at=_float(started_at),
        token=_text(token),
        lost=lost,
        kicks=kicks,
    )


def counts_by_status(counts: Sequence[int]) -> list[dict[RunStatus, int]]:
    """Counts of one span of time after the other, each of all the ways to end."""
    ways = len(ENDS)
    return [
        dict(zip(ENDS, counts[first : first + ways], strict=True))
        for first in range(0, len(counts), ways)
    ]


def newest(parts: Sequence[bytes], count: int) -> list[str]:
    """The ids of the runs that ended last, of ids and times by turns."""
    ends = sorted(zip(map(float, parts[1::2]), parts[::2], strict=True), reverse=True)
    return [run_id.decode() for _, run_id in ends[:count]]


def step_times(row: Row) -> StepTimes:
    name, task, started_at, ended_at, attempt, failed = row
    return StepTimes(
        name.decode(), task.decode(), float(ended_at) - float(started_at), attempt, failed
    )


def event(run_id: str, seq: int, row: bytes) -> EventRecord:
    at, kind, step, slot, attempt, detail = row.decode().split("|", 5)
    return EventRecord(
        run_id,
        seq,
        float(at),
        EventType(kind),
        int(step) if step else None,
        int(slot) if slot else None,
        int(attempt),
        detail,
    )


def entry(fields: Sequence[bytes]) -> list[EventRecord]:
    """The events of one entry of the feed: what one call recorded of one run."""
    run_id, first = fields[1].decode(), int(fields[3]) + 1
    return [event(run_id, first + k, row) for k, row in enumerate(fields[5::2])]


def server_facts(text: bytes, policy: str | None) -> dict[str, Any]:
    """What INFO says, with the policy by which the server writes to its disk, if that is known."""
    info = dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    append_only = info.get("aof_enabled") == "1"
    eviction = info.get("maxmemory_policy")
    return {
        "store": "redis",
        "redis_version": info.get("redis_version"),
        "clock": int(info["server_time_usec"]) / 1e6 if "server_time_usec" in info else None,
        "appendonly": append_only,
        "appendfsync": policy,
        "maxmemory_policy": eviction,
        "durable": append_only and eviction == "noeviction",
    }


def worker(row: bytes) -> WorkerRecord:
    worker_id, namespace, queues, tasks, seen_at, host, pid, version = json.loads(row)
    return WorkerRecord(
        worker_id, namespace, tuple(queues), tuple(tasks), seen_at, host, pid, version
    )


def _value(stored: Any) -> Value:
    if stored is None:
        return NONE_VALUE
    return SequenceValue(*stored) if isinstance(stored, list) else stored


def _parent(parts_of_it: Sequence[Any] | None) -> Address | None:
    return None if parts_of_it is None else Address(*parts_of_it)


def _float(text: bytes | None) -> float | None:
    return None if text is None else float(text)


def _text(text: bytes | None) -> str | None:
    return None if text is None else text.decode()
