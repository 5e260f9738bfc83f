"""Why a step has not ended is said from the record alone: what, since when, and what helps."""

import time
from dataclasses import replace
from typing import Any

import pytest

from taskiq_flow.engine.standing import (
    Cause,
    Standing,
    look_into,
    open_steps,
    standings,
    why_stuck,
)
from taskiq_flow.model.records import (
    Address,
    Limit,
    NewRun,
    RunSnapshot,
    RunStatus,
    StepKind,
    StepSnapshot,
    StepStatus,
    WorkerRecord,
)
from taskiq_flow.model.state import Holders, OpenSlot, OpenSlots, SlotStatus
from taskiq_flow.plan import Const, Plan, PlanStep
from taskiq_flow.stores.base import StoreOptions
from taskiq_flow.stores.memory import MemoryRunStore
from taskiq_flow.testing import ManualClock

NOW = 1000.0
QUEUE = "ListQueueBroker:localhost:6379/0:mail"
WORKER = WorkerRecord("aaaaaa000000", "default", (QUEUE,), ("m:send",), NOW, "here", 7)
SLOT = OpenSlot(
    step=0, slot=0, status=SlotStatus.READY, due=NOW + 9, ready_at=NOW - 1, started_at=None,
    token=None, lost=0, kicks=0,
)  # fmt: skip
STEP = PlanStep(name="send", task="m:send", queue=QUEUE)
RUN = RunSnapshot(
    run_id="01a1ff93-d66b-7000-9eba-1efa043d9939", namespace="default", name="", key=None,
    kind="sequential", status=RunStatus.RUNNING, tags=(), created_at=1.0, started_at=1.0,
    ended_at=None, deadline=None, remaining=1, total=1, failed_step=None, error=None, reason=None,
    failures=0, parent=None, meta=b'{"max_parallel": 2}',
)  # fmt: skip


def looked(*slots: OpenSlot, **holders: Holders) -> OpenSlots:
    return OpenSlots(NOW, slots, holders)


def why(
    step: PlanStep = STEP, workers: tuple[WorkerRecord, ...] = (WORKER,), **slot: Any
) -> Standing:
    plan = Plan("sequential", (step,), Const("null"))
    (found,) = standings(RUN, plan, looked(SLOT._replace(**slot)), workers, {})
    return found


def test_a_queue_that_nobody_serves_is_named_with_those_that_are_served_instead() -> None:
    alone = why(workers=())
    instead = why(workers=(replace(WORKER, queues=("other:queue",)),))

    assert (alone.cause, alone.since) == (Cause.NO_WORKER, SLOT.ready_at)
    assert QUEUE in alone.text
    assert "`taskiq worker`" in alone.advice
    assert "there are workers of other:queue" in instead.text


def test_a_task_that_no_worker_of_the_queue_has_is_named() -> None:
    found = why(workers=(replace(WORKER, tasks=("m:other",)),))

    assert found.cause is Cause.NO_TASK
    assert "m:send" in found.text
    assert "start a worker whose code has it" in found.advice


def test_engines_own_work_and_what_runs_in_one_process_needs_no_worker_with_its_task() -> None:
    bare = replace(WORKER, tasks=(), queues=(QUEUE, "local"))

    assert why(STEP._replace(builtin="merge"), (bare,)).cause is Cause.OFFERED
    assert why(STEP._replace(queue="local"), (bare,)).cause is Cause.OFFERED


def test_a_process_that_has_gone_is_told_from_one_that_has_just_begun() -> None:
    local = STEP._replace(queue="local")

    gone = why(local, (), ready_at=NOW - 60)

    assert gone.cause is Cause.NO_WORKER
    assert "--continue" in gone.advice
    assert why(local, ()).cause is Cause.OFFERED


def test_running_code_is_found_by_host_and_process() -> None:
    held = {"status": SlotStatus.RUNNING, "token": f"aaaaaa{'0' * 16}", "due": NOW + 5}
    quick, slow = why(**held, started_at=NOW - 1), why(**held, started_at=NOW - 600)
    twin = replace(WORKER, worker_id="aaaaaa111111", pid=8)

    assert (quick.cause, quick.text, quick.advice) == (Cause.WORKS, "runs at here, process 7", "")
    assert quick.since == NOW - 1
    assert "no timeout" in slow.advice
    assert why(STEP._replace(timeout=900.0), **held, started_at=NOW - 600).advice == ""
    assert why(workers=(WORKER, twin), **held).text == "runs"
    assert why(**{**held, "token": "0123456789abcdef"}).text == "runs"
    silent = why(**{**held, "token": f"bbbbbb{'0' * 16}"})
    assert silent.text == "runs at a worker that is not heard of any more"
    assert "blocks the event loop" in silent.advice


def test_a_lease_that_has_run_out_says_that_its_worker_is_lost_and_who_could_take_over() -> None:
    held = {"status": SlotStatus.RUNNING, "token": "bbbbbb0123456789", "due": NOW - 30}

    taken, alone = why(**held), why(workers=(), **held)

    assert (taken.cause, taken.since) == (Cause.WORKER_GONE, NOW - 30)
    assert "another worker takes it over" in taken.advice
    assert "no live worker serves" in alone.text
    assert why(**{**held, "due": NOW - 1}).cause is Cause.WORKS


