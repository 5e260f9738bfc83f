"""Tracking shows runs as they are, on every store, and costs them nothing."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis.asyncio as redis
from taskiq import InMemoryBroker, TaskiqMessage, TaskiqMiddleware

from taskiq_flow import (
    EventType,
    Pipeline,
    PipelineMiddleware,
    PipelineTrackingManager,
    RunEvent,
)
from taskiq_flow.exceptions import StoreUnavailableError, TrackingError, TrackingQueryError
from taskiq_flow.stores.base import StoreOptions
from taskiq_flow.stores.memory import MemoryRunStore
from taskiq_flow.tracking import (
    InMemoryPipelineStorage,
    PipelineStatus,
    RedisPipelineStorage,
    TrackingStorage,
)
from tests.integration.workers.harness import eventually


class Steps:
    """The tasks of these tests on one broker; ``gate`` lets those that hold go on."""

    def __init__(self, broker: InMemoryBroker) -> None:
        self.broker = broker
        self.gate = asyncio.Event()

        @broker.task(task_name="double")
        async def double(value: int) -> int:
            return value * 2

        @broker.task(task_name="refuse")
        async def refuse(value: int) -> int:
            raise ValueError(f"not {value}")

        @broker.task(task_name="hold")
        async def hold(value: int) -> int:
            await self.gate.wait()
            return value

        self.double, self.refuse, self.hold = double, refuse, hold

    def chain(self, *tasks: Any) -> Pipeline[Any]:
        pipeline: Pipeline[Any] = Pipeline(self.broker)
        for task in tasks:
            pipeline = pipeline.call_next(task)
        return pipeline


@pytest.fixture
async def steps(stored_broker: InMemoryBroker) -> Steps:
    return Steps(stored_broker)


@pytest.fixture
async def here() -> AsyncIterator[Steps]:
    """The tasks on a broker and a store in memory."""
    broker = InMemoryBroker()
    yield Steps(broker)
    await broker.shutdown()


async def ended(pipeline: Pipeline[Any], value: int = 1) -> str:
    task = await pipeline.kiq(value)
    await task.wait_result(timeout=30, raise_on_error=False)
    return task.task_id


class Recording:
    """Notes every hook that is called."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith("on_") or name == "on_event":
            raise AttributeError(name)
        return lambda *args: self.heard.append((name, args))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.heard]


class Events:
    """Notes every event."""

    def __init__(self) -> None:
        self.events: list[RunEvent] = []

    def of(self, run_id: str) -> list[EventType]:
        return [event.type for event in self.events if event.run_id == run_id]

    async def on_event(self, event: RunEvent) -> None:
        self.events.append(event)


# --- reading


async def test_a_history_is_narrowed_by_what_runs_are(steps: Steps) -> None:
    tracking = PipelineTrackingManager().with_auto_storage(steps.broker)
    began = datetime.now(UTC)
    red = await ended(steps.chain(steps.double).with_tags("red", "a*%_"))
    bad = await ended(steps.chain(steps.refuse).with_tags("red").with_name("import"))
    good = await ended(steps.chain(steps.double).with_name("import"))

    async def history(**asked: Any) -> list[str]:
        return [status.run_id for status in await tracking.get_history(**asked)]

    assert await history() == [good, bad, red]
    assert await history(tag="red") == [bad, red]
    assert await history(tag="a*%_") == [red]
    assert await history(tag="a*") == []
    assert await history(name="import") == [good, bad]
    assert await history(status="failed") == [bad]
    assert await history(status="COMPLETED", name="import") == [good]
    assert await history(pipeline_type="sequential") == [good, bad, red]
    assert await history(pipeline_type="dataflow") == []
    assert await history(until=began - timedelta(minutes=5)) == []
    assert await history(since=began - timedelta(minutes=5), limit=1) == [good]


async def test_pages_stay_as_they_are_though_runs_come(steps: Steps) -> None:
    tracking = PipelineTrackingManager().with_auto_storage(steps.broker)
    runs = [await ended(steps.chain(steps.double)) for _ in range(5)]

    found: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        page = await tracking.get_history(limit=2, cursor=cursor)
        found += [status.run_id for status in page]
        cursor = page.cursor
        await ended(steps.chain(steps.double))

    assert found == runs[::-1]
    assert cursor is None


