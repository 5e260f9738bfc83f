"""What every run store promises of events."""

from __future__ import annotations

import asyncio

from taskiq_flow.events import EventType
from taskiq_flow.model.records import (
    Failed,
    Retry,
)
from taskiq_flow.testing.store_bench import (
    StoreBench,
    step,
)


class EventContract:
    """Events mean 'recorded': in order, without gaps, for one run and for all."""

    async def test_events_of_a_run_count_without_gaps(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b", "a"))
        await run.run("a", Retry(b"error", 1.0))
        await bench.wait(1.0)
        await run.run("a")
        await run.run("b", Failed(b"error"))

        events = await run.events()

        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert [(event.type, event.step, event.attempt) for event in events] == [
            (EventType.RUN_CREATED, None, 0),
            (EventType.RUN_STARTED, None, 0),
            (EventType.STEP_STARTED, 0, 1),
            (EventType.STEP_RETRYING, 0, 1),
            (EventType.STEP_STARTED, 0, 2),
            (EventType.STEP_COMPLETED, 0, 2),
            (EventType.STEP_STARTED, 1, 1),
            (EventType.STEP_FAILED, 1, 1),
            (EventType.RUN_FAILED, None, 0),
        ]
        assert {event.run_id for event in events} == {run.run_id}
        assert events[-1].at == bench.clock()

    async def test_events_are_read_from_a_position_on(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        await run.run("a")
        events = await run.events()

        assert await bench.store.events(run.run_id, after=2) == events[2:]
        assert await bench.store.events(run.run_id, after=1, limit=2) == events[1:3]
        assert await bench.store.events(run.run_id, after=99) == []
        assert await bench.store.events("no-such-run") == []

    async def test_the_reason_of_a_cancel_and_the_name_of_an_event_are_told(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"))
        await bench.store.send_event(run.run_id, "paid", b"1")
        await bench.store.cancel(run.run_id, "not needed")

        assert [(event.type, event.detail) for event in await run.events()] == [
            (EventType.RUN_CREATED, ""),
            (EventType.EVENT_RECEIVED, "paid"),
            (EventType.RUN_CANCELLED, "not needed"),
        ]

    async def test_the_feed_tells_of_all_runs_from_now_on(self, bench: StoreBench) -> None:
        before = await bench.create(step("a"))
        none, position = await bench.store.feed()
        runs = [before, await bench.create(step("a"))]
        for run in runs:
            await run.run("a")

        events, _ = await bench.store.feed(after=position)

        assert none == []
        assert [(e.run_id, e.type) for e in events if e.type is EventType.RUN_COMPLETED] == [
            (run.run_id, EventType.RUN_COMPLETED) for run in runs
        ]
        assert [event for event in events if event.run_id == runs[1].run_id] == (
            await runs[1].events()
        )

    async def test_the_feed_goes_on_where_it_stopped(self, bench: StoreBench) -> None:
        _, position = await bench.store.feed()
        run = await bench.create(step("a"), step("b", "a"))
        await run.run("a")
        await run.run("b")
        found: list[EventType] = []

        while True:
            events, position = await bench.store.feed(after=position, limit=2)
            found += [event.type for event in events]
            if not events:
                break

        assert found == await run.happened()

    async def test_the_feed_waits_for_the_first_event(self, bench: StoreBench) -> None:
        _, position = await bench.store.feed()
        reader = asyncio.create_task(bench.store.feed(after=position, wait_seconds=30.0))
        other = await bench.twin()

        run = await bench.create(step("a"), store=other)
        events, _ = await asyncio.wait_for(reader, 20.0)

        assert events[0].run_id == run.run_id

    async def test_concurrent_writers_leave_no_gap_in_the_events(self, bench: StoreBench) -> None:
        run = await bench.create(*(step(f"s{i}") for i in range(30)))
        _, position = await bench.store.feed()

        await asyncio.gather(*(run.run(f"s{i}") for i in range(30)))

        events = await run.events()
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert events[-1].type is EventType.RUN_COMPLETED
        fed, _ = await bench.store.feed(after=position)
        assert sorted(event.seq for event in fed) == [event.seq for event in events[1:]]
