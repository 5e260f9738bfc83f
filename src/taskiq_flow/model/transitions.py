"""The whole rule by which a run changes; no I/O, no clock, no broker.

Every function takes a `RunState`, what happened, and the time; it changes the state in place
(a copy would cost as much as the run is long) and returns what its store has to do. Stores apply
them inside a lock or a transaction; the Redis store says the same in Lua and is held to these by
the contract suite.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import NamedTuple

from taskiq_flow.model.limits import LimitBook
from taskiq_flow.model.records import (
    NONE_VALUE,
    Aborted,
    Address,
    Done,
    DoneSequence,
    EventType,
    Expanded,
    Failed,
    Items,
    Join,
    LostReason,
    NewRun,
    OnFailure,
    Outcome,
    Parked,
    Refusal,
    RefusalReason,
    Retry,
    RunStatus,
    SequenceValue,
    StepKind,
    StepStatus,
)
from taskiq_flow.model.state import (
    Answer,
    Claim,
    Effects,
    RunState,
    SlotState,
    SlotStatus,
    StepState,
)

DEADLINE_ERROR = b"#deadline"
POISON_ERROR = b"#poison"
EVENT_TIMEOUT_ERROR = b"#event-timeout"
"""Errors that the store itself records have a code; everybody else's are JSON."""

KICK_DOUBLINGS = 6
"""A lost message is sent again after 1, 2, 4 … 64 times the base, so a backlog is not doubled."""


_STEP_ENDS = {
    StepStatus.COMPLETED: EventType.STEP_COMPLETED,
    StepStatus.FAILED: EventType.STEP_FAILED,
    StepStatus.SKIPPED: EventType.STEP_SKIPPED,
}
_UNCLAIMED = frozenset({SlotStatus.READY, SlotStatus.TIMER, SlotStatus.BLOCKED})
"""Where a slot is after its lease ran out: ready, or put off by a limit since."""

_RUN_ENDS = {
    RunStatus.COMPLETED: EventType.RUN_COMPLETED,
    RunStatus.FAILED: EventType.RUN_FAILED,
    RunStatus.CANCELLED: EventType.RUN_CANCELLED,
}


class Pace(NamedTuple):
    """The times that a store works with, in seconds: a lease, and the base of re-kicks."""

    lease: float
    kick: float


def create(new: NewRun, now: float, pace: Pace) -> tuple[RunState, Effects]:
    """Make the state of a new run and open the steps that need nothing."""
    run = RunState(
        run_id=new.run_id,
        status=RunStatus.PENDING,
        remaining=len(new.steps),
        created_at=now,
        deadline=None if new.timeout_seconds is None else now + new.timeout_seconds,
        max_parallel=new.max_parallel,
        publish=new.publish,
        parent=new.parent,
    )
    effects = Effects()
    effects.events.append((EventType.RUN_CREATED, None, None, 0, ""))
    for record in new.steps:
        step = StepState(record=record, status=StepStatus.WAITING, waiting_for=record.need)
        step.length = new.lengths.get(record.index)
        step.left = step.length or 0
        run.steps[record.index] = step
    for index, value in new.done.items():
        step = run.steps[index]
        step.status, step.ended_at, step.left = StepStatus.COMPLETED, now, 0
        run.remaining -= 1
        if value is None:
            step.status = StepStatus.SKIPPED
        elif isinstance(value, SequenceValue):
            step.out_length = value.length
        else:
            effects.values[index] = value
        for successor in step.record.successors:
            run.steps[successor].waiting_for -= 1
            run.steps[successor].skipped += value is None
    opening = [
        (index, _verdict(step))
        for index, step in run.steps.items()
        if step.waiting_for == 0 and not step.status.is_final
    ]
    _settle_steps(run, deque[tuple[int, StepStatus | None]](opening), now, pace, effects)
    return run, effects