async def test_records_are_removed_by_age_and_by_count_while_runs_go_on(steps: Steps) -> None:
    tracking = PipelineTrackingManager().with_auto_storage(steps.broker)
    going = await steps.chain(steps.double, steps.hold).kiq(1)
    runs = [await ended(steps.chain(steps.double)) for _ in range(4)]

    assert await tracking.keep_newest(3) == 1
    assert await tracking.get_status(runs[0]) is None
    assert not await tracking.delete_pipeline(going.task_id)
    removed, _ = await asyncio.gather(
        tracking.cleanup_older_than(days=0), ended(steps.chain(steps.double))
    )

    assert removed >= 3
    assert str(await tracking.get_status(going.task_id)) == "RUNNING"
    steps.gate.set()
    assert (await going.wait_result(timeout=30)).return_value == 2


async def test_a_name_shows_its_latest_run(here: Steps) -> None:
    tracking = PipelineTrackingManager().with_auto_storage(here.broker)
    await ended(here.chain(here.refuse).with_id("nightly"))
    latest = await ended(here.chain(here.double).with_id("nightly"))

    status = await tracking.get_status("nightly")

    assert status is not None
    assert (status.run_id, status.pipeline_id, str(status)) == (latest, "nightly", "COMPLETED")


async def test_max_history_bounds_what_a_store_in_memory_keeps(here: Steps) -> None:
    tracking = PipelineTrackingManager(max_history=2).with_auto_storage(here.broker)

    runs = [await ended(here.chain(here.double)) for _ in range(4)]

    assert [status.run_id for status in await tracking.list_pipelines()] == [runs[3], runs[2]]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"status": "DONE"}, r"status='DONE' is not one of PENDING, RUNNING, COMPLETED"),
        ({"since": datetime(2026, 1, 1)}, "since=.* has no time zone"),  # noqa: DTZ001
        ({"status": 5}, "status=5 is not one of"),
        ({"until": "2026-01-01"}, "until='2026-01-01' is no datetime"),
        ({"limit": 0}, "limit=0 must be a whole number of at least 1"),
        ({"limit": "5"}, "limit='5' must be a whole number"),
        ({"limit": 1.5}, "limit=1.5 must be a whole number"),
        ({"cursor": "x"}, "cursor='x' is not the cursor of a page"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(
    here: Steps, asked: dict[str, Any], message: str
) -> None:
    tracking = PipelineTrackingManager().with_auto_storage(here.broker)

    with pytest.raises(TrackingQueryError, match=message):
        await tracking.get_history(**asked)


async def test_a_limit_beyond_what_a_database_counts_to_means_all(steps: Steps) -> None:
    tracking = PipelineTrackingManager().with_auto_storage(steps.broker)
    run = await Pipeline(steps.broker, steps.double).kiq(1)
    await run.wait_result(timeout=30)

    assert len(await tracking.list_pipelines(limit=2**64)) == 1
    assert await tracking.keep_newest(2**64) == 0


@pytest.mark.parametrize("after", [-1, None, "1", 1.5, True])
async def test_a_position_that_no_event_has_is_refused(here: Steps, after: Any) -> None:
    run = await Pipeline(here.broker, here.double).kiq(1)

    with pytest.raises(TrackingQueryError, match=r"after=.* must be a whole number"):
        [event async for event in run.events(after=after)]


async def test_behind_the_last_event_there_is_none(steps: Steps) -> None:
    run = await Pipeline(steps.broker, steps.double).kiq(1)
    await run.wait_result(timeout=30)

    assert [event async for event in run.events(after=2**70)] == []


@pytest.mark.parametrize("count", [-1, None, "1", float("nan")])
async def test_as_many_runs_as_no_number_are_not_kept(here: Steps, count: Any) -> None:
    tracking = PipelineTrackingManager().with_auto_storage(here.broker)

    with pytest.raises(TrackingQueryError, match="count="):
        await tracking.keep_newest(count)


@pytest.mark.parametrize("days", [-1, float("nan"), float("inf"), "7"])
async def test_days_are_a_sensible_number(here: Steps, days: Any) -> None:
    tracking = PipelineTrackingManager().with_auto_storage(here.broker)

    with pytest.raises(TrackingQueryError, match="days="):
        await tracking.cleanup_older_than(days)


async def test_what_is_no_storage_or_listener_is_refused() -> None:
    tracking = PipelineTrackingManager()

    with pytest.raises(TrackingError, match="lacks the base class"):
        tracking.with_storage(object())  # type: ignore[arg-type]
    with pytest.raises(TrackingError, match="lacks all of on_pipeline_start"):
        tracking.add_listener(object())
    with pytest.raises(TrackingError, match="lacks an instance"):
        tracking.add_listener(type("L", (), {"on_event": print}))


# --- what it costs


class CountingStore(MemoryRunStore):
    """Counts what is called on it, by name."""

    def __init__(self) -> None:
        super().__init__(StoreOptions())
        self.calls: dict[str, int] = {}

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if not name.startswith("_") and asyncio.iscoroutinefunction(found):
            self.calls[name] = self.calls.get(name, 0) + 1
        return found


async def _calls_of_a_run(prepare: Callable[[Steps], object]) -> dict[str, int]:
    store, broker = CountingStore(), InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware(store=store))
    steps = Steps(broker)
    prepare(steps)
    pipeline = steps.chain(*[steps.double] * 100)
    tracking = PipelineTrackingManager().with_auto_storage(broker)
    await ended(pipeline.with_tracking(tracking))
    await broker.shutdown()
    return {name: store.calls.get(name, 0) for name in ("create", "start", "finish", "renew")}


