"""What every run store promises of reading one run."""

from __future__ import annotations

from taskiq_flow.model.records import (
    Address,
    Failed,
    RunStatus,
    StepKind,
    StepStatus,
)
from taskiq_flow.model.state import OpenSlots
from taskiq_flow.testing.store_bench import (
    KICK,
    LEASE,
    StoreBench,
    step,
)


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

    async def test_the_open_slots_of_steps_say_what_is_due_when_and_who_has_them(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(
            step("held"), step("ready"), step("timer", kind=StepKind.TIMER, delay_seconds=60.0),
            step("event", kind=StepKind.EVENT, event="go"), step("later", "held"),
        )  # fmt: skip
        created = bench.clock()
        bench.clock.advance(1.0)
        grant = await run.start("held")

        looked = await bench.store.open_slots(run.run_id, range(5))
        found = {slot.step: slot for slot in looked.slots}

        assert looked.now == bench.clock()
        assert [found[index].status for index in range(4)] == list("XRTP")
        assert sorted(found) == [0, 1, 2, 3]
        assert (found[0].token, found[0].started_at) == (grant.token, bench.clock())
        assert found[0].due == bench.clock() + LEASE
        assert (found[1].ready_at, found[1].due, found[1].kicks) == (created, created + KICK, 0)
        assert (found[2].due, found[3].due) == (created + 60.0, None)
        assert found[1].token is None
        some = await bench.store.open_slots(run.run_id, [3, 1])
        first = await bench.store.open_slots(run.run_id, range(5), limit=2)
        assert [slot.step for slot in some.slots] == [1, 3]
        assert [slot.step for slot in first.slots] == [0, 1]

    async def test_what_is_done_and_what_has_ended_has_no_open_slots(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"), step("b", "a"))
        await run.run("a")
        open_slots = bench.store.open_slots

        assert [slot.step for slot in (await open_slots(run.run_id, [0, 1])).slots] == [1]
        await bench.store.cancel(run.run_id, "no more")
        nothing = OpenSlots(bench.clock(), (), {})
        assert await open_slots(run.run_id, [0, 1]) == nothing
        assert await open_slots("no-such-run", [0]) == nothing
        assert await open_slots(run.run_id, []) == nothing
