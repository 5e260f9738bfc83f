"""How far a task, a step and a run are."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from taskiq import InMemoryBroker, TaskiqDepends
from taskiq.depends.progress_tracker import TaskState

from taskiq_flow import Pipeline, PipelineContext
from taskiq_flow.engine.run_progress import run_progress
from taskiq_flow.exceptions import ProgressError, UnserializableValueError
from taskiq_flow.progress import (
    ProgressTracker,
    RunProgress,
    TaskProgress,
    fraction_done,
    get_progress,
)
from taskiq_flow.result_backends import InmemoryResultBackend
from taskiq_flow.tracking import PipelineStatus, StepStatus
from tests.integration.workers.harness import eventually

Tracked = Annotated[ProgressTracker, TaskiqDepends()]


@pytest.fixture
async def broker() -> AsyncIterator[InMemoryBroker]:
    broker = InMemoryBroker().with_result_backend(InmemoryResultBackend())
    await broker.startup()
    yield broker
    await broker.shutdown()


# --- the record


@pytest.mark.parametrize("progress", [-0.1, 1.1, float("nan"), float("inf"), "0.5", None])
def test_progress_is_between_nothing_and_all(progress: Any) -> None:
    with pytest.raises(ProgressError, match=r"must be between 0\.0 and 1\.0"):
        TaskProgress(progress)


def test_status_and_taskiqs_state_are_the_same() -> None:
    progress = TaskProgress(status=TaskState.STARTED)

    assert (progress.status, progress.state) == ("STARTED", TaskState.STARTED)
    progress.status = "nearly"
    assert progress.state == "nearly"


@pytest.mark.parametrize(
    ("current", "total", "fraction"), [(1, 4, 0.25), (5, 4, 1.0), (3, None, 0.0), (0, 0, 1.0)]
)
def test_a_part_of_a_total_is_a_fraction(current: int, total: int | None, fraction: float) -> None:
    assert fraction_done(current, total) == fraction


# --- plain tasks


async def test_a_plain_task_reports_in_one_line(broker: InMemoryBroker) -> None:
    go = asyncio.Event()

    @broker.task
    async def load(progress: Tracked) -> None:
        progress.report(1, 4)
        progress.report(2, 4, "half of it")
        await go.wait()
        progress.report(3, total=4)

    task = await load.kiq()
    said: list[TaskProgress | None] = []

    async def hears(current: int) -> bool:
        said.append(await get_progress(broker.result_backend, task.task_id))
        return said[-1] is not None and said[-1].current == current

    await eventually(lambda: hears(2))
    assert said[-1] == TaskProgress(0.5, "half of it", 2, 4)
    go.set()
    await eventually(lambda: hears(3))
    assert said[-1] == TaskProgress(0.75, "STARTED", 3, 4)
    assert not (await task.wait_result(check_interval=0.01)).is_err


async def test_a_sync_task_reports_from_its_thread(broker: InMemoryBroker) -> None:
    @broker.task
    def load(progress: Tracked) -> None:
        progress.report(1, 1)

    task = await load.kiq()
    await task.wait_result(check_interval=0.01)

    expected = TaskProgress(1.0, "STARTED", 1, 1)
    await eventually(lambda: _has(broker, task.task_id, expected))


async def _has(broker: InMemoryBroker, task_id: str, expected: TaskProgress) -> bool:
    return await get_progress(broker.result_backend, task_id) == expected


async def test_a_state_and_facts_of_ones_own_are_set_as_with_taskiqs_tracker(
    broker: InMemoryBroker,
) -> None:
    @broker.task
    async def load(progress: Tracked) -> None:
        await progress.set_progress("reading", {"rows": 3})
        await progress.set_progress(TaskState.SUCCESS)

    task = await load.kiq()
    await task.wait_result(check_interval=0.01)

    expected = TaskProgress(status=TaskState.SUCCESS, meta={"rows": 3})
    assert await get_progress(broker.result_backend, task.task_id) == expected


async def test_a_result_backend_that_fails_does_not_fail_the_task(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(InmemoryResultBackend[Any]):
        async def set_progress(self, task_id: str, progress: Any) -> None:
            raise ConnectionError("gone")

    broker = InMemoryBroker().with_result_backend(Broken())

    @broker.task
    async def load(progress: Tracked) -> str:
        progress.report(1)
        return "done"

    with caplog.at_level(logging.ERROR, "taskiq_flow.progress"):
        task = await load.kiq()
        result = await task.wait_result(check_interval=0.01)
        await eventually(lambda: "was not written" in caplog.text)

    assert result.return_value == "done"
    await broker.shutdown()


@pytest.mark.parametrize(("current", "total"), [(-1, None), (float("nan"), 3), (1, float("inf"))])
async def test_what_is_no_progress_is_refused_where_it_is_reported(
    broker: InMemoryBroker, current: float, total: float | None
) -> None:
    @broker.task
    async def load(progress: Tracked) -> None:
        progress.report(current, total)

    result = await (await load.kiq()).wait_result(check_interval=0.01)

    assert isinstance(result.error, ProgressError)
    assert "must be a finite number that is not negative" in str(result.error)


# --- steps and runs


async def test_the_same_line_in_a_step_shows_in_its_run(broker: InMemoryBroker) -> None:
    go = asyncio.Event()

    @broker.task
    async def load(value: int, progress: Tracked) -> int:
        progress.report(1, 4, "one of four")
        await go.wait()
        return value

    task = await Pipeline(broker).call_next(_same(broker)).call_next(load).kiq(1)
    said: list[RunProgress] = []

    async def hears() -> bool:
        said.append(await task.get_progress())
        return bool(said[-1].meta)

    await eventually(hears)
    go.set()
    await task.wait_result(timeout=60)

    now = said[-1]
    assert now.meta == {"load": {"current": 1, "total": 4, "message": "one of four"}}
    assert (now.status, now.steps_done, now.steps_total) == ("RUNNING", 1, 2)
    assert now.progress == (1 + 1 / 4) / 2
    assert now.seconds_left is not None
    ended = await task.get_progress()
    assert (ended.status, ended.progress, ended.seconds_left) == ("COMPLETED", 1.0, 0.0)
    assert broker.result_backend.progress == {}, "nothing is left under the step's own id"


def _same(broker: InMemoryBroker) -> Any:
    async def same(value: int) -> int:
        return value

    return broker.register_task(same, task_name="same")


async def test_a_plain_task_that_a_step_starts_reports_for_itself(broker: InMemoryBroker) -> None:
    @broker.task
    async def inner(progress: Tracked) -> None:
        progress.report(7)

    @broker.task
    async def outer(value: int) -> str:
        started = await inner.kiq()
        await started.wait_result(check_interval=0.01)
        return started.task_id

    task = await Pipeline(broker, outer).kiq(1)
    inner_id = (await task.wait_result(timeout=60)).return_value

    await eventually(lambda: _has(broker, inner_id, TaskProgress(0.0, "STARTED", 7)))
    assert (await task.get_progress()).meta == {}


async def test_a_step_sets_facts_of_its_own_and_hears_of_those_that_cannot_be_stored(
    broker: InMemoryBroker,
) -> None:
    @broker.task
    async def load(value: int, progress: Tracked) -> str:
        await progress.set_progress("reading", {"rows": value})
        try:
            await progress.set_progress("reading", {"rows": object()})
        except UnserializableValueError as error:
            return str(error)
        return "nothing was said"

    task = await Pipeline(broker, load).kiq(3)

    assert "progress cannot be stored" in (await task.wait_result(timeout=60)).return_value
    said = {"current": None, "total": None, "message": "reading", "meta": {"rows": 3}}

    async def is_shown() -> bool:
        return (await task.get_progress()).meta == {"load": said}

    await eventually(is_shown)


async def test_a_run_counts_the_items_of_its_maps(broker: InMemoryBroker) -> None:
    pipeline = Pipeline(broker).map(_same(broker), list(range(7)))
    task = await pipeline.kiq()
    await task.wait_result(timeout=60)

    progress = await task.get_progress()

    assert (progress.items_done, progress.items_total) == (7, 7)
    assert progress.items_per_second is not None
    assert progress.items_per_second > 0
    assert progress.to_dict()["items_done"] == 7


def test_the_time_left_goes_by_the_pace_so_far() -> None:
    now = PipelineStatus(
        pipeline_id="x", status="RUNNING", steps_total=4, steps_left=2,
        started_at="2026-01-01T00:00:00Z",
        steps=[
            StepStatus(step_name="a", status="COMPLETED", progress={"current": 1, "total": 9}),
            StepStatus(step_name="b", status="COMPLETED"),
            StepStatus(step_name="c", status="RUNNING", items_total=10, items_done=5),
            StepStatus(step_name="d", status="RUNNING", progress={"current": "x", "total": None}),
        ],
    )  # fmt: skip

    later = now.started_at.replace(second=50)
    progress = run_progress(now, now=later)

    assert progress.progress == 2.5 / 4
    assert progress.seconds_left == pytest.approx(30.0)
    assert progress.items_per_second == pytest.approx(0.1)


def test_a_run_that_has_not_begun_has_no_pace() -> None:
    progress = run_progress(PipelineStatus(pipeline_id="x", status="PENDING", steps_total=2))

    assert (progress.items_per_second, progress.seconds_left) == (None, None)


async def test_what_cannot_be_kept_of_its_progress_harms_neither_the_step_nor_later_reports(
    broker: InMemoryBroker,
) -> None:
    said = asyncio.Event()

    @broker.task
    async def load(ctx: PipelineContext) -> str:
        ctx.progress(1, 3, message=object())  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ctx.progress(2, 3, message="two of three")
        await said.wait()
        return "loaded"

    task = await Pipeline(broker, load).kiq()

    async def is_told() -> bool:
        return (await task.get_progress()).meta.get("load", {}).get("message") == "two of three"

    await eventually(is_told)
    said.set()
    assert (await task.wait_result(timeout=10)).return_value == "loaded"