async def test_tracking_adds_no_call_to_a_step() -> None:
    """Neither for the records nor for listeners: these read the feed, many events at a time."""
    plain = await _calls_of_a_run(lambda _: None)

    def listen(steps: Steps) -> None:
        tracking = PipelineTrackingManager().with_auto_storage(steps.broker)
        tracking.add_listener(Recording())

    assert await _calls_of_a_run(listen) == plain
    assert plain["start"] + plain["finish"] < 110


@pytest.mark.redis
async def test_tracking_adds_no_command_to_a_step_in_redis(
    own_redis: Any,
) -> None:
    client = redis.Redis.from_url(own_redis.url)
    broker = InMemoryBroker()
    # What looks after runs once a second is the same with and without tracking.
    broker.add_middlewares(PipelineMiddleware(store=own_redis.url, lease_seconds=60))
    steps = Steps(broker)

    async def commands(pipeline: Pipeline[Any]) -> int:
        await client.config_resetstat()
        await ended(pipeline)
        stats = await client.info("commandstats")
        return sum(one["calls"] for name, one in stats.items() if "info" not in name)

    pipeline = steps.chain(*[steps.double] * 200)
    await ended(pipeline)
    plain = await commands(pipeline)
    tracking = PipelineTrackingManager().with_auto_storage(broker)
    tracked = await commands(pipeline.with_tracking(tracking))

    assert tracked - plain < 40, (plain, tracked)
    await client.aclose()
    await broker.shutdown()


# --- storages and listeners that fail


class Raising(InMemoryPipelineStorage):
    """Fails until it is told otherwise."""

    broken = True

    async def save_status(self, status: PipelineStatus) -> None:
        if self.broken:
            raise OSError("the disk is full")
        await super().save_status(status)


class Hanging(InMemoryPipelineStorage):
    """Never answers."""

    async def save_status(self, status: PipelineStatus) -> None:
        await asyncio.Event().wait()


def unreachable() -> TrackingStorage:
    return RedisPipelineStorage("redis://127.0.0.1:1")


class RaisingListener:
    def on_pipeline_start(self, pipeline_id: str) -> None:
        raise OSError("no")

    async def on_step_complete(self, pipeline_id: str, step_name: str, result: Any) -> None:
        raise OSError("no")

    async def on_event(self) -> None: ...  # takes nothing: every call of it fails


class HalfRaising:
    """Hears how a run ended, though it fails when it hears that it failed."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    def on_pipeline_error(self, pipeline_id: str, error: str) -> None:
        raise OSError(error)

    def on_pipeline_complete(self, pipeline_id: str, status: PipelineStatus) -> None:
        self.ends.append(str(status))


async def test_one_hook_that_raises_costs_the_next_one_nothing(here: Steps) -> None:
    listener = HalfRaising()
    tracking = PipelineTrackingManager().with_auto_storage(here.broker)
    tracking.add_listener(listener)

    await ended(here.chain(here.refuse))

    await eventually(lambda: listener.ends == ["FAILED"])


class HangingListener:
    """Hangs in a thread, and in the event loop."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def on_pipeline_start(self, pipeline_id: str) -> None:
        self.gate.wait(60)

    async def on_step_start(self, pipeline_id: str, step_name: str) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize("make", [Raising, Hanging, unreachable])
