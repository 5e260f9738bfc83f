"""Says why steps of a run have not ended: what each waits for, since when, and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from taskiq_flow.engine.forks import MAX_PARALLEL, facts_of
from taskiq_flow.engine.ids import MARK, MARKED
from taskiq_flow.engine.results import RunResults
from taskiq_flow.model.records import Address, Limit, RunSnapshot, StepKind, WorkerRecord
from taskiq_flow.model.state import Holders, OpenSlot, OpenSlots, SlotStatus
from taskiq_flow.plan import Plan, PlanStep
from taskiq_flow.stores.base import RunStore

LATE_SECONDS: Final = 3.0
"""A lease or a message that is due for so long is late: recovery looks about once a second."""

LONG_SECONDS: Final = 60.0
"""Code that runs for so long may hang."""

NAMED_MOST, NAME_MOST = 3, 200
"""So many other queues are named, or limits, or holders of one, and so much of a queue's name."""

LIMITS_ASKED, SHORT = 20, 8
"""Of so many limits is asked who holds them; so much of the id of a run is shown."""


class Cause(StrEnum):
    """What keeps a step from ending; the first four do not pass by themselves."""

    NO_WORKER = "no_worker"  # none serves its queue
    NO_TASK = "no_task"  # those that do have not got its task
    WORKER_GONE = "worker_gone"  # its lease has run out, and nobody has taken it over
    MESSAGE = "message"  # it is offered again and again, and nobody takes it
    RUN_LIMIT = "run_limit"  # its own run has as many steps at once as it may
    LIMIT = "limit"  # what holds over all runs is used up
    EVENT = "event"
    CHILD = "child"  # the run that it started has not ended
    TIMER = "timer"
    RETRY = "retry"
    OFFERED = "offered"  # a worker gave it back, or its message is on its way
    WORKS = "works"  # its code runs

    is_trouble: bool

    def __init__(self, word: str) -> None:
        self.is_trouble = word in {"no_worker", "no_task", "worker_gone", "message"}


@dataclass(frozen=True, slots=True)
class Standing:
    """Why some steps of a run stand where they are. Times are the store's.

    ``text`` is the reason, ``advice`` what helps, empty if only time does; ``until`` is when it
    ends by itself. ``steps`` are all that share the reason. ``held_by`` are runs that hold the
    limits that are waited for, oldest first.
    """

    cause: Cause
    text: str
    advice: str
    since: float | None
    until: float | None
    steps: tuple[int, ...]
    held_by: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.text}; {self.advice}" if self.advice else self.text


async def look_into(store: RunStore, run: RunSnapshot, plan: Plan) -> tuple[Standing, ...]:
    """Say why steps of a run, read with its steps, have not ended; nothing of one that has."""
    if run.status.is_final:
        return ()
    steps = open_steps(run, plan)
    limits = {limit.key for index in steps for limit in plan.steps[index].limits}
    asked = sorted(limits)[:LIMITS_ASKED]
    looked, workers = await asyncio.gather(
        store.open_slots(run.run_id, steps, limits=asked), store.workers()
    )
    names: dict[Address, str] = {}
    if any(_waits_for_limit(plan.steps[slot.step], slot) for slot in looked.slots):
        holders = {who for held in looked.holders.values() for who in held.first[:NAMED_MOST]}
        run_ids = sorted({who.run_id for who in holders})
        plans = {
            holder.run_id: plan
            for holder, plan in await RunResults(store).with_plans(run_ids, steps=False)
        }
        names = {
            who: plans[who.run_id].steps[who.step].name for who in holders if who.run_id in plans
        }
    return standings(run, plan, looked, workers, names)


def open_steps(run: RunSnapshot, plan: Plan) -> list[int]:
    """The steps that could run now: all that they need has ended, and they have not."""
    ended = {step.index for step in run.steps if step.status.is_final}
    return [
        index
        for index, step in enumerate(plan.steps)
        if index not in ended and ended.issuperset(step.after)
    ]


def standings(
    run: RunSnapshot,
    plan: Plan,
    looked: OpenSlots,
    workers: Sequence[WorkerRecord],
    names: Mapping[Address, str],
) -> tuple[Standing, ...]:
    """Say why steps have not ended, trouble first; ``names`` are of steps that hold limits."""
    known = _Known(run, workers, looked.now, looked.holders, names)
    found: dict[tuple[Cause, str, str], Standing] = {}
    for slot in looked.slots:
        each = known.standing(plan.steps[slot.step], slot)
        if each is not None:
            one = (each.cause, each.text, each.advice)
            before = found.get(one)
            found[one] = each if before is None else _both(before, each)
    order = list(Cause)
    return tuple(sorted(found.values(), key=lambda each: order.index(each.cause)))


