"""What every run store promises when a run is created."""

from __future__ import annotations

import asyncio

from taskiq_flow.events import EventType
from taskiq_flow.exceptions import BacklogFullError, DuplicatePipelineError, DuplicateTickError
from taskiq_flow.model.records import (
    Join,
    RunStatus,
    StepStatus,
)
from taskiq_flow.testing.store_bench import (
    StoreBench,
    error_of,
    step,
)


class CreationContract:
    """A run is stored whole, once, or not at all."""

    async def test_a_new_run_is_pending_and_its_first_steps_are_ready(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"), step("b"), step("c", "a", "b"))

        assert run.names(run.ready) == ["a", "b"]
        assert await run.status() is RunStatus.PENDING
        assert (await run.snapshot()).remaining == 3

    async def test_what_is_ready_names_queue_route_and_task(self, bench: StoreBench) -> None:
        run = await bench.create(step("a", route='{"priority":1}', queue="b|q", task="pkg:a"))

        (ready,) = run.ready
        assert (ready.queue, ready.route, ready.task) == ("b|q", '{"priority":1}', "pkg:a")

    async def test_creating_a_run_again_gives_the_same_answer_and_changes_nothing(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"), step("b"), key="k", tick="t", backlog=("q", 1))

        again = await bench.store.create(run.new)

        assert set(again) == set(run.ready)
        assert await run.happened() == [EventType.RUN_CREATED]

    async def test_creating_a_run_again_does_not_send_what_has_started(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"), step("b"))
        await run.start("a")

        assert run.names(await bench.store.create(run.new)) == ["b"]

    async def test_a_second_run_of_a_key_is_refused_while_the_first_goes_on(
        self, bench: StoreBench
    ) -> None:
        first = await bench.create(step("a"), key="nightly")
        second = bench.draft(step("a"), key="nightly")

        error = await error_of(DuplicatePipelineError, bench.store.create(second.new))

        assert error.run_id == first.run_id
        assert await bench.store.get(second.run_id) is None
        assert await bench.store.find("nightly") == first.run_id

    async def test_a_key_may_be_used_again_after_its_run_has_ended(self, bench: StoreBench) -> None:
        first = await bench.create(step("a"), key="nightly")
        await first.run("a")

        second = await bench.create(step("a"), key="nightly")

        assert await bench.store.find("nightly") == second.run_id

    async def test_one_of_many_clients_that_create_one_key_wins(self, bench: StoreBench) -> None:
        drafts = [bench.draft(step("a"), key="nightly") for _ in range(10)]

        answers = await asyncio.gather(
            *(bench.store.create(draft.new) for draft in drafts), return_exceptions=True
        )

        assert sum(isinstance(answer, tuple) for answer in answers) == 1
        assert sum(isinstance(answer, DuplicatePipelineError) for answer in answers) == 9

    async def test_a_tick_fires_once_even_after_its_run_has_ended(self, bench: StoreBench) -> None:
        first = await bench.create(step("a"), tick="report@noon")
        await first.run("a")
        second = bench.draft(step("a"), tick="report@noon")

        await error_of(DuplicateTickError, bench.store.create(second.new))

        assert await bench.store.get(second.run_id) is None

    async def test_a_backlog_is_full_when_as_many_runs_are_pending(self, bench: StoreBench) -> None:
        runs = [await bench.create(step("a"), backlog=("mail", 2)) for _ in range(2)]
        third = bench.draft(step("a"), backlog=("mail", 2))

        await error_of(BacklogFullError, bench.store.create(third.new))
        await runs[0].start("a")
        await bench.store.create(third.new)

        assert await third.status() is RunStatus.PENDING

    async def test_a_pending_run_that_ends_leaves_its_backlog(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), backlog=("mail", 1))
        await bench.store.cancel(run.run_id, "not needed")

        await bench.create(step("a"), backlog=("mail", 1))

    async def test_steps_taken_over_are_done_and_open_what_follows(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b", "a"), step("c"), done={0: b"1"})

        assert run.names(run.ready) == ["b", "c"]
        assert (await run.step("a")).status is StepStatus.COMPLETED
        assert (await run.start("b")).values == (b"1",)

    async def test_a_run_whose_steps_are_all_taken_over_has_ended(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), done={0: b"1"})

        assert run.ready == ()
        assert await run.status() is RunStatus.COMPLETED

    async def test_a_step_taken_over_is_not_run_after_one_it_needs(self, bench: StoreBench) -> None:
        run = await bench.create(
            step("a"), step("b", "a"), step("c", "b"), step("d"), done={1: b"1"}
        )
        await run.run("c")

        finished = await run.run("a")

        assert (finished.ready, finished.ended) == ((), None)
        assert (await run.snapshot()).remaining == 1

    async def test_a_step_taken_over_as_skipped_skips_what_needs_it(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(
            step("a"),
            step("b", "a"),
            step("all", "a", "b"),
            step("any", "a", "b", join=Join.ANY),
            step("gone", "b", join=Join.ANY),
            done={1: None},
        )
        assert run.names(run.ready) == ["a"]

        finished = await run.run("a")

        assert run.names(finished.ready) == ["any"]
        assert {n: (await run.step(n)).status for n in ("b", "all", "gone")} == dict.fromkeys(
            ("b", "all", "gone"), StepStatus.SKIPPED
        )
        assert (await run.run("any")).ended is RunStatus.COMPLETED

    async def test_a_run_of_a_thousand_steps_is_stored_whole(self, bench: StoreBench) -> None:
        drafts = [step("s0"), *(step(f"s{i}", "s0") for i in range(1, 1000))]

        run = await bench.create(*drafts)
        finished = await run.run("s0")

        assert len(finished.ready) == 999
        assert (await run.snapshot()).remaining == 999