async def test_a_storage_that_fails_changes_nothing(
    here: Steps, make: Callable[[], TrackingStorage], caplog: pytest.LogCaptureFixture
) -> None:
    storage = make()
    tracking = PipelineTrackingManager().with_storage(storage)
    tracked = here.chain(*[here.double] * 20).with_tracking(tracking)

    async with asyncio.timeout(8):
        for _ in range(10):
            task = await tracked.kiq(1)
            assert (await task.wait_result()).return_value == 2**20
            assert str(await task.get_status()) == "COMPLETED"

    await here.broker.shutdown()
    await storage.close()
    text = caplog.text
    assert "The tracking storage" in text or "not up to date" in text


async def test_a_storage_that_works_again_gets_what_it_missed(here: Steps) -> None:
    storage = Raising()
    tracking = PipelineTrackingManager().with_storage(storage)
    runs = [await ended(here.chain(here.double).with_tracking(tracking)) for _ in range(3)]
    assert await storage.get_status(runs[0]) is None

    storage.broken = False

    async def has_all() -> bool:
        return {s.run_id: str(s) for s in await storage.list_pipelines()} == dict.fromkeys(
            runs, "COMPLETED"
        )

    await eventually(has_all)


async def test_listeners_that_fail_change_nothing_and_cost_the_others_nothing(
    here: Steps,
) -> None:
    tracking, good, hanging = PipelineTrackingManager(), Recording(), HangingListener()
    tracking.with_auto_storage(here.broker)
    for listener in (RaisingListener(), hanging, good):
        tracking.add_listener(listener)

    async with asyncio.timeout(8):
        for _ in range(5):
            task = await here.chain(here.double, here.double).kiq(1)
            assert (await task.wait_result()).return_value == 4

    await eventually(lambda: good.names.count("on_pipeline_complete") == 5)
    assert good.names.count("on_step_complete") == 10
    hanging.gate.set()


async def test_a_store_that_goes_away_costs_listeners_nothing_but_time() -> None:
    """Events come in order and whole when it is back."""
    store = AwayStore()
    broker = InMemoryBroker()
    broker.add_middlewares(PipelineMiddleware(store=store))
    steps, heard = Steps(broker), Recording()
    tracking = PipelineTrackingManager().with_auto_storage(broker)
    tracking.add_listener(heard)
    await ended(steps.chain(steps.double))

    store.is_away = True
    run = await ended(steps.chain(steps.double))
    store.is_away = False

    await eventually(lambda: heard.names.count("on_pipeline_complete") == 2)
    assert [name for name, args in heard.heard if args[0] == run] == [
        "on_pipeline_start",
        "on_step_start",
        "on_step_complete",
        "on_pipeline_complete",
    ]
    await broker.shutdown()


class AwayStore(MemoryRunStore):
    """Refuses to be read by those who follow events, for as long as it is told to."""

    is_away = False

    async def feed(self, **asked: Any) -> Any:
        if self.is_away:
            raise StoreUnavailableError("memory://", "away")
        return await super().feed(**asked)


# --- hearing


async def test_a_listener_hears_what_happens_in_order(steps: Steps) -> None:
    heard = Recording()
    tracking = PipelineTrackingManager().with_auto_storage(steps.broker)
    tracking.add_listener(heard)

    run = await ended(steps.chain(steps.double, steps.refuse).with_id("named"), 4)

    await eventually(lambda: "on_pipeline_complete" in heard.names)
    assert [(name, *args) for name, args in heard.heard[:-1]] == [
        ("on_pipeline_start", "named"),
        ("on_step_start", "named", "double"),
        ("on_step_complete", "named", "double", 8),
        ("on_step_start", "named", "refuse"),
        ("on_step_error", "named", "refuse", "ValueError: not 8"),
        ("on_pipeline_error", "named", "ValueError: not 8"),
    ]
    name, (pipeline_id, status) = heard.heard[-1]
    assert (name, pipeline_id) == ("on_pipeline_complete", "named")
    assert (status.run_id, str(status), status.failed_step) == (run, "FAILED", "refuse")