def start(
    run: RunState,
    at: tuple[int, int],
    token: str,
    now: float,
    pace: Pace,
    limits: LimitBook,
    want: int = 1,
) -> Effects | Refusal:
    """Take the lease of a slot. The same token again gets the same claim."""
    if run.status.is_final:
        return Refusal(RefusalReason.ENDED)
    slot = run.slots.get(at)
    if slot is None:
        return Refusal(RefusalReason.GONE)
    step = run.steps[at[0]]
    if step.status.is_final or slot.status is SlotStatus.DONE:
        return Refusal(RefusalReason.DONE)
    if slot.status is SlotStatus.RUNNING:
        if slot.token != token:
            return Refusal(RefusalReason.RUNNING)
        return Effects(claim=_claim_of(step, at, slot))
    if not _may_start(step, slot, now):
        return Refusal(RefusalReason.WAITING, retry_at=slot.due)
    if _rests(step, slot, now):
        if slot.due is None:
            return Refusal(RefusalReason.DONE)
        return Refusal(RefusalReason.WAITING, retry_at=slot.due)
    if run.max_parallel is not None and run.running >= run.max_parallel:
        slot.status, slot.due = SlotStatus.BLOCKED, None
        run.blocked.append(at)
        return Refusal(RefusalReason.LIMITED)
    record = step.record
    if record.limits:
        retry_at = limits.take(record.limits, token, Address(run.run_id, *at), now, pace.lease)
        if retry_at is not None:
            slot.status, slot.due = SlotStatus.TIMER, retry_at
            return Refusal(RefusalReason.LIMITED, retry_at=retry_at)
    effects = Effects()
    _claim(run, at, token, now, pace, want, effects)
    return effects


def finish(
    run: RunState,
    at: tuple[int, int],
    token: str,
    outcome: Outcome,
    next_token: str | None,
    now: float,
    pace: Pace,
    limits: LimitBook,
) -> Effects | None:
    """Record the outcome of a slot, or return None for a stale token, which changes nothing.

    With a ``next_token`` the caller goes on: the same slot's next items, or the first step that
    became ready and may continue in place, are claimed for it in the same call.
    """
    slot = run.slots.get(at)
    if slot is None:
        return None
    if slot.finish_token == token and slot.answer is not None:
        return _answer_again(run, slot.answer)
    if run.status.is_final:
        return None
    holds = slot.status is SlotStatus.RUNNING and slot.token == token
    # The lease ran out, but nobody took the slot since: the work is done, so it counts.
    late = slot.status in _UNCLAIMED and slot.last_token == token
    if not holds and not late:
        return None
    step = run.steps[at[0]]
    effects = Effects()
    if holds:
        run.running -= 1
    elif slot.status is SlotStatus.BLOCKED and at in run.blocked:
        run.blocked.remove(at)
    if step.record.limits:
        effects.freed.extend(limits.leave(step.record.limits, token))
    slot.token = slot.last_token = None
    slot.status, slot.due = SlotStatus.DONE, None
    # A step may have ended while one of its slots ran: another of its items failed for good.
    if not step.status.is_final:
        _apply(run, at, slot, step, outcome, now, pace, effects)
    _unblock(run, now, pace, effects)
    if next_token is not None and not run.status.is_final:
        _go_on(run, step, outcome, next_token, now, pace, effects)
    slot.finish_token = token
    slot.answer = Answer(
        ready=tuple(effects.ready),
        claimed=None if effects.claim is None else (effects.claim.step, effects.claim.slot),
        next_token=next_token,
        ended=effects.ended,
        retry_at=effects.retry_at,
    )
    return effects


def renew(
    run: RunState | None,
    at: tuple[int, int],
    token: str,
    now: float,
    pace: Pace,
    limits: LimitBook,
) -> LostReason | None:
    """Extend a lease, or say why it is lost."""
    if run is None:
        return LostReason.ENDED
    if run.status is RunStatus.CANCELLED:
        return LostReason.CANCELLED
    if run.status.is_final:
        return LostReason.ENDED
    slot = run.slots.get(at)
    if slot is None or slot.status is not SlotStatus.RUNNING or slot.token != token:
        return LostReason.TAKEN
    step = run.steps[at[0]]
    if step.status.is_final:
        return LostReason.ENDED
    slot.due = now + pace.lease
    if step.record.limits:
        limits.extend(step.record.limits, token, now + pace.lease)
    return None


