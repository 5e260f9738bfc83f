"""Runs, outcomes and filters as the arguments that redis.lua takes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from taskiq_flow.codec.facts import write_facts
from taskiq_flow.model.records import (
    Aborted,
    Done,
    DoneSequence,
    Expanded,
    Failed,
    Items,
    Join,
    Limit,
    NewRun,
    Outcome,
    Parked,
    Retry,
    RunFilter,
    SequenceValue,
    StepRecord,
    StepStatus,
    WorkerRecord,
    bound_items_key,
)
from taskiq_flow.model.transitions import first_slot
from taskiq_flow.stores.base import CHUNK

Argument: TypeAlias = bytes | str | int | float

PART_BYTES = 1 << 20
"""Bytes after which a run in creation is sent in another part."""

STEPS_KEPT, PLANS_KEPT = 120, 100
"""What is said of the steps of a plan is kept if they are so few, for so many plans at a time."""


def header(new: NewRun) -> str:
    """What only readers of a run need."""
    return _json(
        {
            "namespace": new.namespace,
            "name": new.name,
            "key": new.key,
            "kind": new.kind,
            "tags": new.tags,
            "parent": new.parent,
            "total": len(new.steps),
        }
    )


def setup(new: NewRun, token: str | None = None) -> str:
    """What the script needs to know of the run as a whole; absent, never null.

    With a token it is told which slot to start, if the run has one to start with.
    """
    first = None if token is None else first_slot(new)
    waiting = _waiting(new)
    facts = {
        "rem": len(new.steps) - len(new.done),
        "last": len(new.steps) - 1,
        "open": [index for index, count in waiting.items() if not count and index not in new.done],
        "queue": new.queue,
        "indexes": indexes(new.name, new.kind, new.tags),
        "key": new.key,
        "tick": new.tick,
        "timeout": new.timeout_seconds,
        "most": new.max_parallel,
        "publish": new.publish or None,
        "parent": None if new.parent is None else _json(new.parent),
        "start": None if first is None else first[0],
        "token": None if first is None else token,
    }
    if new.backlog is not None:
        facts["backlog"], facts["backlog_most"] = new.backlog
    return _json({name: fact for name, fact in facts.items() if fact is not None})


def indexes(name: str, kind: str, tags: Iterable[str]) -> list[str]:
    """The indexes that a run stays in, whatever becomes of it."""
    return ["i:all", f"i:n:{name}", f"i:k:{kind}", *(f"i:t:{tag}" for tag in dict.fromkeys(tags))]


def filter_arguments(which: RunFilter, at: Argument, limit: int) -> list[Argument]:
    """What a listing or a count is asked for, from the time of the last run seen on."""
    asked = {"s": which.status, "n": which.name, "k": which.kind, "t": which.tag}
    own = [f"i:{kind}:{value}" for kind, value in asked.items() if value is not None]
    ends: tuple[str, str] = ("", "")
    if which.is_about_ends:
        ends = (_time(which.ended_since, "-inf"), _time(which.ended_until, "inf"))
    times = (_time(which.since, "-inf"), _time(which.until, "inf"))
    # Beside a beginning of names, or times of ends, which may be few, all of them are walked.
    indexes = own or ["i:all"]
    return [at, *times, limit, *ends, which.status or "", which.search or "", *indexes]


def _time(moment: float | None, otherwise: str) -> str:
    return otherwise if moment is None else repr(float(moment))


def parts(new: NewRun, items: Mapping[int, Iterable[bytes]]) -> Iterator[list[Argument]]:
    """A run's fields in groups of one key each, so much at a time as one call should carry.

    The items of a ``done`` step are its output; those of others are what they map over.
    """
    run = f"r:{new.run_id}"
    groups: dict[str, list[Argument]] = {}
    count = size = 0
    steps: Iterable[tuple[str, bytes | str]] = ()
    if new.done or new.lengths or len(new.steps) > STEPS_KEPT:
        steps = _step_fields(new)
    else:
        # The same for every run of a plan, and most of what there is to say of a small one.
        kept = _kept_fields(new)
        groups[run], count, size = list(kept.fields), len(kept.fields), kept.size
    own = ((run, field, value) for field, value in steps)
    for key, field, value in chain(own, _fields(new, items)):
        groups.setdefault(key, []).extend((field, value))
        count, size = count + 2, size + len(value)
        if count >= CHUNK or size >= PART_BYTES:
            yield _flat(groups)
            groups, count, size = {}, 0, 0
    yield _flat(groups)


def _flat(groups: Mapping[str, list[Argument]]) -> list[Argument]:
    flat: list[Argument] = []
    for key, fields in groups.items():
        flat.extend((key, len(fields), *fields))
    return flat


class _Kept(NamedTuple):
    """Fields and values by turns, of the steps by which they are found."""

    steps: Sequence[StepRecord]
    fields: tuple[Argument, ...]
    size: int


_kept: dict[int, _Kept] = {}


def _kept_fields(new: NewRun) -> _Kept:
    """What `_step_fields` says of these very steps: a plan has the same ones in all its runs."""
    kept = _kept.get(id(new.steps))
    if kept is None or kept.steps is not new.steps:
        pairs = list(_step_fields(new))
        if len(_kept) >= PLANS_KEPT:
            _kept.clear()
        kept = _Kept(new.steps, tuple(chain(*pairs)), sum(len(value) for _, value in pairs))
        _kept[id(new.steps)] = kept
    return kept


def _step_fields(new: NewRun) -> Iterator[tuple[str, bytes | str]]:
    waiting, skipped = _waiting(new), _skipped(new)
    events: dict[str, list[int]] = {}
    for step in new.steps:
        index = step.index
        yield f"h{index}", _record(step, new, waiting[index], skipped.get(index))
        yield f"b{index}", step.blob
        if step.successors:
            yield f"c{index}", ",".join(map(str, step.successors))
        if step.sources:
            yield f"u{index}", ",".join(map(str, step.sources))
        if step.event is not None:
            events.setdefault(step.event, []).append(index)
    for event, waiters in events.items():
        yield f"E{event}", ",".join(map(str, waiters))


def _fields(
    new: NewRun, items: Mapping[int, Iterable[bytes]]
) -> Iterator[tuple[str, str, bytes | str]]:
    run, values = f"r:{new.run_id}", f"v:{new.run_id}"
    yield run, "m", new.meta
    yield values, "plan", new.plan
    for key, value in (*new.inputs.items(), *new.done.items()):
        if value is not None and not isinstance(value, SequenceValue):
            yield values, str(key), value
    for index, stored in items.items():
        sequence = f"q:{new.run_id}:{index if index in new.done else bound_items_key(index)}"
        for number, value in enumerate(stored):
            yield sequence, str(number), value


def _record(step: StepRecord, new: NewRun, waiting: int, skipped: int | None) -> bytes:
    done = new.done.get(step.index)
    status = StepStatus.SKIPPED if done is None else StepStatus.COMPLETED
    facts: dict[str, Any] = {
        "name": step.name,
        "task": step.task,
        "kind": step.kind,
        "queue": step.queue,
        "route": step.route,
        "need": step.need,
        "w": waiting,
        "slots": step.slots,
        "lost_most": step.lost_most,
        "on_failure": step.on_failure,
        "join": None if step.join is Join.ALL else step.join,
        "items_from": step.items_from,
        "delay": step.delay_seconds,
        "event": step.event,
        "limits": [_limit(limit) for limit in step.limits] or None,
        "length": new.lengths.get(step.index),
        "k": skipped,
        "done": status if step.index in new.done else None,
        "out": done.length if isinstance(done, SequenceValue) else None,
    }
    return write_facts({name: fact for name, fact in facts.items() if fact is not None})


def _limit(limit: Limit) -> dict[str, Any]:
    facts = {
        "key": limit.key,
        "most": limit.most,
        "rate": limit.per_second,
        "burst": limit.burst,
        "rank": -limit.priority or None,
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def _waiting(new: NewRun) -> dict[int, int]:
    """How many steps each one waits for at the start."""
    waiting = {step.index: step.need for step in new.steps}
    for index in new.done:
        for successor in new.steps[index].successors:
            waiting[successor] -= 1
    return waiting


def _skipped(new: NewRun) -> dict[int, int]:
    """How many of the steps that each one needs stay skipped."""
    gone = [index for index, value in new.done.items() if value is None]
    return Counter(successor for index in gone for successor in new.steps[index].successors)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def outcome_arguments(outcome: Outcome) -> list[Argument]:
    """The kind of an outcome, then what belongs to it."""
    match outcome:
        case Done():
            return ["done", outcome.value, ",".join(map(str, outcome.skip))]
        case DoneSequence():
            return ["sequence", outcome.length]
        case Expanded():
            return ["expanded", outcome.length]
        case Failed():
            return ["failed", outcome.error, outcome.then]
        case Retry():
            return ["retry", outcome.error, repr(outcome.delay_seconds)]
        case Aborted():
            return ["aborted", outcome.reason]
        case Parked():
            timeout = outcome.timeout_seconds
            return ["parked", "" if timeout is None else repr(timeout)]
        case Items():
            return _items_arguments(outcome)


def _items_arguments(outcome: Items) -> list[Argument]:
    failed = outcome.failed
    arguments: list[Argument] = [
        "items",
        outcome.errors,
        "" if failed is None else failed.then,
        b"" if failed is None else failed.error,
        len(outcome.done),
        len(outcome.retries),
    ]
    for item in outcome.done:
        arguments += (item.number, item.value)
    for retry in outcome.retries:
        arguments += (retry.number, repr(retry.delay_seconds), retry.error)
    return arguments


def worker_argument(worker: WorkerRecord) -> str:
    return _json(
        [
            worker.worker_id,
            worker.namespace,
            worker.queues,
            worker.tasks,
            worker.seen_at,
            worker.host,
            worker.pid,
            worker.version,
        ]
    )