async def test_a_listener_misses_nothing_of_a_run_that_starts_right_after(steps: Steps) -> None:
    """The broker has been in use for long when the listener comes."""
    await ended(steps.chain(steps.double))
    tracking = PipelineTrackingManager().with_auto_storage(steps.broker)

    for _ in range(5):
        heard = Events()
        tracking.add_listener(heard)
        run = await ended(steps.chain(steps.double))
        await tracking.stop()
        assert heard.of(run) == [
            EventType.RUN_CREATED,
            EventType.RUN_STARTED,
            EventType.STEP_STARTED,
            EventType.STEP_COMPLETED,
            EventType.RUN_COMPLETED,
        ]
        tracking.remove_listener(heard)


async def test_a_listener_that_was_removed_hears_no_more(here: Steps) -> None:
    heard, other = Recording(), Recording()
    tracking = PipelineTrackingManager().with_auto_storage(here.broker)
    tracking.add_listener(heard)
    tracking.add_listener(other)
    tracking.remove_listener(heard)

    await ended(here.chain(here.double))

    await eventually(lambda: "on_pipeline_complete" in other.names)
    assert heard.heard == []


async def test_the_last_events_are_heard_when_the_broker_shuts_down(here: Steps) -> None:
    heard = Recording()
    tracking = PipelineTrackingManager().with_auto_storage(here.broker)
    tracking.add_listener(heard)

    await ended(here.chain(here.double))
    await here.broker.shutdown()

    assert heard.names[-1] == "on_pipeline_complete"


async def test_the_end_is_in_a_storage_of_ones_own_when_the_wait_returns(here: Steps) -> None:
    storage = InMemoryPipelineStorage()
    tracking = PipelineTrackingManager().with_storage(storage)

    for _ in range(50):
        run = await ended(here.chain(here.double).with_tracking(tracking))
        status = await storage.get_status(run)
        assert status is not None
        assert (str(status), status.result) == ("COMPLETED", 2)


async def test_a_storage_of_ones_own_shows_a_run_while_it_goes_on(here: Steps) -> None:
    tracking = PipelineTrackingManager().with_storage(InMemoryPipelineStorage())
    task = await here.chain(here.double, here.hold).with_tracking(tracking).kiq(1)

    async def is_held() -> bool:
        status = await tracking.get_status(task.task_id)
        return status is not None and [str(s) for s in status.steps] == [
            "double: COMPLETED",
            "hold: RUNNING",
        ]

    await eventually(is_held)
    here.gate.set()
    await task.wait_result()


async def test_a_run_that_nobody_waits_for_is_copied_too() -> None:
    """It has ended, and all of its events have been heard, before `kiq` returns."""
    storage, broker = InMemoryPipelineStorage(), InMemoryBroker()
    steps, events = Steps(broker), Events()
    tracking = PipelineTrackingManager().with_storage(storage)
    tracking.add_listener(events)

    class SlowToSend(TaskiqMiddleware):
        async def post_send(self, message: TaskiqMessage) -> None:
            await eventually(lambda: any(event.type.ends_run for event in events.events))

    broker.add_middlewares(SlowToSend())

    task = await steps.chain(steps.double).with_tracking(tracking).kiq(1)

    async def is_copied() -> bool:
        return str(await storage.get_status(task.task_id)) == "COMPLETED"

    await eventually(is_copied)
    await broker.shutdown()


async def test_only_pipelines_that_were_told_to_are_copied_to_a_storage(here: Steps) -> None:
    storage = InMemoryPipelineStorage()
    tracked = await ended(
        here.chain(here.double).with_tracking(PipelineTrackingManager().with_storage(storage))
    )
    await ended(here.chain(here.double))

    assert [status.run_id for status in await storage.list_pipelines()] == [tracked]


async def test_the_middleware_copies_every_run() -> None:
    storage, broker = InMemoryPipelineStorage(), InMemoryBroker()
    manager = PipelineTrackingManager().with_storage(storage)
    broker.add_middlewares(PipelineMiddleware(tracking_manager=manager))
    steps = Steps(broker)

    runs = [await ended(steps.chain(steps.double)) for _ in range(2)]

    assert {str(await storage.get_status(run)) for run in runs} == {"COMPLETED"}
    await broker.shutdown()