def release(
    run: RunState,
    at: tuple[int, int],
    token: str,
    delay_seconds: float,
    now: float,
    pace: Pace,
    limits: LimitBook,
) -> Effects | None:
    """Give a slot back without counting an attempt; None for a stale token."""
    slot = run.slots.get(at)
    if (
        slot is None
        or run.status.is_final
        or slot.status is not SlotStatus.RUNNING
        or slot.token != token
    ):
        return None
    effects = Effects()
    step = run.steps[at[0]]
    run.running -= 1
    slot.token = slot.last_token = None
    if step.record.limits:
        effects.freed.extend(limits.leave(step.record.limits, token))
    if step.status.is_final:
        slot.status, slot.due = SlotStatus.DONE, None
    elif delay_seconds > 0:
        slot.status, slot.due = SlotStatus.TIMER, now + delay_seconds
    else:
        _make_slot_ready(slot, now, pace, keep_ready_at=True)
        effects.ready.append(at)
    _unblock(run, now, pace, effects)
    return effects


def wake(
    run: RunState, at: tuple[int, int], now: float, pace: Pace, hold_until: float
) -> Effects | None:
    """Do what the due time of a slot asks for; None when nothing is due there.

    Until ``hold_until`` no lease expires: the store was away, and so were the renewals.
    """
    slot = run.slots.get(at)
    if slot is None or run.status.is_final:
        return None
    if slot.due is None or slot.due > now:
        return None
    step = run.steps[at[0]]
    effects = Effects()
    if slot.status is SlotStatus.RUNNING and now < hold_until:
        slot.due = hold_until
        return None
    if step.status.is_final:
        if slot.status is SlotStatus.RUNNING:
            run.running -= 1
        slot.token, slot.status, slot.due = None, SlotStatus.DONE, None
    elif slot.status is SlotStatus.RUNNING:
        _lose(run, at, slot, step, now, pace, effects)
    elif slot.status is SlotStatus.READY:
        slot.due = now + pace.kick * 2 ** min(slot.kicks, KICK_DOUBLINGS)
        slot.kicks += 1
        effects.ready.append(at)
    elif slot.status is SlotStatus.TIMER and step.record.kind is StepKind.TIMER:
        slot.status, slot.due = SlotStatus.DONE, None
        _complete(run, at[0], StepStatus.COMPLETED, now, pace, effects)
    elif slot.status is SlotStatus.TIMER:
        _make_slot_ready(slot, now, pace, keep_ready_at=True)
        effects.ready.append(at)
    elif slot.status is SlotStatus.PARKED:
        slot.status, slot.due = SlotStatus.DONE, None
        _fail(run, at[0], Failed(EVENT_TIMEOUT_ERROR, step.record.on_failure), now, pace, effects)
    _unblock(run, now, pace, effects)
    return effects


def pass_deadline(run: RunState, now: float) -> Effects | None:
    """End a run whose time is up; None when it ended before or has time left."""
    if run.status.is_final or run.deadline is None or run.deadline > now:
        return None
    effects = Effects()
    _end(run, RunStatus.FAILED, now, effects, error=DEADLINE_ERROR)
    return effects


def cancel(run: RunState, reason: str, now: float) -> Effects | None:
    """End a run because somebody asked; None when it had ended before."""
    if run.status.is_final:
        return None
    effects = Effects()
    _end(run, RunStatus.CANCELLED, now, effects, reason=reason)
    return effects


def hurry(run: RunState, at: tuple[int, int], now: float, pace: Pace) -> Effects | None:
    """Make a slot ready that slept because a limit was used up; None when it does not sleep."""
    slot = run.slots.get(at)
    if slot is None or run.status.is_final or slot.status is not SlotStatus.TIMER:
        return None
    effects = Effects()
    _make_slot_ready(slot, now, pace, keep_ready_at=True)
    effects.ready.append(at)
    return effects


