"""Pipelines that run by the clock: fired once for each tick, changed while schedulers run."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from taskiq import InMemoryBroker, TaskiqScheduler

from taskiq_flow import DataflowPipeline, HookManager, Pipeline, PipelineMiddleware, pipeline_task
from taskiq_flow.exceptions import (
    DuplicateJobError,
    DuplicatePipelineError,
    ForeignPipelineError,
    JobNotFoundError,
    ScheduleError,
    StorageUnavailableError,
    StoreUrlError,
)
from taskiq_flow.model.records import RunFilter, RunStatus
from taskiq_flow.scheduling import (
    JobControl,
    PipelineScheduler,
    PipelineScheduleSource,
    ScheduledJob,
    every_hour,
)
from taskiq_flow.scheduling.firing import tag_of
from taskiq_flow.storage import InMemoryStorageAdapter, StorageEntry
from taskiq_flow.stores.memory import MemoryRunStore
from taskiq_flow.testing import ManualClock

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class World:
    """A broker with a task that notes its calls, and may be held up; time passes by hand."""

    def __init__(self) -> None:
        self.store = MemoryRunStore()
        self.broker = InMemoryBroker().with_middlewares(PipelineMiddleware(store=self.store))
        self.clock, self.calls = ManualClock(NOON.timestamp()), list[str]()
        self.free = asyncio.Event()
        self.free.set()

        @self.broker.task
        async def note(word: str = "ran") -> str:
            self.calls.append(word)
            await self.free.wait()
            return word

        self.note: Any = note

    def scheduler(self, **settings: Any) -> PipelineScheduler:
        return PipelineScheduler(self.broker, clock=self.clock, **settings)

    async def runs(self, job: ScheduledJob | str, status: RunStatus | None = None) -> int:
        which = RunFilter(tag=tag_of(str(job)), status=status)
        return len((await self.store.list_runs(which)).runs)

    async def ended(self) -> None:
        self.free.set()
        await self.broker.wait_all()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.ended()
    await world.broker.shutdown()


async def pass_minutes(world: World, minutes: int, *schedulers: PipelineScheduler) -> None:
    for _ in range(minutes):
        world.clock.advance(60.0)
        for scheduler in schedulers:
            await scheduler.run_due()
        if world.free.is_set():
            await world.broker.wait_all()


async def test_a_pipeline_runs_by_cron_at_intervals_and_once(world: World) -> None:
    scheduler, pipeline = world.scheduler(), Pipeline(world.broker, world.note)
    hourly = await scheduler.schedule(pipeline, "0 * * * *", ["cron"])
    await scheduler.schedule_interval(pipeline, minutes=45, kwargs={"word": "interval"})
    once = await scheduler.schedule_at(world.note, NOON + timedelta(minutes=90), args=["once"])

    await pass_minutes(world, 121, scheduler)

    assert sorted(world.calls) == ["cron", "cron", "interval", "interval", "once"]
    assert hourly.next_tick == NOON + timedelta(hours=1)
    assert (await scheduler.get_job(hourly)).fired == 2
    with pytest.raises(JobNotFoundError, match=once.id):
        await scheduler.get_job(once.id)


async def test_a_graph_is_scheduled_with_its_inputs(world: World) -> None:
    @world.broker.task
    @pipeline_task(output="double")
    async def double(number: int) -> int:
        return 2 * number

    pipeline = DataflowPipeline.from_tasks(world.broker, [double])
    scheduler = world.scheduler()
    job = await pipeline.schedule_with_interval(scheduler, "doubling", 60, kwargs={"number": 21})

    task = await scheduler.run_now(job)

    assert (await task.wait_result()).return_value == {"double": 42}
    assert job.id == "doubling"


async def test_taskiqs_own_schedule_label_is_understood(world: World) -> None:
    scheduler, pipeline = world.scheduler(), Pipeline(world.broker, world.note)

    jobs = await pipeline.schedule_with_labels(
        scheduler,
        "mixed",
        [{"cron": "0 3 * * *", "cron_offset": "Asia/Tokyo"}, {"interval": 60, "args": ["x"]}],
    )

    assert [(job.id, job.trigger) for job in jobs] == [
        ("mixed", "0 3 * * * (Asia/Tokyo)"),
        ("mixed#2", "every 0:01:00"),
    ]
    with pytest.raises(ScheduleError, match="schedule_id"):
        await pipeline.schedule_with_labels(scheduler, "x", [{"schedule_id": "y"}])  # type: ignore[typeddict-unknown-key]


async def test_what_a_decorator_declares_is_stored_when_the_scheduler_starts(world: World) -> None:
    scheduler = world.scheduler()

    @scheduler.schedule(cron="@daily", job_id="built")
    def build() -> Pipeline[Any]:
        return Pipeline(world.broker, world.note)

    scheduler.schedule(cron="0 5 * * *", job_id="task")(world.note)
    assert await scheduler.list_jobs() == []
    async with scheduler:
        assert scheduler.running
        jobs = await scheduler.list_jobs()

    assert [job.id for job in jobs] == ["built", "task"]
    assert not scheduler.running
    assert callable(build)


async def test_a_process_with_only_the_store_and_the_broker_fires_it(world: World) -> None:
    """Nothing of the process that scheduled it is needed: plan and inputs are stored."""
    await world.scheduler().schedule(
        Pipeline(world.broker, world.note).map(world.note), trigger=every_hour(), args=[("a", "b")]
    )
    del world.calls[:]

    with pytest.raises(ScheduleError):
        await world.scheduler().schedule(world.note)
    world.clock.advance(3600.0)
    await world.scheduler().run_due()
    await world.ended()

    assert world.calls[0] == ("a", "b")


async def test_scheduling_the_same_again_changes_nothing(world: World) -> None:
    pipeline = Pipeline(world.broker, world.note)
    first = await world.scheduler().schedule(pipeline, "*/5 * * * *", ["a"], label="five")
    await world.scheduler().pause_job("five")
    await pass_minutes(world, 1)

    again = await world.scheduler().schedule(pipeline, "*/5 * * * *", ["a"], label="five")
    other = await world.scheduler().schedule(pipeline, "*/6 * * * *", ["b"], label="five")

    assert again.created_at == first.created_at
    assert again.paused
    assert (other.trigger, other.paused) == ("*/6 * * * * (UTC)", True)
    assert len(await world.scheduler().list_jobs()) == 1
    kept = await beside(world).keys("work:*")
    assert len(kept) == 1, "what is not run any more is deleted"
    with pytest.raises(DuplicateJobError, match="'five'"):
        await world.scheduler().schedule(
            pipeline, "0 0 * * *", label="five", replace_existing=False
        )


async def test_a_job_without_a_name_is_the_same_job_in_every_process(world: World) -> None:
    pipeline = Pipeline(world.broker, world.note)

    ids = {
        (await world.scheduler().schedule(pipeline, "0 1 * * *", [word])).id
        for word in ("a", "a", "b")
    }

    assert len(ids) == 2
    assert all(job_id.startswith("note-") for job_id in ids)


OVERLAPS = {
    # How many of three ticks have begun while the first run goes on, and after all.
    "skip": (1, 1, {"fired": 1, "skipped": 2}),
    "queue": (1, 3, {"fired": 3, "waiting": 0}),
    "cancel_running": (3, 3, {"fired": 3}),
    "allow": (3, 3, {"fired": 3}),
}


@pytest.mark.parametrize("catch_up", ["none", "last", "all"])
@pytest.mark.parametrize("overlap", OVERLAPS)
async def test_ticks_that_come_while_a_run_goes_on(
    world: World, overlap: str, catch_up: str
) -> None:
    """On-time ticks are treated by `overlap` alone, whatever `catch_up` says."""
    during, after, stats = OVERLAPS[overlap]
    scheduler, other = world.scheduler(), world.scheduler()
    job = await scheduler.schedule_interval(
        world.note, minutes=1, overlap=overlap, catch_up=catch_up
    )
    world.free.clear()

    await pass_minutes(world, 3, scheduler, other)
    world.clock.advance(20.0)  # what waits is not late: it was accepted in time
    begun = await world.runs(job)
    cancelled = await world.runs(job, RunStatus.CANCELLED)
    world.free.set()
    for _ in range(4):
        await world.broker.wait_all()
        world.clock.advance(1.0)
        await other.run_due()
        await scheduler.run_due()

    assert begun == during
    assert cancelled == (2 if overlap == "cancel_running" else 0)
    assert await world.runs(job) == after
    shown = await scheduler.get_job(job)
    assert {name: getattr(shown, name) for name in stats} == stats
    assert shown.missed == 0


MISSED = {
    # What becomes of four ticks that passed while no scheduler ran; the last is 30 s ago.
    ("skip", "none"): (0, {"missed": 4}),
    ("skip", "last"): (1, {"missed": 3, "fired": 1}),
    ("skip", "all"): (1, {"missed": 0, "fired": 1, "skipped": 3}),
    ("queue", "all"): (4, {"fired": 4}),
    ("queue", "last"): (1, {"fired": 1, "missed": 3}),
    ("cancel_running", "all"): (1, {"fired": 1, "skipped": 3}),
    ("allow", "all"): (4, {"fired": 4}),
    ("allow", "none"): (0, {"missed": 4}),
}


@pytest.mark.parametrize(("overlap", "catch_up"), MISSED)
async def test_ticks_that_passed_while_no_scheduler_ran(
    world: World, overlap: str, catch_up: str
) -> None:
    runs, stats = MISSED[overlap, catch_up]
    job = await world.scheduler().schedule_interval(
        world.note, minutes=1, overlap=overlap, catch_up=catch_up
    )
    world.free.clear()
    world.clock.advance(4 * 60 + 30)
    scheduler = world.scheduler()

    await scheduler.run_due()
    world.free.set()
    for _ in range(5):
        await world.broker.wait_all()
        await scheduler.run_due()

    assert await world.runs(job) == runs
    shown = await scheduler.get_job(job)
    assert {name: getattr(shown, name) for name in stats} == stats


async def test_so_many_runs_may_go_at_once_as_max_instances_says(world: World) -> None:
    scheduler = world.scheduler()
    job = await scheduler.schedule_interval(world.note, minutes=1, max_instances=2)
    world.free.clear()

    await pass_minutes(world, 5, scheduler)

    assert await world.runs(job, RunStatus.RUNNING) == 2
    assert (await scheduler.get_job(job)).skipped == 3


async def test_paused_jobs_fire_nothing_and_resumed_ones_go_on_from_now(world: World) -> None:
    running, operator = world.scheduler(), world.scheduler()
    job = await running.schedule_interval(world.note, minutes=1, catch_up="all", overlap="allow")
    await pass_minutes(world, 2, running)

    paused = await operator.pause_job(job)
    await pass_minutes(world, 5, running)
    assert (await running.get_job(job)).fired == 2
    resumed = await operator.resume_job(job.id)
    await pass_minutes(world, 1, running)

    assert (paused.paused, paused.next_tick, resumed.paused) == (True, None, False)
    shown = await running.get_job(job)
    assert (shown.fired, shown.missed) == (3, 0)


async def test_a_job_that_was_scheduled_elsewhere_is_seen_in_the_next_round(
    world: World,
) -> None:
    running = world.scheduler()
    await running.schedule_interval(world.note, hours=1)
    await running.run_due()

    await world.scheduler().schedule_interval(world.note, seconds=5)
    world.clock.advance(5.0)
    await running.run_due()
    await world.ended()

    assert world.calls == ["ran"]


async def test_a_pause_that_comes_in_between_is_not_lost(world: World) -> None:
    """After a scheduler has read the job, and before it claims the tick."""
    storage = world.store.beside["schedules"] = Interrupted()
    running, operator = world.scheduler(), world.scheduler()
    job = await running.schedule_interval(world.note, minutes=1)
    await running.run_due()
    world.clock.advance(60.0)

    storage.then = lambda: operator.pause_job(job)
    await running.run_due()

    assert storage.then is None
    assert (await operator.get_job(job)).paused
    assert await world.runs(job) == 0


async def test_a_job_whose_only_time_passed_while_it_was_paused_goes_when_resumed(
    world: World,
) -> None:
    scheduler = world.scheduler()
    job = await scheduler.schedule_at(world.note, NOON + timedelta(minutes=1))
    await scheduler.pause_job(job)
    await pass_minutes(world, 2, scheduler)
    assert (await scheduler.get_job(job)).paused

    await scheduler.resume_job(job)
    await scheduler.run_due()

    assert (world.calls, await scheduler.list_jobs()) == ([], [])


async def test_hooks_of_a_pipeline_hear_of_its_scheduled_runs(world: World) -> None:
    heard = list[str]()

    class Ear:
        async def on_pipeline_complete(self, event: Any) -> None:
            heard.append(event.pipeline_id)

    manager, scheduler = HookManager().add_hook(Ear()), world.scheduler()
    pipeline = Pipeline(world.broker, world.note).with_hooks(manager)
    job = await scheduler.schedule_interval(pipeline, minutes=1, pipeline_id="heard")

    await pass_minutes(world, 1, scheduler)
    await until(lambda: heard != [])

    assert heard == ["heard"]
    assert (await scheduler.get_job(job)).fired == 1


async def test_a_job_is_modified_while_another_scheduler_runs_it(world: World) -> None:
    running, operator = world.scheduler(), world.scheduler()
    job = await running.schedule_interval(world.note, minutes=1, args=["old"], job_id="job")
    await pass_minutes(world, 2, running)

    await operator.reschedule_job(job, "*/2 * * * *")
    await operator.modify_job(job, pipeline=world.note, args=["new"], label="Changed")
    await operator.modify_job(job, overlap="allow")
    await pass_minutes(world, 4, running)

    assert world.calls == ["old", "old", "new", "new"]
    shown = await running.get_job("job")
    assert (shown.label, shown.fired, shown.options.overlap) == ("Changed", 4, "allow")
    with pytest.raises(ScheduleError, match="need the pipeline"):
        await operator.modify_job(job, args=["alone"])
    with pytest.raises(ScheduleError, match="no meaning"):
        await operator.modify_job(job, max_instances=2)
    with pytest.raises(ScheduleError, match="is missing"):
        await operator.reschedule_job(job)


async def test_a_removed_job_is_gone_with_all_that_it_kept(world: World) -> None:
    running = world.scheduler()
    job = await running.schedule_interval(world.note, minutes=1)
    await running.run_due()

    await world.scheduler().remove_job(job)
    await pass_minutes(world, 3, running)

    assert world.calls == []
    assert await beside(world).keys() == ["revision"]
    for act in (running.remove_job, running.pause_job, running.get_job, running.run_now):
        with pytest.raises(JobNotFoundError, match=f"no scheduled job '{job}'"):
            await act(job.id)


async def test_what_killed_processes_left_behind_is_swept_away(world: World) -> None:
    """A job half removed, and the work of one that was never written; not what is in use."""
    storage = world.store.beside["schedules"] = Aged()
    scheduler = world.scheduler()
    await scheduler.schedule(world.note, "0 0 * * *", job_id="kept")
    await scheduler.schedule(world.note, "0 0 * * *", ["x"], job_id="half")
    record = str(await storage.get("job:half"))
    await storage.set("job:half", record.replace('"gone":false', '"gone":true'))
    await storage.set("work:old", "{}")
    await storage.set("work:new", "{}")

    await scheduler.run_due()

    kept = [key.partition(":")[2].partition("-")[0] for key in await storage.keys("[jw]*")]
    assert kept == ["kept", (await scheduler.book.get("kept")).work.partition("-")[0], "new"]
    task = await scheduler.run_now("kept")
    assert (await task.wait_result()).return_value == "ran"


async def test_run_now_starts_a_run_beside_the_ticks(world: World) -> None:
    scheduler = world.scheduler()
    job = await scheduler.schedule(world.note, "0 0 * * *", ["now"], job_id="j")
    await scheduler.pause_job(job)
    world.free.clear()

    task = await scheduler.run_now(job)
    with pytest.raises(DuplicatePipelineError, match=task.task_id):
        await scheduler.run_now(job)
    world.free.set()

    assert (await task.wait_result()).return_value == "now"
    shown = await scheduler.get_job(job)
    assert (shown.last_run_id, shown.fired) == (task.task_id, 0)


async def test_an_operator_without_a_broker_changes_and_runs_jobs(world: World) -> None:
    job = await world.scheduler().schedule(world.note, "0 0 * * *", ["now"], job_id="j")
    control = JobControl.beside(world.store)

    run_id = await control.start_run(job.id)
    await control.pause_job("j")

    assert (await world.store.get(run_id)) is not None
    assert [(each.id, each.paused) for each in await control.list_jobs()] == [("j", True)]
    stats = await control.get_stats()
    assert (stats.jobs, stats.paused, stats.running) == (1, 1, False)
    await control.close()


async def test_a_named_pipelines_runs_never_overlap_with_those_started_by_hand(
    world: World,
) -> None:
    pipeline = Pipeline(world.broker, world.note).with_id("report")
    scheduler = world.scheduler()
    job = await scheduler.schedule_interval(pipeline, minutes=1)
    world.free.clear()
    await pipeline.kiq()

    await pass_minutes(world, 1, scheduler)

    assert (await scheduler.get_job(job)).skipped == 1


async def test_a_store_that_is_away_is_waited_for(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """One line when it goes, one when it comes back; then what is due is caught up."""
    storage = Outage()
    world.store.beside["schedules"] = storage
    scheduler = PipelineScheduler(world.broker, clock=world.clock, poll_seconds=0.01)
    job = await scheduler.schedule_interval(world.note, minutes=1, catch_up="last")
    caplog.set_level(logging.INFO, "taskiq_flow.scheduling")
    async with scheduler:
        storage.is_away = True
        world.clock.advance(150.0)
        await until(lambda: storage.refused >= 5)
        storage.is_away = False
        await until(lambda: world.calls != [])

    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "Schedules wait for the store",
        "The store answers again; schedules go on.",
    ]
    shown = await scheduler.get_job(job)
    assert (shown.fired, shown.missed) == (1, 1)


async def test_a_tick_whose_run_has_come_and_gone_is_not_fired_again(world: World) -> None:
    """Its scheduler died after the run was made, before it could say so."""
    storage = Outage()
    world.store.beside["schedules"] = storage
    dying, heir = world.scheduler(), world.scheduler()
    job = await dying.schedule_interval(world.note, minutes=1, catch_up="all")
    world.clock.advance(60.0)
    storage.writes_left = 1  # the claim
    with pytest.raises(StorageUnavailableError):
        await dying.run_due()
    await world.ended()
    (run,) = (await world.store.list_runs(RunFilter(tag=tag_of(job.id)))).runs
    await world.store.delete(run.run_id)
    storage.writes_left = 99

    world.clock.advance(5.0)
    await heir.run_due()

    shown = await heir.get_job(job)
    assert (shown.fired, shown.last_run_id) == (1, run.run_id)
    assert (world.calls, await world.runs(job)) == (["ran"], 0)


async def test_handlers_hear_of_ticks_that_make_no_run(world: World) -> None:
    scheduler, heard = world.scheduler(), list[tuple[str, str]]()
    job = await scheduler.schedule_interval(world.note, minutes=1, job_id="broken")
    fine = await scheduler.schedule_interval(world.note, minutes=1, job_id="fine")

    @scheduler.on_error
    async def hear(job: ScheduledJob, error: BaseException) -> None:
        heard.append((job.id, type(error).__name__))

    @scheduler.on_error
    def fail(job: ScheduledJob, error: BaseException) -> None:
        raise RuntimeError("a handler may fail")

    storage = beside(world)
    record = str(await storage.get("job:broken"))
    work = record.partition('"work":"')[2].partition('"')[0]
    await storage.delete(f"work:{work}")

    await pass_minutes(world, 2, scheduler)
    await scheduler.shutdown()

    assert heard == [("broken", "JobNotFoundError")] * 2
    assert (await scheduler.get_job(fine)).fired == 2
    shown = await scheduler.get_job(job)
    assert shown.failed == 2
    assert "schedule it again" in str(shown.last_error)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"job_id": ""}, "job_id ''"),
        ({"job_id": "a\x00b"}, "job_id 'a\\\\x00b'"),
        ({"label": "x" * 201}, "printable"),
        ({"pipeline_id": "\ud800"}, "pipeline_id"),
    ],
)
async def test_ids_that_no_store_keeps_are_refused(
    world: World, names: dict[str, Any], message: str
) -> None:
    with pytest.raises(ScheduleError, match=message):
        await world.scheduler().schedule(world.note, "0 0 * * *", **names)

    assert await beside(world).keys() == []


async def test_a_pipeline_of_another_broker_is_refused(world: World) -> None:
    with pytest.raises(ForeignPipelineError):
        await world.scheduler().schedule(Pipeline(InMemoryBroker()), "0 0 * * *")


@pytest.mark.parametrize("spelling", ["store", "db_url", "job_store_url", "store_path"])
async def test_jobs_may_live_elsewhere_than_the_runs(
    world: World, tmp_path: Path, spelling: str
) -> None:
    path = f"{tmp_path}/jobs.db"
    place = {spelling: path if spelling == "store_path" else f"sqlite:///{path}"}
    scheduler = world.scheduler(**place)
    await scheduler.schedule(world.note, "0 0 * * *", job_id="kept")
    await scheduler.shutdown()

    again = PipelineScheduler(world.broker, "sqlite", store_path=path)
    assert [job.id for job in await again.list_jobs()] == ["kept"]
    await again.shutdown()
    assert await PipelineScheduler(world.broker, "memory").list_jobs() == []


def test_places_that_make_no_sense_are_refused() -> None:
    broker = InMemoryBroker()

    with pytest.raises(ScheduleError, match="more than once"):
        PipelineScheduler(broker, "memory", db_url="sqlite:///x.db")
    with pytest.raises(ScheduleError, match=r"store_path 'x.db' goes with"):
        PipelineScheduler(broker, "memory", store_path="x.db")
    with pytest.raises(StoreUrlError, match="mongo"):
        PipelineScheduler(broker, "mongo://host")
    with pytest.raises(ScheduleError, match="timezone 'Mars'"):
        PipelineScheduler(broker, timezone="Mars")
    with pytest.raises(ScheduleError, match="poll_seconds 0"):
        PipelineScheduler(broker, poll_seconds=0)


async def test_taskiqs_scheduler_carries_one_of_ours(world: World) -> None:
    ours = PipelineScheduler(world.broker)
    host = TaskiqScheduler(world.broker, [PipelineScheduleSource(ours)])

    for source in host.sources:
        await source.startup()
        assert await source.get_schedules() == []
    assert ours.running
    for source in host.sources:
        await source.shutdown()

    assert not ours.running


class Outage(InMemoryStorageAdapter):
    """A storage that may be away, or take no more writes."""

    is_away, refused, writes_left = False, 0, 99

    async def replace(self, key: str, expected: Any, value: Any) -> bool:
        if self.writes_left == 0:
            raise StorageUnavailableError("memory", "it takes no writes")
        self.writes_left -= 1
        return await super().replace(key, expected, value)

    async def get(self, key: str) -> Any | None:
        if self.is_away:
            self.refused += 1
            raise StorageUnavailableError("memory", "it is away")
        return await super().get(key)


class Interrupted(InMemoryStorageAdapter):
    """A storage that lets something happen right after the next read of a job."""

    then: Callable[[], Awaitable[object]] | None = None

    async def get(self, key: str) -> Any | None:
        value, then = await super().get(key), self.then
        if then is not None and key.startswith("job:"):
            self.then = None
            await then()
        return value


class Aged(InMemoryStorageAdapter):
    """A storage in which all but what is called new is a day old."""

    async def get_entry(self, key: str) -> StorageEntry | None:
        entry = await super().get_entry(key)
        if entry is None or "new" in key:
            return entry
        return replace(entry, created_at=entry.created_at - timedelta(days=1))


def beside(world: World) -> InMemoryStorageAdapter:
    return world.store.beside["schedules"]


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.005)
