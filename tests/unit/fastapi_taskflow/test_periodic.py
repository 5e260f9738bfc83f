"""Entries fire at their times, once among all instances, whatever happens when they do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from fastapi_taskflow.exceptions import QueueFullError, TaskOptionError
from fastapi_taskflow.models import TaskConfig
from fastapi_taskflow.periodic import PeriodicScheduler, ScheduledEntry
from taskiq_flow.exceptions import DuplicateTickError, ScheduleError
from taskiq_flow.storage import BaseStorageAdapter, InMemoryStorageAdapter

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def tidy() -> None:
    """What the entries run."""


def entry(**times: object) -> ScheduledEntry:
    return ScheduledEntry(tidy, TaskConfig(), **times)


class Instances:
    """Fires of several instances on one store: of a tick there is one."""

    def __init__(self) -> None:
        self.fired: list[str] = []
        self.refused: list[str] = []
        self.news = asyncio.Condition()

    async def fire(self, of: ScheduledEntry, tick: str) -> None:
        async with self.news:
            self.news.notify_all()
            if tick in self.fired:
                self.refused.append(tick)
                raise DuplicateTickError(tick)
            self.fired.append(tick)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20), self.news:
            await self.news.wait_for(lambda: len(self.fired) >= count)

    @contextlib.asynccontextmanager
    async def running(
        self, storage: BaseStorageAdapter, *entries: ScheduledEntry
    ) -> AsyncIterator[PeriodicScheduler]:
        scheduler = PeriodicScheduler(self.fire, storage)
        for each in entries:
            scheduler.add(each)
        await scheduler.start()
        try:
            yield scheduler
        finally:
            await scheduler.stop()


async def test_an_interval_fires_each_time_once_among_three_instances() -> None:
    instances, storage = Instances(), InMemoryStorageAdapter()

    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(instances.running(storage, entry(every=0.1)))
        await instances.until(4)

    numbers = [int(tick.rsplit(" ", 1)[1]) for tick in instances.fired]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert instances.refused, "the other instances tried the same times"


async def test_an_entry_fires_after_its_interval_and_not_at_once() -> None:
    instances = Instances()

    async with instances.running(InMemoryStorageAdapter()) as scheduler:
        scheduler.add(entry(every=3600))
        added = entry(every=0.1)
        scheduler.add(added)
        await instances.until(2)

    assert all(tick.endswith((" 1", " 2")) for tick in instances.fired[:2])
    assert added.next_run is not None


async def test_an_interval_goes_on_counting_where_it_was_before_a_restart() -> None:
    instances, storage = Instances(), InMemoryStorageAdapter()

    async with instances.running(storage, entry(every=0.1)):
        await instances.until(2)
    async with instances.running(storage, entry(every=0.1)):
        await instances.until(4)

    assert instances.refused == []
    assert len(instances.fired) >= 4
    assert int(instances.fired[-1].rsplit(" ", 1)[1]) >= 4


async def test_run_on_startup_fires_at_once_and_for_instances_that_start_together_once() -> None:
    instances, storage = Instances(), InMemoryStorageAdapter()

    async with (
        instances.running(storage, entry(every=3600, run_on_startup=True)),
        instances.running(storage, entry(every=3600, run_on_startup=True)),
    ):
        await instances.until(1)
        for _ in range(10):
            await asyncio.sleep(0)

    assert len(instances.fired) == 1


@pytest.mark.parametrize("error", [QueueFullError("mails", 1), OSError("no network")])
async def test_whatever_goes_wrong_at_one_time_the_next_one_comes(error: Exception) -> None:
    tried = asyncio.Semaphore(0)

    async def fire(of: ScheduledEntry, tick: str) -> None:
        tried.release()
        raise error

    scheduler = PeriodicScheduler(fire, InMemoryStorageAdapter())
    scheduler.add(entry(every=0.1))
    await scheduler.start()
    async with asyncio.timeout(20):
        for _ in range(3):
            await tried.acquire()
    await scheduler.stop()


async def test_a_storage_that_is_away_does_not_end_a_schedule() -> None:
    class Away(InMemoryStorageAdapter):
        async def add(self, key: str, value: object, ttl_seconds: float | None = None) -> bool:
            raise ConnectionError("away")

    instances = Instances()

    async with instances.running(Away(), entry(every=0.1, run_on_startup=True)):
        await instances.until(2)

    assert "startup" in instances.fired[0]


def test_the_next_time_is_known_before_it_comes() -> None:
    assert entry(every=300).compute_next(NOON) == NOON + timedelta(seconds=300)
    morning = entry(cron="0 9 * * *", timezone="America/New_York")
    assert morning.compute_next(NOON) == datetime(2026, 1, 1, 14, tzinfo=UTC)
    assert morning.recurring


@pytest.mark.parametrize("times", [{}, {"every": 1, "cron": "* * * * *"}])
def test_exactly_one_of_every_and_cron_is_to_be_given(times: dict[str, object]) -> None:
    with pytest.raises(TaskOptionError, match="give one of them"):
        entry(**times)


@pytest.mark.parametrize(
    "times",
    [{"every": 0}, {"every": -5}, {"cron": "no cron"}, {"cron": "* * * * *", "timezone": "Mars"}],
)
def test_times_that_cannot_be_are_refused_where_they_are_written(times: dict[str, object]) -> None:
    with pytest.raises(ScheduleError):
        entry(**times)
