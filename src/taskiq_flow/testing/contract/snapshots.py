"""What every run store promises of reading one run."""

from __future__ import annotations

from taskiq_flow.model.records import (
    Address,
    Failed,
    RunStatus,
    StepStatus,
)
from taskiq_flow.testing.store_bench import (
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
