"""Background tasks by the clock: jobs beside the tasks, fired once among all instances."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from fastapi_taskflow import QueueConfig, TaskAdmin, TaskManager
from fastapi_taskflow.exceptions import (
    QueueFullError,
    TaskArgumentError,
    TaskGoneError,
    TaskOptionError,
)
from fastapi_taskflow.models import TaskConfig
from fastapi_taskflow.periodic import STARTUP_SECONDS, ScheduledEntry
from taskiq_flow.exceptions import JobNotFoundError, ScheduleError, StorageUnavailableError
from taskiq_flow.scheduling import JobBook, PipelineScheduler, ScheduledJob
from taskiq_flow.scheduling.decide import CLAIM_SECONDS, take
from taskiq_flow.storage import InMemoryStorageAdapter
from taskiq_flow.testing import ManualClock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def tidy() -> None:
    """What is run; by its module and name all instances know it as one."""


def fail() -> None:
    raise OSError("no network")


class Instances:
    """Managers on one store, as processes have them, by one clock that a test moves."""

    def __init__(self, place: str) -> None:
        self.place, self.clock = place, ManualClock(NOON.timestamp())

    @asynccontextmanager
    async def running(self, func: Any = tidy, **times: Any) -> AsyncIterator[TaskManager]:
        manager = TaskManager(
            snapshot_db=self.place, queues={"small": QueueConfig(concurrency=1, max_size=1)}
        )
        manager.schedules.clock = self.clock
        if times:
            manager.schedule(**times)(func)
        async with manager:
            yield manager

    async def pass_time(self, seconds: float, *managers: TaskManager) -> None:
        """Let time pass, and all instances look at the clock at once."""
        self.clock.advance(seconds)
        await asyncio.gather(*(look(manager) for manager in managers))


async def look(manager: TaskManager) -> None:
    async with manager.schedules.opened() as jobs:
        await jobs.run_due()


async def only_job(manager: TaskManager) -> ScheduledJob:
    (job,) = await manager.list_schedules()
    return job


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - nobody could tell
            await asyncio.sleep(0.001)


@pytest.fixture
def instances(tmp_path: Path) -> Instances:
    return Instances(str(tmp_path / "tasks.db"))


@pytest.fixture
def alone() -> Instances:
    """One instance, in memory."""
    return Instances("memory://")


async def test_two_instances_fire_each_time_once_and_the_tasks_are_background_tasks(
    instances: Instances,
) -> None:
    async with (
        instances.running(every=60, name="Tidy up") as one,
        instances.running(every=60, name="Tidy up") as two,
    ):
        for _ in range(3):
            await instances.pass_time(60, one, two)
        tasks = one.store.list()
        assert await one.wait([task.task_id for task in tasks], 20)
        records = two.store.list()
        job = await only_job(two)

    assert [(task.status, task.source, task.func_name) for task in records] == [
        ("success", "scheduled", "Tidy up")
    ] * 3
    assert {UUID(task.task_id).version for task in records} == {4}
    assert (job.job_id, job.label, job.fired) == (f"{__name__}:tidy", "Tidy up", 3)
    assert job.next_tick == NOON + timedelta(seconds=240)


async def test_a_time_whose_instance_dies_while_it_fires_is_fired_by_another_one_once(
    instances: Instances,
) -> None:
    async with instances.running(every=60) as manager:
        async with manager.schedules.opened() as jobs:
            (job,) = await jobs.book.jobs()
            claimed = take(job, instances.clock() + 60, "an instance that is killed then")
            assert claimed is not None
            assert await jobs.book.replace(job, claimed)
        await instances.pass_time(60 + CLAIM_SECONDS - 1, manager)
        assert manager.store.list() == []
        await instances.pass_time(1, manager)
        await instances.pass_time(1, manager)

        assert len(manager.store.list()) == 1
        assert (await only_job(manager)).fired == 1


async def test_times_are_fired_by_themselves_until_the_application_stops() -> None:
    ran: list[int] = []

    async with TaskManager(snapshot_db="memory://") as manager:

        @manager.schedule(every=0.1)  # also when the application runs already
        async def count() -> None:
            ran.append(1)

        await until(lambda: len(ran) >= 2)

    assert manager.schedules.entries[0].next_run is not None


async def test_a_schedule_fires_after_its_interval_and_counts_on_over_a_restart(
    instances: Instances,
) -> None:
    async with instances.running(every=60) as manager:
        await instances.pass_time(40, manager)
        assert manager.store.list() == []
        assert manager.schedules.entries[0].next_run == NOON + timedelta(seconds=60)
    async with instances.running(every=60) as manager:
        await instances.pass_time(20, manager)
        assert len(manager.store.list()) == 1


@pytest.mark.parametrize(("how", "made"), [({}, 0), ({"catch_up": "last"}, 1)])
async def test_times_that_passed_while_nothing_ran_are_left_out_unless_asked_for(
    instances: Instances, how: dict[str, Any], made: int
) -> None:
    async with instances.running(every=60, **how):
        pass
    instances.clock.advance(200)
    async with instances.running(every=60, **how) as manager:
        await look(manager)

        assert len(manager.store.list()) == made
        assert (await only_job(manager)).missed == 3 - made


@pytest.mark.parametrize(("how", "made"), [({}, 3), ({"overlap": "skip"}, 1)])
async def test_a_task_may_run_beside_the_one_before_it_unless_told_otherwise(
    alone: Instances, how: dict[str, Any], made: int
) -> None:
    go_on = asyncio.Event()

    async def slow() -> None:
        await go_on.wait()

    async with alone.running(slow, every=60, **how) as manager:
        for _ in range(3):
            await alone.pass_time(60, manager)

        assert len(manager.store.list()) == made
        assert (await only_job(manager)).skipped == 3 - made
        go_on.set()


async def test_a_paused_schedule_adds_nothing_on_any_instance_nor_after_a_restart(
    instances: Instances,
) -> None:
    async with instances.running(every=60) as one, instances.running(every=60) as two:
        await one.pause_schedule(tidy)
        await instances.pass_time(60, one, two)
        assert two.store.list() == []
    async with instances.running(every=60, run_on_startup=True) as manager:
        await instances.pass_time(60, manager)
        assert manager.store.list() == []
        at_once = await manager.run_schedule(tidy)
        assert await manager.wait([at_once], 20)

        await manager.resume_schedule(f"{__name__}:tidy")
        await instances.pass_time(60, manager)
        assert len(manager.store.list()) == 2
        with pytest.raises(TaskGoneError, match="'fail': it is on no schedule of this manager"):
            await manager.pause_schedule(fail)
        with pytest.raises(JobNotFoundError):
            await manager.run_schedule("nothing")


async def test_other_times_in_the_code_are_the_new_times(instances: Instances) -> None:
    async with instances.running(every=60):
        pass
    async with instances.running(cron="0 9 * * *", timezone="America/New_York") as manager:
        assert (await only_job(manager)).next_tick == NOON + timedelta(hours=2)


async def test_what_is_in_no_code_any_more_is_fired_by_nobody_and_can_be_removed(
    instances: Instances,
) -> None:
    async with instances.running(every=60):
        pass
    async with instances.running() as manager:
        await instances.pass_time(60, manager)
        assert manager.store.list() == []
        await manager.remove_schedule(f"{__name__}:tidy")
        assert await manager.list_schedules() == []


async def test_one_function_can_be_on_several_schedules(alone: Instances) -> None:
    async with alone.running(every=60) as manager:
        manager.schedule(cron="0 * * * *")(tidy)
        await until(lambda: len(manager.schedules.entries) == 2)
        await alone.pass_time(0, manager)
        await alone.pass_time(3600, manager)

        ids = [job.job_id for job in await manager.list_schedules()]
        assert ids == [f"{__name__}:tidy", f"{__name__}:tidy 2"]


async def test_run_on_startup_adds_at_once_and_for_instances_that_start_together_once(
    instances: Instances,
) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(3):
            manager = await stack.enter_async_context(
                instances.running(every=3600, run_on_startup=True)
            )
            instances.clock.advance(1)
        assert len(manager.store.list()) == 1


async def test_starts_that_are_apart_are_two_starts() -> None:
    book = JobBook(InMemoryStorageAdapter())

    times = [await book.first("tidy", at, STARTUP_SECONDS) for at in (1.0, 2.0)]
    assert times == [1.0, 1.0]
    async with asyncio.timeout(20):
        while await book.first("other", 2.0, 0.001) != 2.0:
            pass
        while await book.first("other", 3.0, 0.001) != 3.0:
            pass


@pytest.mark.parametrize("start", [False, True])
async def test_whatever_goes_wrong_at_one_time_the_next_one_comes(
    alone: Instances, start: bool
) -> None:
    go_on = asyncio.Event()

    async def slow() -> None:
        await go_on.wait()

    async with alone.running(slow, every=60, queue="small", run_on_startup=start) as manager:
        for _ in range(4):
            await alone.pass_time(60, manager)
            await until(lambda: manager.store.list("running"))
        assert len(manager.store.list("rejected")) == 2 + start
        assert "queue 'small' held 1 waiting tasks" in manager.store.list("rejected")[0].error
        with pytest.raises(QueueFullError):
            await manager.run_schedule(slow)
        go_on.set()
        await until(lambda: len(manager.store.list("success")) == 2)
        await alone.pass_time(60, manager)
        await until(lambda: len(manager.store.list("success")) == 3)


async def test_a_storage_that_is_away_does_not_end_a_schedule(alone: Instances) -> None:
    class Away(InMemoryStorageAdapter):
        is_away = True

        async def get(self, key: str) -> Any:
            if self.is_away:
                raise StorageUnavailableError("memory://", "away")
            return await super().get(key)

    manager, storage = TaskManager(snapshot_db="memory://"), Away()
    manager.run_store.beside["schedules"] = storage  # type: ignore[attr-defined]
    manager.schedules.clock = alone.clock
    manager.schedule(every=60)(tidy)

    async with manager:
        storage.is_away = False
        await look(manager)
        await alone.pass_time(60, manager)

        assert len(manager.store.list()) == 1


async def test_schedules_of_pipelines_and_of_tasks_leave_each_other_alone(
    instances: Instances,
) -> None:
    async with instances.running(every=60):
        pass
    async with instances.running() as manager:  # whose code does not have it
        assert manager.core.engine is not None
        pipelines = PipelineScheduler(manager.core.engine.broker, clock=instances.clock)
        instances.clock.advance(60)
        await pipelines.run_due()
        jobs = await pipelines.list_jobs()
        await pipelines.shutdown()

        assert manager.store.list() == []
        assert [job.label for job in jobs] == ["tidy"]


async def test_the_dashboard_lists_pauses_and_runs_schedules_of_tasks() -> None:
    app, manager = FastAPI(), TaskManager(snapshot_db="memory://")
    manager.schedule(every=3600, name="Tidy up")(tidy)
    TaskAdmin(app, manager, auth=False)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        job = await only_job(manager)
        address = f"/tasks/dashboard/schedules/{job.job_id}"

        page = await client.get("/tasks/dashboard/schedules")
        await client.post(address, data={"action": "pause"})
        paused = await only_job(manager)
        await client.post(address, data={"action": "run"})
        ran = await only_job(manager)
        assert ran.last_run_id is not None
        assert await manager.wait([ran.last_run_id], 20)
        record = await manager.store.aget(ran.last_run_id)

    assert "Tidy up" in page.text
    assert (job.paused, paused.paused) == (False, True)
    assert record is not None
    assert (record.status, record.source, record.func_name) == ("success", "scheduled", "Tidy up")


async def test_what_is_put_off_has_the_priority_and_queue_that_are_given_also_zero() -> None:
    async with TaskManager(snapshot_db="memory://") as manager:

        @manager.task(priority=5, queue="mail")
        def remind() -> None: ...

        tomorrow = datetime.now(UTC) + timedelta(days=1)
        await manager.schedule_once(remind, run_at=tomorrow, run_key="a", priority=0, queue="")
        await manager.schedule_once(remind, run_at=tomorrow, run_key="b")
        listed = await manager.list_scheduled()

    assert sorted((each.run_key, each.priority, each.queue) for each in listed) == [
        ("a", 0, ""),
        ("b", 5, "mail"),
    ]


def entry(**times: object) -> ScheduledEntry:
    return ScheduledEntry(tidy, TaskConfig(), **times)


def test_the_next_time_is_known_before_it_comes() -> None:
    assert entry(every=300).compute_next(NOON) == NOON + timedelta(seconds=300)
    morning = entry(cron="0 9 * * *", timezone="America/New_York")
    assert morning.compute_next(NOON) == datetime(2026, 1, 1, 14, tzinfo=UTC)
    assert morning.recurring


@pytest.mark.parametrize("times", [{}, {"every": 1, "cron": "* * * * *"}])
def test_exactly_one_of_every_and_cron_is_to_be_given(times: dict[str, object]) -> None:
    with pytest.raises(TaskOptionError, match="give one of them"):
        entry(**times)


async def test_a_function_that_needs_arguments_is_refused_where_it_is_put_on_a_schedule() -> None:
    """It would keep its application from starting, or all schedules after it from being stored."""
    manager = TaskManager(snapshot_db="memory://")

    def greet(name: str) -> None:
        """Nobody would say to whom."""

    with pytest.raises(TaskArgumentError, match=r"'name' of task .*greet"):
        manager.schedule(every=60)(greet)
    async with manager:
        with pytest.raises(TaskArgumentError, match=r"'name' of task .*greet"):
            manager.schedule(every=60)(greet)
        manager.schedule(every=60)(tidy)
        async with asyncio.timeout(20):
            while not await manager.list_schedules():  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "times",
    [
        {"every": 0},
        {"every": -5},
        {"cron": "no cron"},
        {"cron": "* * * * *", "timezone": "Mars"},
        {"every": 5, "overlap": "sometimes"},
    ],
)
def test_times_that_cannot_be_are_refused_where_they_are_written(times: dict[str, Any]) -> None:
    with pytest.raises(ScheduleError):
        TaskManager(snapshot_db="memory://").schedule(**times)(tidy)