def resume(run: RunState, at: tuple[int, int], note: str, now: float, pace: Pace) -> Effects | None:
    """Make a parked slot ready again; None when it is not parked (any more)."""
    slot = run.slots.get(at)
    if slot is None or run.status.is_final or slot.status is not SlotStatus.PARKED:
        return None
    effects = Effects()
    slot.note = note
    _make_slot_ready(slot, now, pace)
    effects.ready.append(at)
    return effects


def receive(run: RunState, name: str, payload: bytes, now: float, pace: Pace) -> Effects | None:
    """Deliver an event to the steps that wait for it, and keep it for those to come.

    None when the run has ended. A second event of the same name replaces the first one for
    steps that come later.
    """
    if run.status.is_final:
        return None
    effects = Effects()
    effects.events.append((EventType.EVENT_RECEIVED, None, None, 0, name))
    run.inbox[name] = payload
    for index, step in list(run.steps.items()):
        slot = run.slots.get((index, 0))
        if step.record.event == name and slot and slot.status is SlotStatus.PARKED:
            slot.status, slot.due = SlotStatus.DONE, None
            effects.values[index] = payload
            _complete(run, index, StepStatus.COMPLETED, now, pace, effects)
    return effects


# --- opening and claiming -------------------------------------------------------------------


def _make_slot_ready(
    slot: SlotState, now: float, pace: Pace, *, keep_ready_at: bool = False
) -> None:
    slot.status, slot.due, slot.kicks = SlotStatus.READY, now + pace.kick, 0
    if not keep_ready_at:
        slot.ready_at = now


def _open_slot(
    run: RunState,
    at: tuple[int, int],
    now: float,
    pace: Pace,
    effects: Effects,
) -> None:
    run.slots[at] = SlotState(status=SlotStatus.READY, due=now + pace.kick, ready_at=now)
    effects.ready.append(at)


def _open_step(run: RunState, step: StepState, now: float, pace: Pace, effects: Effects) -> bool:
    """Make a step ready; True when that alone completes it."""
    record = step.record
    index = record.index
    step.status = StepStatus.READY
    if record.kind is StepKind.TIMER:
        run.slots[index, 0] = SlotState(
            status=SlotStatus.TIMER, due=now + (record.delay_seconds or 0.0), ready_at=now
        )
        _sleep(effects, (index, 0), run.slots[index, 0].due)
        return False
    if record.kind is StepKind.EVENT:
        payload = run.inbox.get(record.event or "")
        if payload is not None:
            effects.values[index] = payload
            return True
        until = None if record.delay_seconds is None else now + record.delay_seconds
        run.slots[index, 0] = SlotState(status=SlotStatus.PARKED, due=until, ready_at=now)
        _sleep(effects, (index, 0), until)
        effects.events.append((EventType.STEP_PARKED, index, 0, 0, record.event or ""))
        return False
    if record.kind is StepKind.MAP:
        if step.length is None and record.items_from is not None:
            step.length = run.steps[record.items_from].out_length
        if step.length is not None:
            return _open_items(run, step, now, pace, effects)
    _open_slot(run, (index, 0), now, pace, effects)
    return False


def _sleep(effects: Effects, at: tuple[int, int], due: float | None) -> None:
    effects.sleeping.append(at)
    if due is not None and (effects.retry_at is None or due < effects.retry_at):
        effects.retry_at = due


def _open_items(run: RunState, step: StepState, now: float, pace: Pace, effects: Effects) -> bool:
    """Open the slots of a map step; True when it has no items and so is complete."""
    length = step.length or 0
    step.left = step.out_length = length
    for number in range(min(step.record.slots, length)):
        _open_slot(run, (step.record.index, number), now, pace, effects)
    return length == 0


def _claim(
    run: RunState,
    at: tuple[int, int],
    token: str,
    now: float,
    pace: Pace,
    want: int,
    effects: Effects,
) -> None:
    """Give a slot that does not rest to the holder of a token."""
    slot, step = run.slots[at], run.steps[at[0]]
    if step.record.kind is StepKind.MAP and step.length is not None and not slot.items:
        _take_items(step, slot, want, now)
    slot.status, slot.due = SlotStatus.RUNNING, now + pace.lease
    slot.token = slot.last_token = token
    slot.started_at, slot.kicks = now, 0
    run.running += 1
    if run.status is RunStatus.PENDING:
        run.status, run.started_at = RunStatus.RUNNING, now
        effects.events.append((EventType.RUN_STARTED, None, None, 0, ""))
    if step.started_at is None:
        step.started_at = now
    if step.status is not StepStatus.RUNNING:
        step.status, step.retry_at = StepStatus.RUNNING, None
        effects.events.append((EventType.STEP_STARTED, at[0], at[1], slot.attempt + 1, ""))
    effects.claim = _claim_of(step, at, slot)


