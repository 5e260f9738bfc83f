"""What every run store promises of steps that wait without a worker."""

from __future__ import annotations

import asyncio

from taskiq_flow.events import EventType
from taskiq_flow.model.records import (
    Address,
    OnFailure,
    Parked,
    RefusalReason,
    RunStatus,
    StepKind,
    StepStatus,
)
from taskiq_flow.model.transitions import EVENT_TIMEOUT_ERROR
from taskiq_flow.testing.store_bench import (
    LEASE,
    BenchRun,
    StoreBench,
    kicked,
    step,
)


class WaitingContract:
    """Steps that wait without a worker: timers, events, and whoever parks itself."""

    async def test_a_timer_completes_by_itself(self, bench: StoreBench) -> None:
        run = await bench.create(step("t", kind=StepKind.TIMER, delay_seconds=5.0), step("a", "t"))

        assert run.ready == ()
        assert await run.refused("t") is RefusalReason.WAITING
        assert kicked(await bench.wait(4.5)) == []
        assert kicked(await bench.wait(0.5)) == [run.at("a")]
        assert (await run.step("t")).status is StepStatus.COMPLETED

    async def test_nobody_can_start_a_timer_even_when_it_is_due(self, bench: StoreBench) -> None:
        run = await bench.create(step("t", kind=StepKind.TIMER, delay_seconds=5.0))
        bench.clock.advance(6.0)

        assert await run.refused("t") is RefusalReason.WAITING

    async def test_a_timer_after_a_step_begins_when_that_ends(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("t", "a", kind=StepKind.TIMER, delay_seconds=5.0))
        bench.clock.advance(3.0)
        await run.run("a")

        await bench.wait(4.5)
        assert await run.status() is RunStatus.RUNNING
        await bench.wait(0.5)
        assert await run.status() is RunStatus.COMPLETED

    async def test_an_event_completes_the_step_that_waits_for_it(self, bench: StoreBench) -> None:
        run = await bench.create(step("e", kind=StepKind.EVENT, event="paid"), step("a", "e"))

        assert await bench.store.send_event(run.run_id, "other", b"1") == ()
        ready = await bench.store.send_event(run.run_id, "paid", b"\x00payload")

        assert ready is not None
        assert run.names(ready) == ["a"]
        assert (await run.start("a")).values == (b"\x00payload",)

    async def test_an_event_that_comes_early_is_kept_and_the_last_one_counts(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(
            step("a"), step("e", "a", kind=StepKind.EVENT, event="paid"), step("b", "e")
        )

        assert await bench.store.send_event(run.run_id, "paid", b"first") == ()
        assert await bench.store.send_event(run.run_id, "paid", b"second") == ()
        finished = await run.run("a")

        assert run.names(finished.ready) == ["b"]
        assert (await run.start("b")).values == (b"second",)

    async def test_an_event_reaches_every_step_that_waits_for_it(self, bench: StoreBench) -> None:
        run = await bench.create(
            step("e", kind=StepKind.EVENT, event="go"), step("f", kind=StepKind.EVENT, event="go")
        )

        await bench.store.send_event(run.run_id, "go", b"1")

        assert await run.status() is RunStatus.COMPLETED

    async def test_an_event_reaches_its_steps_in_the_order_of_the_plan(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(
            step("a"),
            step("opened later", "a", kind=StepKind.EVENT, event="go"),
            step("opened first", kind=StepKind.EVENT, event="go"),
        )
        await run.run("a")
        await bench.store.send_event(run.run_id, "go", b"1")

        assert await completed(run) == ["a", "opened later", "opened first"]

    async def test_what_a_timer_opens_comes_after_what_was_due_with_it(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(
            step("a", kind=StepKind.TIMER, delay_seconds=3.0),
            step("b", "a", kind=StepKind.TIMER, delay_seconds=0.0),
            step("c", kind=StepKind.TIMER, delay_seconds=3.0),
        )
        bench.clock.advance(3.0)
        await bench.due()

        assert await completed(run) == ["a", "c", "b"]

    async def test_an_event_that_does_not_come_fails_its_step(self, bench: StoreBench) -> None:
        run = await bench.create(
            step(
                "e", kind=StepKind.EVENT, event="paid", delay_seconds=5.0, on_failure=OnFailure.PASS
            ),
            step("a", "e"),
        )

        assert kicked(await bench.wait(5.0)) == [run.at("a")]

        assert (await run.step("e")).error == EVENT_TIMEOUT_ERROR
        assert await bench.store.send_event(run.run_id, "paid", b"late") == ()
        assert (await run.start("a")).values == (b"null",)

    async def test_an_event_for_an_ended_or_unknown_run_is_refused(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        await run.run("a")

        assert await bench.store.send_event(run.run_id, "paid", b"1") is None
        assert await bench.store.send_event("no-such-run", "paid", b"1") is None

    async def test_a_parked_slot_waits_without_a_lease_and_resumes_with_a_note(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"))
        await run.run("a", Parked())

        assert await bench.wait(10 * LEASE) == []
        assert await run.refused("a") is RefusalReason.WAITING
        ready = await bench.store.resume(run.at("a"), "child ended")

        assert run.names(ready) == ["a"]
        grant = await run.start("a")
        assert (grant.note, grant.attempt, grant.lost) == ("child ended", 0, 0)
        assert EventType.STEP_PARKED in await run.happened("a")

    async def test_the_note_is_there_again_after_a_lost_lease(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        await run.run("a", Parked())
        await bench.store.resume(run.at("a"), "note")
        await run.start("a")

        await bench.wait(LEASE)

        assert (await run.start("a")).note == "note"

    async def test_resuming_what_is_not_parked_changes_nothing(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))

        assert await bench.store.resume(run.at("a"), "note") == ()
        assert await bench.store.resume(Address("no-such-run", 0, 0), "note") == ()
        await run.run("a", Parked())
        answers = await asyncio.gather(*(bench.store.resume(run.at("a"), "note") for _ in range(5)))
        assert sum(len(answer) for answer in answers) == 1

    async def test_a_parked_slot_that_nobody_resumes_fails_in_time(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        await run.run("a", Parked(timeout_seconds=20.0))

        await bench.wait(19.0)
        assert await run.status() is RunStatus.RUNNING
        await bench.wait(1.0)

        assert (await run.snapshot()).error == EVENT_TIMEOUT_ERROR

    async def test_a_parked_slot_of_a_map_keeps_its_items(self, bench: StoreBench) -> None:
        run = await bench.create(
            step("m", kind=StepKind.MAP, slots=1), items={"m": [b"=a", b"=b", b"=c"]}
        )
        grant = await run.start("m")
        taken = grant.items
        await run.finish(grant, Parked())

        assert await bench.wait(10 * LEASE) == []
        await bench.store.resume(run.at("m"), "child ended")
        again = await run.start("m")

        assert (again.note, again.items) == ("child ended", taken)

    async def test_a_parked_slot_leaves_its_room_to_others(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b"), max_parallel=1)
        grant = await run.start("a")
        await run.refused("b")

        finished = await run.finish(grant, Parked())

        assert run.names(finished.ready) == ["b"]


async def completed(run: BenchRun) -> list[str]:
    """The names of steps in the order in which they were completed."""
    names = {number: name for name, number in run.index.items()}
    return [
        names[event.step]
        for event in await run.events()
        if event.type is EventType.STEP_COMPLETED and event.step is not None
    ]
