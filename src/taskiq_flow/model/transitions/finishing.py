"""A worker says what became of a slot, and goes on."""

from __future__ import annotations

from typing import Final

from taskiq_flow.model.limits import LimitBook
from taskiq_flow.model.records import Address, Items, Outcome
from taskiq_flow.model.state import Answer, Effects, RunState, SlotStatus, StepState
from taskiq_flow.model.transitions.leases import release
from taskiq_flow.model.transitions.outcomes import apply_outcome
from taskiq_flow.model.transitions.pace import Pace
from taskiq_flow.model.transitions.slots import claim_of, claim_slot, unblock

_UNCLAIMED: Final = frozenset({SlotStatus.READY, SlotStatus.TIMER, SlotStatus.BLOCKED})
"""Where a slot is after its lease ran out: ready, or put off by a limit since."""


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

    One that comes after the end of its run only gives the slot back, and is not ``recorded``.
    With a ``next_token`` the caller goes on: the same slot's next items, or the first step that
    became ready and may continue in place, are claimed for it in the same call.
    """
    slot = run.slots.get(at)
    if slot is None:
        return None
    if slot.finish_token == token and slot.answer is not None:
        return _answer_again(run, slot.answer)
    if run.status.is_final:
        effects = release(run, at, token, 0.0, now, pace, limits)
        if effects is not None:
            effects.recorded = False
        return effects
    holds = slot.status is SlotStatus.RUNNING and slot.token == token
    # The lease ran out, but nobody took the slot since: the work is done, so it counts.
    late = slot.status in _UNCLAIMED and slot.last_token == token
    if not holds and not late:
        return None
    step = run.steps[at[0]]
    effects = Effects()
    if holds:
        run.running -= 1
    elif slot.status is SlotStatus.BLOCKED and run.blocked and at in run.blocked:
        run.blocked.remove(at)
    if step.record.limits:
        effects.freed = limits.leave(step.record.limits, Address(run.run_id, *at))
    slot.token = slot.last_token = None
    slot.status, slot.due = SlotStatus.DONE, None
    # A step may have ended while one of its slots ran: another of its items failed for good.
    if not step.status.is_final:
        apply_outcome(run, at, slot, step, outcome, now, pace, effects)
    if run.blocked:
        unblock(run, now, pace, effects)
    if next_token is not None and not run.status.is_final:
        _go_on(run, step, outcome, next_token, now, pace, effects)
    slot.finish_token = token
    slot.answer = Answer(
        ready=tuple(effects.ready),
        claimed=None if effects.claim is None else effects.claim.at,
        next_token=next_token,
        ended=effects.ended,
        retry_at=effects.retry_at,
    )
    return effects


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
        claim_slot(run, candidate, token, now, pace, want, effects)
        return


def _answer_again(run: RunState, answer: Answer) -> Effects:
    effects = Effects(
        ready=list(answer.ready), ended=answer.ended, retry_at=answer.retry_at, repeated=True
    )
    if answer.claimed is not None and not run.status.is_final:
        slot, step = run.slots[answer.claimed], run.steps[answer.claimed[0]]
        holds = slot.status is SlotStatus.RUNNING and slot.token == answer.next_token
        if holds and not step.status.is_final:
            effects.claim = claim_of(step, answer.claimed, slot)
    return effects
