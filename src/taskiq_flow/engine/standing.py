"""Says why steps of a run have not ended: what each waits for, since when, and what to do."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from taskiq_flow.engine.forks import MAX_PARALLEL, facts_of
from taskiq_flow.engine.ids import MARK, MARKED
from taskiq_flow.model.records import Limit, RunSnapshot, StepKind, WorkerRecord
from taskiq_flow.model.state import OpenSlot, SlotStatus
from taskiq_flow.plan import Plan, PlanStep
from taskiq_flow.stores.base import RunStore

LATE_SECONDS: Final = 3.0
"""A lease or a message that is due for so long is late: recovery looks about once a second."""

LONG_SECONDS: Final = 60.0
"""Code that runs for so long may hang."""

NAMED_MOST, NAME_MOST = 3, 200
"""So many other queues are named, or limits, and so much of a queue's name."""


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
    ends by itself. ``steps`` are all that share the reason.
    """

    cause: Cause
    text: str
    advice: str
    since: float | None
    until: float | None
    steps: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.text}; {self.advice}" if self.advice else self.text


async def look_into(store: RunStore, run: RunSnapshot, plan: Plan) -> tuple[Standing, ...]:
    """Say why steps of a run, read with its steps, have not ended; nothing of one that has."""
    if run.status.is_final:
        return ()
    slots = await store.open_slots(run.run_id, open_steps(run, plan))
    return standings(run, plan, slots, await store.workers(), now=time.time())


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
    slots: Iterable[OpenSlot],
    workers: Sequence[WorkerRecord],
    *,
    now: float,
) -> tuple[Standing, ...]:
    """Say why steps have not ended, trouble first; ``slots`` are what is open of them."""
    known = _Known(run, workers, now)
    found: dict[tuple[Cause, str, str], Standing] = {}
    for slot in slots:
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
        if slot.status is SlotStatus.TIMER and step.limits:
            return _made(
                *(Cause.LIMIT, slot, f"waits behind {_shown(step.limits)}"),
                advice="other runs hold it: cancel one, or raise the limit",
                since=slot.ready_at,
            )
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


def _shown(limits: Sequence[Limit]) -> str:
    """Limits in words: ``the limit 'mail' (2 at once)``."""
    words: list[str] = []
    for limit in limits[:NAMED_MOST]:
        most = "" if limit.most is None else f"{limit.most} at once"
        rate = "" if limit.per_second is None else _rate(limit.per_second)
        words.append(f"{limit.key!r} ({', '.join(part for part in (most, rate) if part)})")
    return f"the limit{'s' * (len(limits) > 1)} {', '.join(words)}"


def _rate(per_second: float) -> str:
    return f"{per_second:.3g} a second" if per_second >= 1 else f"one every {1 / per_second:.3g} s"


def _max_parallel(run: RunSnapshot) -> int | None:
    most = facts_of(run).get(MAX_PARALLEL)
    return most if isinstance(most, int) else None
