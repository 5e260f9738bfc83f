"""What every run store promises when user code fails or time is up."""

from __future__ import annotations

from taskiq_flow.events import EventType
from taskiq_flow.model.records import (
    Done,
    Failed,
    Join,
    OnFailure,
    Refusal,
    RefusalReason,
    Retry,
    RunStatus,
    StepStatus,
)
from taskiq_flow.model.transitions import DEADLINE_ERROR
from taskiq_flow.stores.base import Held
from taskiq_flow.testing.store_bench import (
    StoreBench,
    kicked,
    step,
)


class FailureContract:
    """Failures of user code: retries, and what the last one does to the run."""

    async def test_a_retry_is_due_after_its_delay_and_counted(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))

        finished = await run.run("a", Retry(b"error", delay_seconds=3.0))

        assert finished.retry_at == bench.clock() + 3.0
        retrying = await run.step("a")
        assert (retrying.status, retrying.attempt) == (StepStatus.RETRYING, 1)
        assert (retrying.error, retrying.retry_at) == (b"error", finished.retry_at)
        assert kicked(await bench.wait(3.0)) == [run.at("a")]
        grant = await run.start("a")
        assert (grant.attempt, grant.ready_at) == (1, finished.retry_at)

    async def test_a_retry_may_be_started_by_a_local_timer_but_not_early(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"))
        due = (await run.run("a", Retry(b"error", delay_seconds=3.0))).retry_at

        early = await run.try_start("a")
        bench.clock.advance(3.0)

        assert early == Refusal(RefusalReason.WAITING, retry_at=due)
        assert (await run.start("a")).attempt == 1

    async def test_a_retry_of_a_cancelled_run_never_comes(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        await run.run("a", Retry(b"error", delay_seconds=3.0))

        await bench.store.cancel(run.run_id, "stop")

        assert await bench.wait(30.0) == []

    async def test_a_failure_stops_the_run(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b"), step("c", "a"))

        finished = await run.run("a", Failed(b"error"))

        assert (finished.ended, finished.ready) == (RunStatus.FAILED, ())
        snapshot = await run.snapshot()
        assert (snapshot.failed_step, snapshot.error, snapshot.failures) == (0, b"error", 1)
        assert (await run.step("a")).status is StepStatus.FAILED
        assert await run.refused("b") is RefusalReason.ENDED

    async def test_a_failure_passed_on_reads_as_none(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b", "a"))

        finished = await run.run("a", Failed(b"error", OnFailure.PASS))

        assert run.names(finished.ready) == ["b"]
        assert (await run.start("b")).values == (b"null",)
        failed = await run.step("a")
        assert (failed.status, failed.error) == (StepStatus.FAILED, b"error")

    async def test_a_skipping_failure_skips_what_needs_it_and_runs_the_rest(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(
            step("a"), step("b", "a"), step("c", "b"), step("d"), step("e", "c", "d")
        )

        await run.run("a", Failed(b"error", OnFailure.SKIP))
        last = await run.run("d")

        assert last.ended is RunStatus.COMPLETED
        statuses = {found.name: found.status for found in (await run.snapshot()).steps}
        assert statuses == {
            "a": StepStatus.FAILED,
            "b": StepStatus.SKIPPED,
            "c": StepStatus.SKIPPED,
            "d": StepStatus.COMPLETED,
            "e": StepStatus.SKIPPED,
        }
        assert (await run.snapshot()).failures == 1

    async def test_a_failure_for_later_runs_the_rest_and_then_fails_the_run(
        self, bench: StoreBench
    ) -> None:
        run = await bench.create(step("a"), step("b", "a"), step("c"), step("d", "c"))

        going_on = await run.run("a", Failed(b"first", OnFailure.LATER))
        await run.run("c", Failed(b"second", OnFailure.LATER))

        assert going_on.ended is None
        snapshot = await run.snapshot()
        assert (snapshot.status, snapshot.failed_step) == (RunStatus.FAILED, 0)
        assert (snapshot.error, snapshot.failures) == (b"first", 2)
        assert (await run.step("b")).status is StepStatus.SKIPPED

    async def test_a_run_that_would_fail_later_may_be_cancelled(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), step("b"))
        await run.run("a", Failed(b"first", OnFailure.LATER))

        await bench.store.cancel(run.run_id, "enough")

        snapshot = await run.snapshot()
        assert (snapshot.status, snapshot.reason) == (RunStatus.CANCELLED, "enough")
        assert (snapshot.failed_step, snapshot.error) == (0, b"first")

    async def test_a_join_of_any_runs_if_one_branch_was_taken(self, bench: StoreBench) -> None:
        run = await bench.create(
            step("if"),
            step("then", "if"),
            step("else", "if"),
            step("end", "then", "else", join=Join.ANY),
        )

        chosen = await run.run("if", Done(b"1", skip=(run.index["then"],)))
        finished = await run.run("else")

        assert run.names(chosen.ready) == ["else"]
        assert run.names(finished.ready) == ["end"]
        assert (await run.start("end")).values == (b"null", b'"done"')

    async def test_a_join_of_any_is_skipped_if_no_branch_was_taken(self, bench: StoreBench) -> None:
        run = await bench.create(
            step("if"),
            step("then", "if"),
            step("else", "if"),
            step("end", "then", "else", join=Join.ANY),
        )

        finished = await run.run("if", Done(b"1", skip=(1, 2)))

        assert finished.ended is RunStatus.COMPLETED
        assert (await run.step("end")).status is StepStatus.SKIPPED

    async def test_a_skip_goes_down_a_long_chain(self, bench: StoreBench) -> None:
        chain = [step("s0"), *(step(f"s{i}", f"s{i - 1}") for i in range(1, 300))]
        run = await bench.create(*chain)

        finished = await run.run("s0", Failed(b"error", OnFailure.SKIP))

        assert finished.ended is RunStatus.COMPLETED
        assert (await run.happened()).count(EventType.STEP_SKIPPED) == 299

    async def test_a_deadline_fails_the_run(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), timeout_seconds=10.0)
        grant = await run.start("a")
        await bench.store.renew([Held(grant.address, grant.token)])

        await bench.wait(9.0)
        assert await run.status() is RunStatus.RUNNING
        await bench.wait(1.0)

        snapshot = await run.snapshot()
        assert (snapshot.status, snapshot.error) == (RunStatus.FAILED, DEADLINE_ERROR)
        assert not (await run.finish(grant)).recorded

    async def test_a_run_that_ended_in_time_has_no_deadline(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), timeout_seconds=10.0)
        await run.run("a")

        assert await bench.wait(20.0) == []
        assert await run.status() is RunStatus.COMPLETED

    async def test_a_run_that_nobody_took_passes_its_deadline_too(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"), timeout_seconds=2.0)

        await bench.wait(3.0)

        assert await run.status() is RunStatus.FAILED
