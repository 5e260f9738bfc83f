"""What every run store promises of handing on the end of a run."""

from __future__ import annotations

import asyncio

from taskiq_flow.model.records import (
    Address,
    WakeKind,
)
from taskiq_flow.testing.store_bench import (
    StoreBench,
    step,
)


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
