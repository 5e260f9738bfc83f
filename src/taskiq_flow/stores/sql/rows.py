"""Rows to the model and back."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache
from typing import Any, Final, NamedTuple

from taskiq_flow.events import EventType
from taskiq_flow.model.records import (
    Address,
    EventRecord,
    Join,
    Limit,
    NewRun,
    OnFailure,
    Ready,
    RunSnapshot,
    RunStatus,
    StepKind,
    StepRecord,
    StepSnapshot,
    StepStatus,
    WorkerRecord,
)
from taskiq_flow.model.state import (
    Answer,
    OpenSlot,
    RunState,
    SlotState,
    SlotStatus,
    StepState,
)
from taskiq_flow.stores.sql.session import Row

RUN_COUNTERS: Final = ("remaining", "running", "failures", "seq", "turn")
RUN_CHANGES: Final = (
    *("status", "started_at", "ended_at", "failed_step", "error", "reason"),
    *RUN_COUNTERS,
)
RUN_LOADED: Final = (
    *("rid", "run_id", "queue", "key", "parent", "publish", "max_parallel"),
    *("created_at", "deadline", *RUN_CHANGES),
)
RUN_SHOWN: Final = (
    *("run_id", "namespace", "name", "key", "kind", "status", "tags", "created_at", "started_at"),
    *("ended_at", "deadline", "remaining", "total", "failed_step", "error", "reason"),
    *("failures", "parent", "meta"),
)
RUN_CREATED: Final = (
    *("namespace", "run_id", "name", "kind", "key", "tags", "meta", "queue", "parent"),
    *("backlog", "publish", "max_parallel", "total", "logged", "created_at", "deadline"),
    *RUN_CHANGES,
)

STEP_FIXED: Final = ("name", "task", "kind", "event", "rules", "blob")
STEP_CHANGES: Final = (
    *("status", "waiting_for", "skipped", "started_at", "ended_at", "attempt", "lost", "error"),
    *("retry_at", "out_length", "length", "cursor", "items_left", "failed"),
    # Not of the state: how many rows the step has in `retry`, where the items of a map lie.
    *("retrying", "items_key"),
)
_RECORD_WIDTH: Final = 1 + len(STEP_FIXED)
STEP_SHOWN: Final = (
    *("idx", "name", "task", "kind", "status", "started_at", "ended_at", "attempt", "lost"),
    *("error", "retry_at", "length", "items_left", "failed", "progress"),
)

SLOT_SHOWN: Final = (
    *("step", "slot", "status", "due", "ready_at", "started_at", "token", "lost", "kicks"),
)

SLOT_FIXED: Final = ("namespace", "queue")
SLOT_CHANGES: Final = (
    *("status", "due", "ready_at", "token", "last_token", "finish_token", "answer"),
    *("started_at", "attempt", "lost", "kicks", "items", "note", "turn"),
)


class RunFacts(NamedTuple):
    """What stays of a run while it goes on, and two counters that its state does not have."""

    rid: int
    run_id: str
    queue: str
    name: str
    seq: int
    turn: int


WORDS: Final = {word: str(word) for kind in (RunStatus, StepStatus, SlotStatus) for word in kind}
"""Statuses as plain text, which drivers take at once; made here, since each making is a call."""

to_json: Final = json.JSONEncoder(separators=(",", ":")).encode
from_json: Final = json.JSONDecoder().decode


def to_run(row: Row) -> tuple[RunFacts, RunState]:
    """Read a row of `RUN_LOADED`; the state has no steps and slots yet."""
    rid, run_id, queue, key, parent, publish, max_parallel, created_at, deadline, *changes = row
    status, started_at, ended_at, failed_step, error, reason = changes[:6]
    remaining, running, failures, seq, turn = changes[6:]
    state = RunState(
        run_id=run_id,
        status=RunStatus(status),
        remaining=remaining,
        created_at=created_at,
        deadline=deadline,
        max_parallel=max_parallel,
        publish=bool(publish),
        parent=to_address(parent),
        started_at=started_at,
        ended_at=ended_at,
        failed_step=failed_step,
        error=error,
        reason=reason,
        failures=failures,
        running=running,
    )
    return RunFacts(rid, run_id, queue, key or run_id, seq, turn), state


def from_run(state: RunState, seq: int, turn: int) -> tuple[Any, ...]:
    """Write `RUN_CHANGES`."""
    return (
        WORDS[state.status],
        state.started_at,
        state.ended_at,
        state.failed_step,
        state.error,
        state.reason,
        state.remaining,
        state.running,
        state.failures,
        seq,
        turn,
    )


def from_new(new: NewRun, namespace: str) -> tuple[Any, ...]:
    """Write `RUN_CREATED` but for what the state tells."""
    return (
        namespace,
        new.run_id,
        new.name,
        new.kind,
        new.key,
        to_json(new.tags) if new.tags else "[]",
        new.meta,
        new.queue,
        to_text(new.parent),
        None if new.backlog is None else new.backlog[0],
        int(new.publish),
        new.max_parallel,
        len(new.steps),
    )


def to_text(address: Address | None) -> str | None:
    return None if address is None else to_json(address)


def to_address(text: str | None) -> Address | None:
    return None if text is None else Address(*from_json(text))


def to_step(row: Row) -> StepState:
    """Read a row of ``idx``, `STEP_FIXED` and `STEP_CHANGES`."""
    status, *changes = row[_RECORD_WIDTH:]
    return StepState(_to_record(*row[:_RECORD_WIDTH]), StepStatus(status), *changes[:-2])


@lru_cache(maxsize=1024)  # runs of one plan have equal ones
def _to_record(
    index: int, name: str, task: str, kind: str, event: str | None, rules: str, blob: bytes
) -> StepRecord:
    read = from_json(rules)
    successors, need, sources, queue, route, slots, items_from = read[:7]
    join, lost_most, delay_seconds, on_failure, limits = read[7:]
    return StepRecord(
        index=index,
        name=name,
        task=task,
        blob=blob,
        successors=tuple(successors),
        need=need,
        sources=tuple(sources),
        queue=queue,
        route=route,
        kind=StepKind(kind),
        slots=slots,
        items_from=items_from,
        join=Join(join),
        lost_most=lost_most,
        delay_seconds=delay_seconds,
        event=event,
        on_failure=OnFailure(on_failure),
        limits=tuple(Limit(*limit) for limit in limits),
    )


@lru_cache(maxsize=1024)
def from_record(record: StepRecord) -> tuple[Any, ...]:
    """Write `STEP_FIXED`."""
    rules = (
        *(record.successors, record.need, record.sources, record.queue, record.route),
        *(record.slots, record.items_from, record.join, record.lost_most),
        *(record.delay_seconds, record.on_failure),
        [
            (limit.key, limit.most, limit.per_second, limit.burst, limit.priority)
            for limit in record.limits
        ],
    )
    return (
        record.name,
        record.task,
        record.kind.value,
        record.event,
        to_json(rules),
        record.blob,
    )


def from_step(step: StepState, retrying: int, items_key: int | None) -> tuple[Any, ...]:
    """Write `STEP_CHANGES`."""
    return (
        WORDS[step.status],
        step.waiting_for,
        step.skipped,
        step.started_at,
        step.ended_at,
        step.attempt,
        step.lost,
        step.error,
        step.retry_at,
        step.out_length,
        step.length,
        step.cursor,
        step.left,
        step.failed,
        retrying,
        items_key,
    )


def to_slot(row: Row) -> SlotState:
    """Read a row of `SLOT_CHANGES`."""
    status, due, ready_at, token, last_token, finish_token, answer = row[:7]
    started_at, attempt, lost, kicks, items, note, _ = row[7:]
    return SlotState(
        status=SlotStatus(status),
        due=due,
        ready_at=ready_at,
        token=token,
        last_token=last_token,
        finish_token=finish_token,
        answer=None if answer is None else _to_answer(answer),
        started_at=started_at,
        attempt=attempt,
        lost=lost,
        kicks=kicks,
        items=() if items is None else tuple(from_json(items)),
        note=note,
    )


def from_slot(slot: SlotState, turn: int | None) -> tuple[Any, ...]:
    """Write `SLOT_CHANGES`."""
    return (
        WORDS[slot.status],
        slot.due,
        slot.ready_at,
        slot.token,
        slot.last_token,
        slot.finish_token,
        None if slot.answer is None else _from_answer(slot.answer),
        slot.started_at,
        slot.attempt,
        slot.lost,
        slot.kicks,
        to_json(slot.items) if slot.items else None,
        slot.note,
        turn,
    )


def _to_answer(text: str) -> Answer:
    ready, claimed, next_token, ended, retry_at = from_json(text)
    return Answer(
        ready=tuple((step, slot) for step, slot in ready),
        claimed=None if claimed is None else (claimed[0], claimed[1]),
        next_token=next_token,
        ended=ended,
        retry_at=retry_at,
    )


def _from_answer(answer: Answer) -> str:
    ready, claimed, next_token, ended, retry_at = answer
    if claimed is None:  # then nobody asks for the token
        return _from_last_answer(ready, ended, retry_at)
    return to_json((ready, claimed, next_token, ended, retry_at))


@lru_cache(maxsize=1024)  # most finishes of one plan are answered alike
def _from_last_answer(
    ready: tuple[tuple[int, int], ...], ended: bool, retry_at: float | None
) -> str:
    return to_json((ready, None, None, ended, retry_at))


@lru_cache(maxsize=1024)  # most runs of one plan have equal ones
def from_events(*events: tuple[EventType, int | None, int | None, int, str]) -> str:
    return to_json(events)


def to_events(run_id: str, last: int, at: float, body: str) -> list[EventRecord]:
    """Read the events of one row of `event`, whose last one has the number ``last``."""
    events = from_json(body)
    first = last - len(events) + 1
    return [
        EventRecord(run_id, number, at, EventType(kind), step, slot, attempt, detail)
        for number, (kind, step, slot, attempt, detail) in enumerate(events, first)
    ]


def to_snapshot(row: Row, steps: tuple[StepSnapshot, ...] = ()) -> RunSnapshot:
    """Read a row of `RUN_SHOWN`."""
    run_id, namespace, name, key, kind, status, tags, created_at, started_at, ended_at = row[:10]
    deadline, remaining, total, failed_step, error, reason, failures, parent, meta = row[10:]
    return RunSnapshot(
        run_id=run_id,
        namespace=namespace,
        name=name,
        key=key,
        kind=kind,
        status=RunStatus(status),
        tags=tuple(from_json(tags)),
        created_at=created_at,
        started_at=started_at,
        ended_at=ended_at,
        deadline=deadline,
        remaining=remaining,
        total=total,
        failed_step=failed_step,
        error=error,
        reason=reason,
        failures=failures,
        parent=to_address(parent),
        meta=meta,
        steps=steps,
    )


def to_step_snapshot(row: Row, *, run_has_ended: bool) -> StepSnapshot:
    """Read a row of `STEP_SHOWN`; what an ended run left open reads as CANCELLED."""
    index, name, task, kind, word, started_at, ended_at, attempt, lost = row[:9]
    error, retry_at, length, items_left, failed, progress = row[9:]
    status = StepStatus(word)
    if run_has_ended and not status.is_final:
        status = StepStatus.CANCELLED
    return StepSnapshot(
        index=index,
        name=name,
        task=task,
        kind=StepKind(kind),
        status=status,
        started_at=started_at,
        ended_at=ended_at,
        attempt=attempt,
        lost=lost,
        error=error,
        retry_at=retry_at,
        length=length,
        items_done=0 if length is None else length - items_left,
        items_failed=failed,
        progress=progress,
    )


def to_open_slot(row: Row) -> OpenSlot:
    """Read a row of `SLOT_SHOWN`."""
    step, slot, status, *rest = row
    return OpenSlot(step, slot, SlotStatus(status), *rest)


def to_ready(run_id: str, record: StepRecord, slot: int) -> Ready:
    return Ready(Address(run_id, record.index, slot), record.queue, record.route, record.task)


def from_worker(worker: WorkerRecord) -> str:
    return to_json(asdict(worker))


def to_worker(body: str) -> WorkerRecord:
    facts = from_json(body)
    facts["queues"], facts["tasks"] = tuple(facts["queues"]), tuple(facts["tasks"])
    return WorkerRecord(**facts)