def _may_start(step: StepState, slot: SlotState, now: float) -> bool:
    if slot.status is SlotStatus.READY:
        return True
    if slot.status is not SlotStatus.TIMER or step.record.kind is StepKind.TIMER:
        return False
    return slot.due is not None and slot.due <= now


def _rests(step: StepState, slot: SlotState, now: float) -> bool:
    """Put a slot that finds nothing to do aside, until the next retry of its step if any."""
    if not step.status.is_final:
        if step.record.kind is not StepKind.MAP or step.length is None:
            return False
        if slot.items or step.cursor < step.length:
            return False
        if step.retries:
            first = step.retries[0][0]
            if first > now:
                slot.status, slot.due, slot.ready_at = SlotStatus.TIMER, first, first
            return first > now
    slot.status, slot.due = SlotStatus.DONE, None
    return True


def _claim_of(step: StepState, at: tuple[int, int], slot: SlotState) -> Claim:
    return Claim(
        step=at[0],
        slot=at[1],
        token=slot.token or "",
        items=tuple([(index, step.attempts.get(index, 0)) for index in slot.items]),
        expand=step.record.kind is StepKind.MAP and step.length is None,
    )


def _take_items(step: StepState, slot: SlotState, want: int, now: float) -> None:
    """Take a due retry, else the next items: fewer the fewer are left, so slots end together."""
    slot.lost = 0
    if step.retries and step.retries[0][0] <= now:
        slot.items = [heapq.heappop(step.retries)[1]]
        return
    length = step.length or 0
    share = max(1, (length - step.cursor) // step.record.slots)
    end = min(length, step.cursor + min(max(1, want), share))
    slot.items = list(range(step.cursor, end))
    step.cursor = end


def _go_on(
    run: RunState,
    step: StepState,
    outcome: Outcome,
    token: str,
    now: float,
    pace: Pace,
    effects: Effects,
) -> None:
    """Claim more work for the worker that has just finished: same slot first, then a successor."""
    if run.max_parallel is not None and run.running >= run.max_parallel:
        return
    for number, candidate in enumerate(effects.ready):
        record = run.steps[candidate[0]].record
        if record.limits or record.queue != step.record.queue or record.route != step.record.route:
            continue
        want = outcome.want if isinstance(outcome, Items) else 1
        del effects.ready[number]
        _claim(run, candidate, token, now, pace, want, effects)
        return


def _unblock(run: RunState, now: float, pace: Pace, effects: Effects) -> None:
    """Let slots behind the run's own limit go, as many as there is room for."""
    while (
        run.blocked
        and not run.status.is_final
        and (run.max_parallel is None or run.running + len(effects.ready) < run.max_parallel)
    ):
        at = run.blocked.popleft()
        slot = run.slots.get(at)
        if slot is None or slot.status is not SlotStatus.BLOCKED:
            continue
        # The room must not go to one that would not use it: nobody else would wake the next.
        if _rests(run.steps[at[0]], slot, now):
            effects.sleeping.append(at)
        else:
            _make_slot_ready(slot, now, pace)
            effects.ready.append(at)


def _answer_again(run: RunState, answer: Answer) -> Effects:
    effects = Effects(
        ready=list(answer.ready), ended=answer.ended, retry_at=answer.retry_at, repeated=True
    )
    if answer.claimed is not None and not run.status.is_final:
        slot, step = run.slots[answer.claimed], run.steps[answer.claimed[0]]
        holds = slot.status is SlotStatus.RUNNING and slot.token == answer.next_token
        if holds and not step.status.is_final:
            effects.claim = _claim_of(step, answer.claimed, slot)
    return effects


# --- endings --------------------------------------------------------------------------------


def _apply(
    run: RunState,
    at: tuple[int, int],
    slot: SlotState,
    step: StepState,
    outcome: Outcome,
    now: float,
    pace: Pace,
    effects: Effects,
) -> None:
    index = at[0]
    match outcome:
        case Done():
            effects.values[index] = outcome.value
            _complete(run, index, StepStatus.COMPLETED, now, pace, effects, skip=outcome.skip)
        case DoneSequence():
            step.out_length = outcome.length
            _complete(run, index, StepStatus.COMPLETED, now, pace, effects)
        case Expanded():
            step.length = outcome.length
            if _open_expanded(run, at, slot, step, now, pace, effects):
                _complete(run, index, StepStatus.COMPLETED, now, pace, effects)
        case Items():
            _record_items(run, at, slot, step, outcome, now, pace, effects)
        case Retry():
            slot.attempt += 1
            slot.lost = 0
            step.attempt += 1
            step.error = outcome.error
            _back_off(step, slot, now + outcome.delay_seconds, at, effects)
        case Failed():
            slot.attempt += 1
            step.attempt += 1
            _fail(run, index, outcome, now, pace, effects)
        case Aborted():
            _end(run, RunStatus.CANCELLED, now, effects, reason=outcome.reason)
        case Parked():
            timeout = outcome.timeout_seconds
            slot.status = SlotStatus.PARKED
            slot.due = None if timeout is None else now + timeout
            effects.events.append((EventType.STEP_PARKED, index, at[1], slot.attempt + 1, ""))


def _open_expanded(
    run: RunState,
    at: tuple[int, int],
    slot: SlotState,
    step: StepState,
    now: float,
    pace: Pace,
    effects: Effects,
) -> bool:
    """Open a map whose items are now known; its first slot lives on with its memory."""
    if _open_items(run, step, now, pace, effects):
        return True
    fresh = run.slots[at]
    slot.status, slot.due, slot.ready_at = fresh.status, fresh.due, fresh.ready_at
    run.slots[at] = slot
    return False


def _record_items(
    run: RunState,
    at: tuple[int, int],
    slot: SlotState,
    step: StepState,
    outcome: Items,
    now: float,
    pace: Pace,
    effects: Effects,
) -> None:
    index = at[0]
    ended = {item.number for item in outcome.done}
    for item in outcome.done:
        effects.items[item.number] = item.value
        step.attempts.pop(item.number, None)
    step.left -= len(ended)
    step.failed += outcome.errors
    run.failures += outcome.errors
    for retry in outcome.retries:
        step.attempts[retry.number] = step.attempts.get(retry.number, 0) + 1
        step.error = retry.error
        heapq.heappush(step.retries, (now + retry.delay_seconds, retry.number))
        ended.add(retry.number)
    slot.items = [number for number in slot.items if number not in ended]
    slot.lost = 0
    if outcome.failed is not None:
        step.failed += 1
        _fail(run, index, outcome.failed, now, pace, effects)
    elif step.left == 0:
        _complete(run, index, StepStatus.COMPLETED, now, pace, effects)
    elif (
        slot.items
        or step.cursor < (step.length or 0)
        or (step.retries and step.retries[0][0] <= now)
    ):
        _make_slot_ready(slot, now, pace)
        effects.ready.insert(0, at)
    elif step.retries:
        _back_off(step, slot, step.retries[0][0], at, effects)


def _back_off(
    step: StepState, slot: SlotState, until: float, at: tuple[int, int], effects: Effects
) -> None:
    slot.status, slot.due, slot.ready_at = SlotStatus.TIMER, until, until
    if step.record.kind is not StepKind.MAP:
        step.status, step.retry_at = StepStatus.RETRYING, until
    effects.retry_at = until
    effects.events.append((EventType.STEP_RETRYING, at[0], at[1], slot.attempt, f"{until:.3f}"))


def _lose(
    run: RunState,
    at: tuple[int, int],
    slot: SlotState,
    step: StepState,
    now: float,
    pace: Pace,
    effects: Effects,
) -> None:
    run.running -= 1
    slot.lost += 1
    step.lost += 1
    effects.events.append((EventType.STEP_LOST, at[0], at[1], slot.attempt + 1, str(slot.lost)))
    if slot.lost >= step.record.lost_most:
        slot.token, slot.status, slot.due = None, SlotStatus.DONE, None
        _fail(run, at[0], Failed(POISON_ERROR, OnFailure.STOP), now, pace, effects)
        return
    slot.token = None  # last_token stays: see `finish`
    _make_slot_ready(slot, now, pace)
    effects.ready.append(at)


def _complete(
    run: RunState,
    index: int,
    status: StepStatus,
    now: float,
    pace: Pace,
    effects: Effects,
    *,
    skip: tuple[int, ...] = (),
) -> None:
    """End a step; open, skip or complete what follows from it, and end the run with the last."""
    _settle_steps(run, deque([(index, status)]), now, pace, effects, not_taken=frozenset(skip))


def _settle_steps(
    run: RunState,
    todo: deque[tuple[int, StepStatus | None]],
    now: float,
    pace: Pace,
    effects: Effects,
    *,
    not_taken: frozenset[int] = frozenset(),
) -> None:
    """Work off (step, how it ended); None opens a step. A queue: skips may cascade for long."""
    while todo:
        index, status = todo.popleft()
        step = run.steps[index]
        if status is None:
            if not _open_step(run, step, now, pace, effects):
                continue
            status = StepStatus.COMPLETED
        step.status, step.ended_at, step.retry_at = status, now, None
        run.remaining -= 1
        skips = status is StepStatus.SKIPPED
        tries = 0 if skips else step.attempt + (status is StepStatus.COMPLETED)
        effects.events.append((_STEP_ENDS[status], index, None, tries, ""))
        for successor in step.record.successors:
            follower = run.steps[successor]
            follower.waiting_for -= 1
            if skips or successor in not_taken:
                follower.skipped += 1
            # One taken over from an earlier run has ended before what it needs.
            if follower.waiting_for == 0 and not follower.status.is_final:
                todo.append((successor, _verdict(follower)))
        not_taken = frozenset()
    if run.remaining == 0:
        ended = RunStatus.COMPLETED if run.failed_step is None else RunStatus.FAILED
        _end(run, ended, now, effects)


def _verdict(step: StepState) -> StepStatus | None:
    """Say whether a step whose dependencies have all ended is skipped, or opens (None)."""
    if step.skipped == 0:
        return None
    if step.record.join is Join.ANY and step.skipped < step.record.need:
        return None
    return StepStatus.SKIPPED


def _fail(
    run: RunState, index: int, failed: Failed, now: float, pace: Pace, effects: Effects
) -> None:
    step = run.steps[index]
    step.error = failed.error
    run.failures += 1
    if failed.then is OnFailure.STOP:
        step.status, step.ended_at, step.retry_at = StepStatus.FAILED, now, None
        run.remaining -= 1
        effects.events.append((EventType.STEP_FAILED, index, None, step.attempt, ""))
        run.failed_step = index
        _end(run, RunStatus.FAILED, now, effects, error=failed.error)
        return
    if failed.then is OnFailure.LATER and run.failed_step is None:
        run.failed_step, run.error = index, failed.error
    step.out_length = None  # what a map has done so far is not its output
    if failed.then is OnFailure.PASS:
        effects.values[index] = NONE_VALUE
        _complete(run, index, StepStatus.FAILED, now, pace, effects)
    else:
        _complete(run, index, StepStatus.FAILED, now, pace, effects, skip=step.record.successors)


def _end(
    run: RunState,
    status: RunStatus,
    now: float,
    effects: Effects,
    *,
    error: bytes | None = None,
    reason: str | None = None,
) -> None:
    """End a run; the one door. Steps that have not ended read as CANCELLED from here on."""
    run.status, run.ended_at, run.reason = status, now, reason
    run.error = error or run.error
    effects.ended = True
    effects.ready.clear()
    effects.claim = None
    effects.events.append((_RUN_ENDS[status], None, None, 0, reason or ""))
