"""What a scheduler does about a job at a time: pure rules, which hold for any number of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice, takewhile
from typing import Final

from taskiq_flow.scheduling.job import CatchUp, Claim, Job, Outcome, Overlap, Result
from taskiq_flow.stores.base import TICK_SECONDS

ON_TIME_SECONDS: Final = 10.0
"""A tick that is so late at the most was not missed: schedulers are busy, restarted, apart."""

CLAIM_SECONDS: Final = 3.0
"""After which a silent scheduler's work is taken over. That is about time only: a tick that two
fire is one run."""

MOST: Final = 1000
"""Ticks of a job that wait at the most, and are caught up at the most: the newest ones."""


def look_at(job: Job, by: str) -> float | None:
    """When a scheduler should look at a job again; None: not before it is changed."""
    if job.paused or job.gone:
        return None
    state = job.state
    if state.claim is not None and state.claim.by != by:
        return state.claim.at + CLAIM_SECONDS
    if state.waiting:
        return state.decided_until
    tick = job.next_tick()
    # Without any further one it is over, and is to be removed.
    return state.decided_until if tick is None else job.fire_at(tick)


def take(job: Job, now: float, by: str) -> Job | None:
    """Accept what has become due, and claim the firing of it; None when there is nothing to do.

    What this returns has a claim of ``by`` exactly if ticks are to be fired.
    """
    state = job.state
    if job.paused or job.gone:
        return None
    claim = state.claim
    if claim is not None and claim.by != by and abs(now - claim.at) < CLAIM_SECONDS:
        return None
    waiting, missed = state.waiting, state.missed
    if claim is not None and now - claim.at > TICK_SECONDS:
        # They may have been fired by a scheduler that died then, and no store remembers it.
        waiting, missed = (), missed + len(waiting)
    ripe = _ripe(job, now)
    if not ripe and not waiting and claim is None:
        rest = _gone_if_over(job)
        return rest if rest.gone else None
    accepted = _accepted(job, ripe, now)
    missed += len(ripe) - len(accepted)
    waiting = (*waiting, *accepted)
    kept = waiting[-1:] if job.options.overlap is Overlap.CANCEL_RUNNING else waiting[:MOST]
    taken = job.with_state(
        decided_until=ripe[-1] if ripe else state.decided_until,
        waiting=kept,
        missed=missed,
        skipped=state.skipped + len(waiting) - len(kept),
        claim=Claim(by, now) if kept else None,
    )
    return _gone_if_over(taken)


def settle(
    job: Job, outcomes: Iterable[Outcome], by: str, now: float, *, going_on: bool = False
) -> Job:
    """Count what became of ticks, and give the claim back unless more is to be done.

    A tick that another scheduler has counted already is not counted again. A job without any
    further tick is gone.
    """
    state = job.state
    waiting = list(state.waiting)
    fired, skipped, failed = state.fired, state.skipped, state.failed
    for outcome in outcomes:
        if outcome.tick not in waiting:
            continue
        waiting.remove(outcome.tick)
        match outcome.result:
            case Result.FIRED:
                fired += 1
                state = replace(
                    state, last_tick=outcome.tick, last_fired_at=now, last_run_id=outcome.run_id
                )
            case Result.SKIPPED:
                skipped += 1
            case Result.FAILED:
                failed += 1
                state = replace(state, last_error=outcome.error)
    claim = state.claim
    if claim is not None and claim.by == by:
        claim = Claim(by, now) if going_on else None
    state = replace(
        state, waiting=tuple(waiting), claim=claim, fired=fired, skipped=skipped, failed=failed
    )
    return _gone_if_over(replace(job, state=state))


def newest_ticks(job: Job, after: float, until: float, most: int = MOST) -> list[float]:
    """The latest ticks of a span, in order, without counting through all of a long one."""
    found = _ticks(job, after, until, most)
    span = 60.0
    while len(found) > most:
        begin = max(after, until - span)
        last_ones = _ticks(job, begin, until, None)
        if begin <= after or len(last_ones) >= most:
            return last_ones[-most:]
        span *= 4
    return found


def _ticks(job: Job, after: float, until: float, most: int | None) -> list[float]:
    """Ticks of a span from its beginning, and if there are more than so many, one more."""
    coming = job.trigger.ticks(after, job.created_at)
    return list(takewhile(lambda at: at <= until, islice(coming, most and most + 1)))


def _gone_if_over(job: Job) -> Job:
    over = not job.state.waiting and job.next_tick() is None
    return replace(job, gone=True) if over else job


def _ripe(job: Job, now: float) -> list[float]:
    """Ticks about which something is to be decided now, in order."""
    found = newest_ticks(job, job.state.decided_until, now)
    return list(takewhile(lambda tick: job.fire_at(tick) <= now, found))


def _accepted(job: Job, ripe: list[float], now: float) -> list[float]:
    """Those that are fired: what is on time, and what is to be caught up."""
    grace = job.options.misfire_grace_seconds
    alive = [tick for tick in ripe if grace is None or now - job.fire_at(tick) <= grace]
    match job.options.catch_up:
        case CatchUp.ALL:
            return alive
        case CatchUp.NONE:
            most = ON_TIME_SECONDS if grace is None else grace
            return [tick for tick in alive if now - job.fire_at(tick) <= most]
        case CatchUp.LAST:
            timely = [tick for tick in alive if now - job.fire_at(tick) <= ON_TIME_SECONDS]
            return timely or alive[-1:]
