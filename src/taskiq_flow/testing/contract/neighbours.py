"""What every run store promises to those who share it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from taskiq_flow.model.records import (
    Done,
    Failed,
    Grant,
    RunFilter,
    RunStatus,
    WorkerRecord,
)
from taskiq_flow.testing.store_bench import (
    KICK,
    QUEUE,
    StoreBench,
    kicked,
    step,
)


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

    async def test_a_twin_of_another_namespace_has_runs_of_its_own(self, bench: StoreBench) -> None:
        there, again = [await bench.twin(namespace="elsewhere") for _ in range(2)]
        here = await bench.create(step("a"), key="k")
        run = await bench.create(step("a"), key="k", store=there)

        assert await bench.store.find("k") == here.run_id
        assert await there.find("k") == await again.find("k") == run.run_id
        assert isinstance(await again.start(run.at("a"), "t"), Grant)
        assert await bench.store.get(run.run_id) is None

    async def test_opening_again_changes_nothing(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))

        await bench.store.open()

        assert await run.status() is RunStatus.PENDING

    async def test_health_names_the_store(self, bench: StoreBench) -> None:
        assert "store" in await bench.store.health()
