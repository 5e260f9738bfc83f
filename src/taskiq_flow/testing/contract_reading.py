"""What every run store promises to those who read: values, listings, events, workers, endings."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from taskiq_flow.exceptions import RunNotFoundError
from taskiq_flow.model.records import (
    Address,
    Done,
    EventType,
    Failed,
    RefusalReason,
    Retry,
    RunFilter,
    RunStatus,
    StepKind,
    StepStatus,
    WakeKind,
    WorkerRecord,
)
from taskiq_flow.stores.base import Page
from taskiq_flow.testing.store_bench import (
    KICK,
    QUEUE,
    BenchRun,
    StoreBench,
    error_of,
    kicked,
    marked,
    step,
)

ODD_BYTES = [b"", b"\x00", b"\xff\xfe\x00", b'[]{}"\\', "ä€𝄞".encode(), b"9007199254740993"]


class ValueContract:
    """Values are opaque: what goes in comes out, byte for byte, and only when asked for."""

    async def test_inputs_outputs_plan_and_meta_are_kept_byte_for_byte(
        self, bench: StoreBench
    ) -> None:
        for odd in [*ODD_BYTES, bytes(range(256)) * 400]:
            run = await bench.create(step("a", blob=odd), inputs={-1: odd}, plan=odd, meta=odd)
            grant = await run.start("a")
            await run.finish(grant, Done(odd))

            assert grant.blob == odd
            assert await bench.store.values(run.run_id, [0, -1]) == {0: odd, -1: odd}
            assert await bench.store.plan(run.run_id) == odd
            assert (await run.snapshot()).meta == odd

    async def test_names_and_notes_may_be_any_text(self, bench: StoreBench) -> None:
        for odd in ["*?[a]", "a|b:c", "ä€𝄞 'quoted' \"twice\"", "%s_%", "\\"]:
            run = await bench.create(
                step(odd, task=odd),
                run_id=f"r {odd}",
                name=odd,
                key=odd,
                tags=(odd,),
                kind=odd,
            )
            await run.start(odd, token=odd)
            await bench.store.cancel(run.run_id, odd)

            snapshot = await run.snapshot()
            assert (snapshot.name, snapshot.key, snapshot.tags) == (odd, odd, (odd,))
            assert (snapshot.kind, snapshot.reason, snapshot.steps[0].name) == (odd, odd, odd)
            assert await bench.store.find(odd) == run.run_id
            page = await bench.store.list_runs(RunFilter(tag=odd, name=odd, kind=odd))
            assert [found.run_id for found in page.runs] == [run.run_id]

    async def test_keys_without_a_value_are_left_out(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b"), inputs={-1: b"1"})
        await run.run("a")

        found = await bench.store.values(run.run_id, [0, 1, -1, -2, 99])

        assert found == {0: b'"done"', -1: b"1"}
        assert await bench.store.values("no-such-run", [0]) == {}
        assert await bench.store.values(run.run_id, []) == {}

    async def test_items_are_read_by_range(self, bench: StoreBench) -> None:
        values = marked(str(i).encode() for i in range(10))
        run = await bench.create(step("m", kind=StepKind.MAP, slots=1), items={"m": values})
        grant = await run.start("m", want=10)
        await run.finish(grant, Done(b"1"))
        key = -1_000_000_000

        assert await bench.store.items(run.run_id, key, 3, 6) == values[3:6]
        assert await bench.store.items(run.run_id, key, 8, 12) == [*values[8:], None, None]
        assert await bench.store.items(run.run_id, key, 4, 4) == []
        assert await bench.store.items("no-such-run", key, 0, 2) == [None, None]

    async def test_an_ending_comes_with_the_values_asked_for(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b", "a"))

        assert await bench.store.ending(run.run_id, [1]) is None
        await run.run("a", Done(b"1"))
        await run.run("b", Done(b"2"))
        ending = await bench.store.ending(run.run_id, [1])

        assert ending is not None
        assert ending.snapshot.status is RunStatus.COMPLETED
        assert dict(ending.values) == {1: b"2"}
        await error_of(RunNotFoundError, bench.store.ending("no-such-run", []))


class SnapshotContract:
    """A run reads as it stands, whoever asks."""

    async def test_a_snapshot_tells_what_the_run_was_created_with(self, bench: StoreBench) -> None:
        parent = Address("run-parent", 3, 1)
        run = await bench.create(
            step("a"),
            name="nightly",
            key="k",
            kind="map_reduce",
            tags=("x", "y"),
            timeout_seconds=60.0,
            parent=parent,
            meta=b"meta",
        )

        snapshot = await run.snapshot()

        assert (snapshot.run_id, snapshot.namespace) == (run.run_id, bench.options.namespace)
        assert (snapshot.name, snapshot.key, snapshot.kind) == ("nightly", "k", "map_reduce")
        assert (snapshot.tags, snapshot.parent, snapshot.meta) == (("x", "y"), parent, b"meta")
        assert (snapshot.created_at, snapshot.deadline) == (bench.clock(), bench.clock() + 60.0)
        assert (snapshot.started_at, snapshot.ended_at) == (None, None)
        assert (snapshot.total, snapshot.remaining, snapshot.failures) == (1, 1, 0)
        assert (snapshot.failed_step, snapshot.error, snapshot.reason) == (None, None, None)
        assert snapshot.steps == ()

    async def test_a_snapshot_has_the_steps_that_have_started_in_plan_order(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"), step("b"), step("c"))
        await run.start("c")
        bench.clock.advance(1.0)
        await run.run("a")

        steps = (await run.snapshot()).steps

        assert [found.name for found in steps] == ["a", "c"]
        assert (steps[0].started_at, steps[0].ended_at) == (bench.clock(), bench.clock())
        assert (steps[1].started_at, steps[1].ended_at) == (bench.clock() - 1.0, None)
        assert steps[0].task == "task:a"

    async def test_a_snapshot_without_steps_has_none(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        await run.run("a")

        snapshot = await bench.store.get(run.run_id, steps=False)

        assert snapshot is not None
        assert (snapshot.status, snapshot.steps) == (RunStatus.COMPLETED, ())
        assert await bench.store.get("no-such-run") is None
        assert await bench.store.plan("no-such-run") is None
        assert await bench.store.find("no-such-key") is None

    async def test_what_had_not_ended_reads_as_cancelled_after_the_end(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"), step("b"))
        await run.start("a")
        await run.run("b", Failed(b"error"))

        assert (await run.step("a")).status is StepStatus.CANCELLED
        assert (await run.snapshot()).remaining == 1


class ListingContract:
    """Listings are by index, newest first, in pages."""

    async def _runs(self, bench: StoreBench) -> list[BenchRun]:
        runs: list[BenchRun] = []
        for number in range(12):
            runs.append(
                await bench.create(
                    step("a"),
                    name=f"name {number % 2}",
                    kind=f"kind {number % 3}",
                    tags=(f"tag {number % 4}", "all"),
                )
            )
            bench.clock.advance(1.0)
        await runs[0].run("a")
        await runs[1].run("a", Failed(b"error"))
        await bench.store.cancel(runs[2].run_id, "stop")
        await runs[3].start("a")
        return runs

    async def test_every_filter_narrows_a_listing(self, bench: StoreBench) -> None:
        runs = await self._runs(bench)
        begin = runs[0].new.run_id
        first = await bench.store.get(begin)
        assert first is not None
        at = first.created_at
        wanted: list[tuple[RunFilter, list[int]]] = [
            (RunFilter(), list(range(12))),
            (RunFilter(status=RunStatus.COMPLETED), [0]),
            (RunFilter(status=RunStatus.FAILED), [1]),
            (RunFilter(status=RunStatus.CANCELLED), [2]),
            (RunFilter(status=RunStatus.RUNNING), [3]),
            (RunFilter(status=RunStatus.PENDING), list(range(4, 12))),
            (RunFilter(name="name 1"), [1, 3, 5, 7, 9, 11]),
            (RunFilter(kind="kind 2"), [2, 5, 8, 11]),
            (RunFilter(tag="tag 3"), [3, 7, 11]),
            (RunFilter(tag="all", since=at + 4.0), list(range(4, 12))),
            (RunFilter(until=at + 4.0), [0, 1, 2, 3]),
            (RunFilter(since=at + 2.0, until=at + 5.0), [2, 3, 4]),
            (RunFilter(RunStatus.PENDING, "name 1", "kind 2", "all"), [5, 11]),
            (RunFilter(tag="no such tag"), []),
        ]

        for which, numbers in wanted:
            page = await bench.store.list_runs(which)
            expected = [runs[number].run_id for number in reversed(numbers)]
            assert [found.run_id for found in page.runs] == expected, which
            assert page.cursor is None

    async def test_pages_hold_every_run_once_though_new_ones_come(self, bench: StoreBench) -> None:
        runs = await self._runs(bench)
        found: list[str] = []
        cursor: str | None = None

        for _ in range(3):
            page: Page = await bench.store.list_runs(RunFilter(tag="all"), cursor=cursor, limit=5)
            found += [run.run_id for run in page.runs]
            cursor = page.cursor
            bench.clock.advance(1.0)
            await bench.create(step("a"), tags=("all",))

        assert found == [run.run_id for run in reversed(runs)]
        assert cursor is None

    async def test_runs_of_one_moment_are_paged_too(self, bench: StoreBench) -> None:
        runs = [await bench.create(step("a")) for _ in range(9)]
        found: list[str] = []
        cursor: str | None = None

        while True:
            page: Page = await bench.store.list_runs(RunFilter(), cursor=cursor, limit=2)
            found += [run.run_id for run in page.runs]
            cursor = page.cursor
            if cursor is None:
                break

        assert sorted(found) == sorted(run.run_id for run in runs)

    async def test_a_listing_is_without_steps(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        await run.run("a")

        (listed,) = (await bench.store.list_runs(RunFilter())).runs

        assert listed == await bench.store.get(run.run_id, steps=False)

    async def test_an_ended_run_is_deleted_with_all_that_belongs_to_it(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(
            step("a"),
            step("m", kind=StepKind.MAP),
            items={"m": marked([b"1"])},
            key="k",
            tags=("t",),
            inputs={-1: b"1"},
            publish=True,
        )
        await bench.store.append_log(run.run_id, [b"line"])
        await run.run("a")
        await bench.store.cancel(run.run_id, "stop")

        assert await bench.store.delete(run.run_id)

        store, run_id = bench.store, run.run_id
        assert await store.get(run_id) is None
        assert await store.plan(run_id) is None
        assert await store.find("k") is None
        assert await store.values(run_id, [0, -1]) == {}
        assert await store.items(run_id, -1_000_000_001, 0, 1) == [None]
        assert await store.events(run_id) == []
        assert (await store.log(run_id))[0] == []
        assert (await store.list_runs(RunFilter(tag="t"))).runs == ()
        assert await run.refused("a") is RefusalReason.GONE
        assert await bench.wait(60.0) == []
        assert not await store.delete(run_id)

    async def test_a_run_that_goes_on_is_not_deleted(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))

        assert not await bench.store.delete(run.run_id)
        assert not await bench.store.delete("no-such-run")
        assert await run.status() is RunStatus.PENDING

    async def test_purging_removes_runs_that_ended_before(self, bench: StoreBench) -> None:
        runs = [await bench.create(step("a")) for _ in range(4)]
        for run in runs[:3]:
            await run.run("a")
            bench.clock.advance(10.0)

        assert await bench.store.purge(before=bench.clock() - 15.0, limit=1) == 1
        assert await bench.store.purge(before=bench.clock() - 15.0) == 1
        assert await bench.store.purge(before=bench.clock() - 15.0) == 0

        left = [await bench.store.get(run.run_id) is not None for run in runs]
        assert left == [False, False, True, True]

    async def test_deleting_the_latest_run_of_a_key_frees_the_key(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), key="k")
        await run.run("a")
        await bench.store.delete(run.run_id)

        again = await bench.create(step("a"), key="k")

        assert await bench.store.find("k") == again.run_id

    async def test_deleting_an_older_run_of_a_key_leaves_the_latest(
        self, bench: StoreBench
    ) -> None:
        older = await bench.create(step("a"), key="k")
        await older.run("a")
        latest = await bench.create(step("a"), key="k")

        await bench.store.delete(older.run_id)

        assert await bench.store.find("k") == latest.run_id


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


class NoteContract:
    """What steps leave while they run."""

    async def test_progress_is_replaced(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        await run.start("a")

        await bench.store.note_progress(run.run_id, 0, b"10%")
        await bench.store.note_progress(run.run_id, 0, b"\x0020%")

        assert (await run.step("a")).progress == b"\x0020%"

    async def test_notes_of_an_unknown_run_are_dropped(self, bench: StoreBench) -> None:
        await bench.store.note_progress("no-such-run", 0, b"10%")
        await bench.store.append_log("no-such-run", [b"line"])

        assert await bench.store.get("no-such-run") is None
        assert (await bench.store.log("no-such-run"))[0] == []

    async def test_log_lines_are_read_from_a_position_on(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        lines = [f"line {i}".encode() for i in range(5)]
        await bench.store.append_log(run.run_id, lines[:2])
        await bench.store.append_log(run.run_id, [])
        await bench.store.append_log(run.run_id, lines[2:])

        first, position = await bench.store.log(run.run_id, limit=3)
        rest, end = await bench.store.log(run.run_id, after=position)

        assert (first, rest) == (lines[:3], lines[3:])
        assert await bench.store.log(run.run_id, after=end) == ([], end)

    async def test_the_oldest_log_lines_go_and_positions_stay(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        total = 11_000
        for start in range(0, total, 1000):
            lines = [f"{i}".encode() for i in range(start, start + 1000)]
            await bench.store.append_log(run.run_id, lines)

        found, end = await bench.store.log(run.run_id, limit=total)

        assert len(found) < total
        assert found == [f"{i}".encode() for i in range(total - len(found), total)]
        assert end == total
        assert (await bench.store.log(run.run_id, after=total - 1)) == ([b"10999"], total)


class NeighbourContract:
    """Who waits, who works, and who must not see each other."""

    async def test_listeners_hear_of_every_end(self, bench: StoreBench) -> None:
        heard: dict[str, RunStatus] = {}
        new = asyncio.Event()

        def listener(run_id: str, status: RunStatus) -> None:
            heard[run_id] = status
            new.set()

        pushes = await bench.store.listen(listener)
        runs = [await bench.create(step("a"), timeout_seconds=60.0) for _ in range(4)]
        await runs[0].run("a")
        await runs[1].run("a", Failed(b"error"))
        await bench.store.cancel(runs[2].run_id, "stop")
        await bench.wait(61.0)

        while pushes and len(heard) < 4:
            new.clear()
            await asyncio.wait_for(new.wait(), 10.0)
        if pushes:
            assert heard == await bench.store.ended_among([run.run_id for run in runs])

    async def test_which_runs_have_ended_is_one_question(self, bench: StoreBench) -> None:
        runs = [await bench.create(step("a")) for _ in range(3)]
        await runs[0].run("a")
        await runs[1].run("a", Failed(b"error"))

        ended = await bench.store.ended_among([*(run.run_id for run in runs), "no-such-run"])

        assert ended == {
            runs[0].run_id: RunStatus.COMPLETED,
            runs[1].run_id: RunStatus.FAILED,
            "no-such-run": RunStatus.CANCELLED,
        }
        assert await bench.store.ended_among([]) == {}

    async def test_workers_are_known_while_they_announce_themselves(
        self, bench: StoreBench
    ) -> None:
        def worker(name: str, *queues: str) -> WorkerRecord:
            return WorkerRecord(
                name, bench.options.namespace, queues, ("t1", "ä"), bench.clock(), "host", 7, "1.0"
            )

        await bench.store.announce(worker("one", "q1", "q2"), ttl_seconds=10.0)
        await bench.store.announce(worker("two"), ttl_seconds=10.0)
        bench.clock.advance(6.0)
        await bench.store.announce(worker("two", "q3"), ttl_seconds=10.0)
        assert await self._workers(bench) == ["one", "two"]
        bench.clock.advance(5.0)

        (left,) = await bench.store.workers()
        assert (left.worker_id, left.queues, left.tasks) == ("two", ("q3",), ("t1", "ä"))
        assert (left.host, left.pid, left.version) == ("host", 7, "1.0")
        await bench.store.withdraw("two")
        await bench.store.withdraw("nobody")
        assert await bench.store.workers() == []

    async def _workers(self, bench: StoreBench) -> Sequence[str]:
        return sorted(found.worker_id for found in await bench.store.workers())

    async def test_due_hands_out_only_what_the_caller_can_send(self, bench: StoreBench) -> None:
        run = await bench.create(step("a", queue="q1"), step("b", queue="q2"), queue="q1")
        await bench.due("q1", "q2", "q3")
        bench.clock.advance(KICK)

        assert await bench.due("q3") == ()
        assert kicked(await bench.due("q2")) == [run.at("b")]
        assert kicked(await bench.due("q1")) == [run.at("a")]
        assert await bench.store.due([]) == ()

    async def test_namespaces_never_see_each_other(self, bench: StoreBench) -> None:
        here = bench.store
        there = await bench.open(namespace=f"{bench.options.namespace}-other")
        run = await bench.create(step("a"), key="k", tick="t", backlog=("b", 1), tags=("t",))
        worker = WorkerRecord("w", here.options.namespace, (), (), bench.clock())
        await here.announce(worker, ttl_seconds=60.0)
        _, position = await there.feed()

        twin = await bench.create(
            step("a"), key="k", tick="t", backlog=("b", 1), tags=("t",), store=there
        )

        assert await here.find("k") == run.run_id
        assert await there.find("k") == twin.run_id
        listed = (await there.list_runs(RunFilter(tag="t"))).runs
        assert [found.run_id for found in listed] == [twin.run_id]
        assert await there.workers() == []
        await run.run("a")
        assert {event.run_id for event in (await there.feed(after=position))[0]} == {twin.run_id}
        await there.due([QUEUE])
        bench.clock.advance(KICK)
        wakes = await there.due([QUEUE])
        assert kicked(wakes) == [twin.at("a")]
        assert await there.purge(before=bench.clock() + 1.0) == 0

    async def test_a_twin_is_the_same_store(self, bench: StoreBench) -> None:
        twin = await bench.twin()
        run = await bench.create(step("a"))

        grant = await twin.start(run.at("a"), "t")
        finished = await bench.store.finish(run.at("a"), "t", Done(b"1"), None)

        assert grant
        assert finished.recorded
        assert await twin.ended_among([run.run_id]) == {run.run_id: RunStatus.COMPLETED}

    async def test_opening_again_changes_nothing(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))

        await bench.store.open()

        assert await run.status() is RunStatus.PENDING

    async def test_health_names_the_store(self, bench: StoreBench) -> None:
        assert "store" in await bench.store.health()


class OutboxContract:
    """The end of a run is handed on until somebody says that it has arrived."""

    async def test_an_end_is_to_be_published_until_it_is_settled(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), publish=True)
        await run.run("a")

        first = await bench.wait(6.0)
        second = await bench.wait(6.0)
        await bench.store.settle(run.run_id, WakeKind.PUBLISH)
        await bench.store.settle(run.run_id, WakeKind.PUBLISH)

        assert {wake.kind for wake in first} == {WakeKind.PUBLISH}
        assert {wake.run_id for wake in first + second} == {run.run_id}
        assert second
        assert await bench.wait(20.0) == []

    async def test_the_worker_that_settles_at_once_is_not_repeated(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), publish=True)
        await run.run("a")
        await bench.store.settle(run.run_id, WakeKind.PUBLISH)

        assert await bench.wait(20.0) == []

    async def test_an_end_is_handed_to_one_caller_at_a_time(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), publish=True)
        await run.run("a")
        await bench.due()
        bench.clock.advance(6.0)

        answers = await asyncio.gather(*(bench.due() for _ in range(8)))

        assert sum(len(answer) for answer in answers) == 1

    async def test_the_parent_is_told_of_its_childs_end(self, bench: StoreBench) -> None:
        parent = Address("run-parent", 0, 0)
        child = await bench.create(step("a"), parent=parent)
        await bench.store.cancel(child.run_id, "stop")

        wakes = await bench.wait(6.0)
        await bench.store.settle(child.run_id, WakeKind.NOTIFY)

        assert {(wake.kind, wake.run_id, wake.parent) for wake in wakes} == {
            (WakeKind.NOTIFY, child.run_id, parent)
        }
        assert await bench.wait(20.0) == []

    async def test_a_deadline_is_published_by_who_finds_it(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), publish=True, timeout_seconds=1.0)
        await bench.due()
        bench.clock.advance(1.0)

        kinds = [(wake.kind, wake.run_id) for wake in await bench.due()]

        assert kinds == [(WakeKind.PUBLISH, run.run_id)]

    async def test_a_run_that_is_not_published_leaves_nothing_behind(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"))
        await run.run("a")

        assert await bench.wait(20.0) == []