@pytest.mark.parametrize("skew_seconds", [-7200.0, 0.0, 7200.0])
async def test_what_is_late_is_reckoned_with_the_stores_clock_and_not_with_that_of_who_asks(
    skew_seconds: float,
) -> None:
    clock = ManualClock(time.time() + skew_seconds)
    store = MemoryRunStore(StoreOptions(lease_seconds=10.0), clock=clock)
    plan = Plan("sequential", (STEP,), Const("null"))
    new = NewRun(RUN.run_id, "default", plan.records, plan.stored, plan.kind)
    await store.create(new)
    await store.start(Address(new.run_id, 0, 0), WORKER.worker_id)

    async def cause() -> Cause:
        await store.announce(WORKER, ttl_seconds=60.0)
        run = await store.get(new.run_id)
        assert run is not None
        (found,) = await look_into(store, run, plan)
        return found.cause

    fresh = await cause()
    clock.advance(20.0)

    assert (fresh, await cause()) == (Cause.WORKS, Cause.WORKER_GONE)


def test_what_waits_behind_a_limit_names_it() -> None:
    limits = (Limit("mail", most=1), Limit("api", per_second=0.5))
    shared = why(STEP._replace(limits=limits), status=SlotStatus.TIMER, due=NOW + 1)
    own = why(status=SlotStatus.BLOCKED, due=None)

    assert shared.cause is Cause.LIMIT
    assert shared.text == "waits behind the limits 'mail' (1 at once), 'api' (one every 2 s)"
    assert (own.cause, own.text) == (
        Cause.RUN_LIMIT,
        "waits for other steps of its run (2 at once)",
    )


def test_those_that_hold_a_limit_are_named_with_their_steps_and_counted() -> None:
    step = STEP._replace(limits=(Limit("mail", most=5), Limit("api", per_second=2.0)))
    slot = SLOT._replace(status=SlotStatus.TIMER, due=NOW + 1)
    others = tuple(Address(f"01a1ff93-0000-7000-9eba-00000000000{n}", n, 0) for n in range(4))
    own = Address(RUN.run_id, 1, 0)
    names = {others[0]: "letter", own: "memo"}

    def text(count: int, *first: Address) -> str:
        open_slots = looked(slot, mail=Holders(count, first))
        plan = Plan("sequential", (step,), Const("null"))
        (found,) = standings(RUN, plan, open_slots, (WORKER,), names)
        assert found.held_by == tuple(sorted({who.run_id for who in first}))
        assert ("cancel a run that holds it" in found.advice) == bool(first)
        return found.text

    assert text(0) == "waits behind the limits 'mail' (5 at once), 'api' (2 a second)"
    assert "'mail' (5 at once; held by run 00000000 in step 'letter')" in text(1, others[0])
    assert "held by this run in step 'memo', run 00000001)" in text(2, own, others[1])
    assert "run 00000000 in step 'letter', run 00000001, run 00000002, 1,202 more)" in text(
        *(1205, *others)
    )


def test_waiting_for_an_event_a_child_a_time_and_a_retry_are_told_apart() -> None:
    event = STEP._replace(kind=StepKind.EVENT, event="approved")
    parked = {"status": SlotStatus.PARKED, "due": None}
    timer = {"status": SlotStatus.TIMER, "due": NOW + 60}

    approval, child = why(event, **parked), why(**parked, started_at=NOW - 5)
    sleep = why(STEP._replace(kind=StepKind.TIMER), **timer)
    retry = why(**timer, ready_at=NOW + 60)

    assert "send-event 043d9939 approved" in approval.advice
    assert f"parent:{RUN.run_id}" in child.advice
    assert [each.cause for each in (approval, child, sleep, retry)] == [
        *(Cause.EVENT, Cause.CHILD, Cause.TIMER, Cause.RETRY)
    ]
    assert (sleep.until, retry.until) == (NOW + 60, NOW + 60)


def test_a_message_that_nobody_has_answered_is_told_from_one_on_its_way() -> None:
    sent_again = why(kicks=3)

    assert sent_again.cause is Cause.MESSAGE
    assert "3 times again" in sent_again.text
    assert "the broker loses messages" in sent_again.advice
    assert why().cause is Cause.OFFERED
    assert "given back" in why(started_at=NOW).text


def test_trouble_comes_first_and_steps_of_one_reason_stand_together() -> None:
    steps = (STEP._replace(name="a"), STEP._replace(name="b"), STEP._replace(queue="x:y"))
    slots = [SLOT, SLOT._replace(step=1, ready_at=NOW - 9), SLOT._replace(step=2)]

    found = standings(RUN, Plan("k", steps, Const("null")), looked(*slots), (WORKER,), {})

    assert [(each.cause, each.steps) for each in found] == [
        *((Cause.NO_WORKER, (2,)), (Cause.OFFERED, (0, 1)))
    ]
    assert found[1].since == NOW - 9
    assert why_stuck(found) == f"{found[0].text}; {found[0].advice}"
    assert why_stuck(found[1:]) is None


def test_only_steps_whose_needs_have_ended_are_looked_at() -> None:
    done = StepSnapshot(0, "a", "t", StepKind.TASK, StepStatus.COMPLETED, 1.0, 2.0, 0, 0, None)
    steps = (STEP, STEP._replace(after=(0,)), STEP._replace(after=(1,)))

    assert open_steps(RUN._replace(steps=(done,)), Plan("k", steps, Const("null"))) == [1]


@pytest.mark.parametrize("meta", [b"", b"[]", b"not json", b'{"max_parallel": "x"}'])
def test_odd_meta_data_are_no_reason_to_fail(meta: bytes) -> None:
    slot = SLOT._replace(status=SlotStatus.BLOCKED)
    run, plan = RUN._replace(meta=meta), Plan("k", (STEP,), Const("null"))

    (found,) = standings(run, plan, looked(slot), (WORKER,), {})

    assert found.text == "waits for other steps of its run"