def why_stuck(found: Iterable[Standing]) -> str | None:
    """The first trouble in a sentence; None where all that is needed is time, or an event."""
    return next((str(each) for each in found if each.cause.is_trouble), None)


def nobody_serves(queue: str, served: Iterable[str] = (), *, run: str = "RUN") -> tuple[str, str]:
    """That no worker takes messages of a queue, and what to do about it."""
    if is_in_process(queue):
        return (
            f"no live process runs the steps of queue {queue}",
            "start the application again, or go on with "
            f"`taskiq-flow run MODULE:PIPELINE --continue {run}`",
        )
    others = ", ".join(queue[:NAME_MOST] for queue in sorted(set(served))[:NAMED_MOST])
    instead = f" (there are workers of {others})" if others else ""
    return (
        f"no live worker serves queue {queue}{instead}",
        "start one with `taskiq worker`, and check that PipelineMiddleware is on its broker with "
        "the same store and namespace",
    )


def is_in_process(queue: str) -> bool:
    """Whether a queue is one of brokers in memory: the process that starts a run also runs it."""
    return ":" not in queue


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known besides the slot that is looked at."""

    run: RunSnapshot
    workers: Sequence[WorkerRecord]
    now: float
    holders: Mapping[str, Holders]
    names: Mapping[Address, str]

    def standing(self, step: PlanStep, slot: OpenSlot) -> Standing | None:
        match slot.status:
            case SlotStatus.PARKED:
                return self._parked(step, slot)
            case SlotStatus.TIMER if step.kind is StepKind.TIMER:
                return _made(Cause.TIMER, slot, "sleeps", since=slot.ready_at, until=slot.due)
            case SlotStatus.TIMER if slot.due == slot.ready_at:
                return _made(Cause.RETRY, slot, "has failed and is tried again", until=slot.due)
            case SlotStatus.RUNNING:
                return self._held(step, slot)
            case _:
                return self._unserved(step, slot) or self._open(step, slot)

    def _parked(self, step: PlanStep, slot: OpenSlot) -> Standing:
        short = self.run.run_id[-8:]
        if step.event is not None:
            return _made(
                *(Cause.EVENT, slot, f"waits for the event {step.event!r}"),
                advice=f"`taskiq-flow send-event {short} {step.event} JSON` delivers it",
                since=slot.ready_at,
                until=slot.due,
            )
        return _made(
            *(Cause.CHILD, slot, "waits for the run that it started"),
            advice=f"`taskiq-flow list --tag parent:{self.run.run_id}` shows it",
            since=slot.started_at,
        )

    def _unserved(self, step: PlanStep, slot: OpenSlot) -> Standing | None:
        """Nobody could take it."""
        if is_in_process(step.queue) and self.now - slot.ready_at < LATE_SECONDS:
            return None  # whoever begins to work says so a moment later
        of_queue = [worker for worker in self.workers if step.queue in worker.queues]
        if not of_queue:
            served = {queue for worker in self.workers for queue in worker.queues}
            text, advice = nobody_serves(step.queue, served, run=self.run.run_id[-8:])
            return _made(Cause.NO_WORKER, slot, text, advice=advice, since=slot.ready_at)
        has_task = any(step.task in worker.tasks for worker in of_queue)
        if has_task or step.builtin is not None or is_in_process(step.queue):
            return None
        return _made(
            *(Cause.NO_TASK, slot),
            f"no live worker of queue {step.queue} has the task {step.task!r}",
            advice="start a worker whose code has it; after unknown_task_seconds the step fails",
            since=slot.ready_at,
        )

    def _open(self, step: PlanStep, slot: OpenSlot) -> Standing | None:
        """Somebody could take it: why do they not?"""
        if slot.status is SlotStatus.BLOCKED:
            most = _max_parallel(self.run)
            at_once = f" ({most} at once)" if most else ""
            text = f"waits for other steps of its run{at_once}"
            return _made(Cause.RUN_LIMIT, slot, text, since=slot.ready_at)
        if _waits_for_limit(step, slot):
            return self._limited(step.limits, slot)
        if slot.status is SlotStatus.READY and slot.kicks:
            times = "once again" if slot.kicks == 1 else f"{slot.kicks} times again"
            return _made(
                Cause.MESSAGE,
                slot,
                f"is ready, and no worker has taken it; its message was sent {times}",
                advice="the workers are busy, or the broker loses messages: `taskiq-flow doctor`",
                since=slot.ready_at,
                until=slot.due,
            )
        is_back = slot.started_at is not None and slot.started_at >= slot.ready_at
        text = "was given back by a worker" if is_back else "is offered to the workers"
        return _made(Cause.OFFERED, slot, text, since=slot.ready_at, until=slot.due)

    def _limited(self, limits: Sequence[Limit], slot: OpenSlot) -> Standing:
        holders = {who.run_id for limit in limits for who in self._holders_of(limit).first}
        more = "s" * (len(limits) > 1)
        named = ", ".join(self._shown(limit) for limit in limits[:NAMED_MOST])
        text = f"waits behind the limit{more} {named}"
        advice = "cancel a run that holds it, or raise the limit" if holders else ""
        made = _made(Cause.LIMIT, slot, text, advice=advice, since=slot.ready_at)
        return replace(made, held_by=tuple(sorted(holders)))

    def _shown(self, limit: Limit) -> str:
        """A limit in words: ``'mail' (1 at once; held by run 0a1b2c3d in step 'send')``."""
        most = "" if limit.most is None else f"{limit.most} at once"
        rate = "" if limit.per_second is None else _rate(limit.per_second)
        rule = ", ".join(part for part in (most, rate) if part)
        held = self._holders_of(limit)
        first = [self._who(who) for who in held.first[:NAMED_MOST]]
        more = [f"{held.count - len(first):,} more"] * (held.count > len(first))
        by = f"; held by {', '.join(first + more)}" if first else ""
        return f"{limit.key!r} ({rule}{by})"

    def _who(self, who: Address) -> str:
        is_own = who.run_id == self.run.run_id
        run = "this run" if is_own else f"run {who.run_id[-SHORT:]}"
        name = self.names.get(who)
        return run if name is None else f"{run} in step {name[:NAME_MOST]!r}"

    def _holders_of(self, limit: Limit) -> Holders:
        return self.holders.get(limit.key, Holders(0, ()))

    def _held(self, step: PlanStep, slot: OpenSlot) -> Standing:
        """Somebody has its lease, or had it."""
        holder = self._holder(slot.token)
        where = "" if holder is None else f" at {holder.host}, process {holder.pid}"
        if slot.due is None or self.now - slot.due <= LATE_SECONDS:
            slow = self.now - (slot.started_at or self.now) > LONG_SECONDS
            advice = ""
            if self._is_silent(slot.token):
                where = " at a worker that is not heard of any more"
                advice = "its code blocks the event loop there, or it has gone and is taken over"
            elif slow and step.timeout is None:
                advice = "it has no timeout; `taskiq-flow cancel` ends the run"
            since = slot.started_at
            return _made(Cause.WORKS, slot, f"runs{where}", advice=advice, since=since)
        text = f"has lost its worker{where}"
        unserved = self._unserved(step, slot)
        advice = "another worker takes it over within seconds"
        if unserved is not None:
            text, advice = f"{text}, and {unserved.text}", unserved.advice
        return _made(Cause.WORKER_GONE, slot, text, advice=advice, since=slot.due)

    def _holder(self, token: str | None) -> WorkerRecord | None:
        """The worker that a token was made by, as far as one is known to live."""
        fits = self._holders(token)
        return fits[0] if len(fits) == 1 else None

    def _is_silent(self, token: str | None) -> bool:
        """Whether the worker that a token was made by has not said for long that it lives."""
        return token is not None and len(token) == MARKED and not self._holders(token)

    def _holders(self, token: str | None) -> list[WorkerRecord]:
        mark = (token or "")[:MARK]
        return [worker for worker in self.workers if mark and worker.worker_id[:MARK] == mark]


def _waits_for_limit(step: PlanStep, slot: OpenSlot) -> bool:
    """Whether a slot that sleeps was put off by a limit, and not by a failure or its own delay."""
    sleeps = slot.status is SlotStatus.TIMER and step.kind is not StepKind.TIMER
    return sleeps and slot.due != slot.ready_at and bool(step.limits)


def _made(
    cause: Cause,
    slot: OpenSlot,
    text: str,
    *,
    advice: str = "",
    since: float | None = None,
    until: float | None = None,
) -> Standing:
    return Standing(cause, text, advice, since, until, (slot.step,))


def _both(first: Standing, second: Standing) -> Standing:
    return replace(
        first,
        since=_earlier(first.since, second.since),
        until=_earlier(first.until, second.until),
        steps=tuple(dict.fromkeys((*first.steps, *second.steps))),
    )


def _earlier(first: float | None, second: float | None) -> float | None:
    return min(_present((first, second)), default=None)


def _present(times: Iterable[float | None]) -> Iterator[float]:
    return (each for each in times if each is not None)


def _rate(per_second: float) -> str:
    return f"{per_second:.3g} a second" if per_second >= 1 else f"one every {1 / per_second:.3g} s"


def _max_parallel(run: RunSnapshot) -> int | None:
    most = facts_of(run).get(MAX_PARALLEL)
    return most if isinstance(most, int) else None
